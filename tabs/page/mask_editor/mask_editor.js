// A picture one can paint on, by mouse, pen, finger and keyboard: a mask over it, colors on it, or a drawing
// of its own. What is painted is kept with the picture. It asks no server anything.

import { h } from "../ui/dom.js";
import { announce } from "../ui/live.js";
import { makeCanvasDocument } from "./document.js";
import { editorKeys } from "./editor_keys.js";
import { channelsOf, colorAt, hex, pngOf, readMask } from "./layer_files.js";
import { morePanel } from "./mask_panel.js";
import { listenForStrokes } from "./pointers.js";
import { makeScreen } from "./screen.js";
import { brushRing, brushSize, hand, makeToolbar, resize, take } from "./tools.js";
import { makeView } from "./view.js";

/** Longest side of a layer: finer than any brush, and undo has to hold it. */
const MOST_SIDE = 2048;
const LIGHTEST = 0.35;

/**
 * @typedef {{key: string, url: string, width: number, height: number}} EditorImage what is painted on: key: under which
 *   it is kept; url: the picture, or "" for none; sizes in pixels of the picture
 *
 * @param {{look: "mask"|"colors"|"drawing", label: string, isSoft?: () => boolean, extra?: Node|null}} how
 *   isSoft: whether the hand's hardness and strength count; extra: more tools
 */
export function makeMaskEditor({ look, label, isSoft = () => false, extra = null }) {
  /** @type {EditorImage} */
  let image = { key: "", url: "", width: 512, height: 512 };
  /** Pixels of the picture for each of the layer. */
  let each = 1;

  const isHard = () => look === "mask" && !isSoft();
  const canvasDocument = makeCanvasDocument(
    look === "colors" ? 4 : 1,
    (changed) => {
      if (changed) screen.changed(changed);
      tell();
    },
    isHard,
  );
  const view = makeView(() => {
    screen.place(field.clientWidth, field.clientHeight);
    tell();
  });
  const screen = makeScreen(look, view.at, isSoft);
  const ring = brushRing();
  const field = h(
    "div.mask-editor-field",
    { tabindex: "0", role: "application", "aria-label": label },
    ...screen.elements,
    ring.element,
  );
  const act = {
    brush: () => take({ tool: "brush" }),
    eraser: () => take({ tool: "eraser" }),
    pick: () => take({ tool: "pick" }),
    undo: () => {
      if (canvasDocument.undo()) announce("Undone.");
    },
    redo: () => {
      if (canvasDocument.redo()) announce("Done again.");
    },
    clear: canvasDocument.clear,
    fit: view.fit,
    zoomIn: () => view.zoom(1.25),
    zoomOut: () => view.zoom(0.8),
    pan: view.pan,
    larger: () => resize(look, 1),
    smaller: () => resize(look, -1),
    ...(look === "colors" ? {} : { invert: canvasDocument.invert, everything: canvasDocument.everything, rectangle }),
    load,
    download,
  };
  const panel = morePanel(look, act, () => image);
  const tools = ["brush", "eraser", look === "colors" ? "pick" : "invert", "undo", "redo", "clear", "fit"];
  const toolbar = makeToolbar({
    look,
    label: `${label}: tools`,
    tools,
    act,
    more: look === "mask" ? panel.open : null,
    extra,
  });
  const element = h(
    "div.mask-editor",
    { "data-look": look },
    h("div.tools-place", {}, toolbar.element, panel.element),
    field,
  );
  const keys = editorKeys(element, field, act);

  function place(event) {
    const box = field.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  function dab(event) {
    const at = view.toPicture(...place(event));
    const press = event.pointerType === "pen" ? LIGHTEST + (1 - LIGHTEST) * event.pressure : 1;
    return { x: at.x / each, y: at.y / each, size: Math.max(1, (brushSize(look, image) * press) / each) };
  }

  // Bit 5 of the buttons is a pen's other end.
  function brush(event) {
    const { tool, hardness, strength, color } = hand.get();
    const soft = isSoft() ? { hardness, strength } : { hardness: 1, strength: 1 };
    return {
      ...soft,
      isErasing: tool === "eraser" || Boolean(event.buttons & 32),
      color: color ? channelsOf(color) : [0, 0, 0],
    };
  }

  listenForStrokes(field, {
    isPanning: keys.isSpaceDown,
    isInUse: () => element.contains(document.activeElement),
    begin(event) {
      if (look === "colors" && hand.get().tool === "pick") pick(event);
      else canvasDocument.begin(dab(event), brush(event));
    },
    move: (events) => {
      for (const event of events) canvasDocument.paint(dab(event));
    },
    end: canvasDocument.end,
    cancel: canvasDocument.cancel,
    pan: view.pan,
    zoom: view.zoom,
    undo: act.undo,
    hover: (event) => {
      const hides = !event || keys.isSpaceDown() || hand.get().tool === "pick";
      ring.show(hides ? null : place(event), brushSize(look, image) * view.at.scale);
    },
  });

  // What lies under the pointer: painted, else the picture's.
  function pick(event) {
    const { x, y } = view.toPicture(...place(event));
    if (x < 0 || y < 0 || x >= image.width || y >= image.height) return;
    const layer = canvasDocument.layer();
    const at = 4 * (Math.floor(y / each) * layer.width + Math.floor(x / each));
    const painted = layer.data[at + 3] > 127 && hex([...layer.data.subarray(at, at + 3)]);
    take({ color: painted || colorAt(screen.picture, Math.floor(x), Math.floor(y)), tool: "brush" });
  }

  function tell() {
    toolbar.show({
      canUndo: canvasDocument.canUndo(),
      canRedo: canvasDocument.canRedo(),
      isEmpty: canvasDocument.isEmpty(),
      scale: view.at.scale,
    });
  }

  /** Set a rectangle, in pixels of the picture. */
  function rectangle(left, top, width, height) {
    const [x, y, x2, y2] = [left, top, left + width, top + height].map((side) => Math.round(side / each));
    canvasDocument.rectangle([x, y, x2, y2]);
  }

  /** Take a picture file as the mask; says what is in the way, or "". */
  async function load(file) {
    const read = await readMask(file, canvasDocument.layer()).catch(() => null);
    if (!read) return `${file.name} can’t be read. Use a PNG, JPEG or WebP.`;
    if (!read.fits) {
      const sizes = `${file.name} is ${read.width} × ${read.height}; the picture is ${image.width} × ${image.height}.`;
      return `${sizes} Use a mask of the same shape.`;
    }
    canvasDocument.whole(read.take);
    return "";
  }

  const blob = () =>
    pngOf(canvasDocument.layer(), image.width, image.height, look === "colors" ? screen.ground() : null);

  async function download() {
    const link = h("a", {
      href: URL.createObjectURL(await blob()),
      download: look === "mask" ? "mask.png" : "drawing.png",
    });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  const measure = () => {
    if (field.clientWidth) view.measure(image, { width: field.clientWidth, height: field.clientHeight });
  };
  new ResizeObserver(measure).observe(field);
  // Another theme has another accent.
  new MutationObserver(measure).observe(document.documentElement, { attributes: true, attributeFilter: ["class"] });

  return {
    element,
    /** How much of it is painted: 0..1, of colors 0 or 1. */
    share: canvasDocument.share,
    changes: canvasDocument.changes,
    isFaint: canvasDocument.isFaint,
    /** How much of a part of it is painted. @param {number[]} rect left, top, right, bottom in pixels of the picture */
    shareIn: (rect) => canvasDocument.shareIn(/** @type {any} */ (rect.map((side) => Math.round(side / each)))),
    /** Paint on another picture, with what was painted on it before. @param {EditorImage} next */
    async open(next) {
      if (next.key === image.key && next.url === image.url) return;
      image = next;
      each = Math.max(1, Math.max(next.width, next.height) / MOST_SIDE);
      await canvasDocument.open(
        next.key,
        Math.max(1, Math.round(next.width / each)),
        Math.max(1, Math.round(next.height / each)),
        () => {
          screen.show(canvasDocument.layer(), next.url, next.width);
          toolbar.measure(next);
          take({ tool: "brush" });
          measure();
          view.fit();
        },
      );
    },
    /** What is painted, as a PNG of the picture's size. */
    blob,
    /** It is to be taken in another way: soft or hard. */
    recount() {
      canvasDocument.recount();
      measure();
    },
    load,
  };
}
