// Shows a layer over its picture, crisp at the screen's own pixels. Only what changed is drawn again.

import { config } from "../core/config.js";
import { onBackground } from "../core/uploads.js";
import { h } from "../ui/dom.js";
import { isSolid, wholeOf } from "./layer.js";

const FILL = 0.62;
/** Width of each of the two edges, in pixels of the page. */
const EDGE = 1;
/** From this zoom on, single pixels are shown as they are. */
const BLOCKS = 6;
/** @typedef {import("./layer.js").Rect} Rect */

const AROUND = Array.from({ length: 8 }, (_, at) => [Math.cos((at * Math.PI) / 4), Math.sin((at * Math.PI) / 4)]);

function context(width, height) {
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, width);
  canvas.height = Math.max(1, height);
  return /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
}

/**
 * @param {"mask"|"colors"|"drawing"} look mask: accent with two edges; colors, drawing: as painted
 * @param {{x: number, y: number, scale: number}} at where the picture lies, as in mask_editor/view.js; scale: of
 *   the picture
 * @param {() => boolean} isSoft whether a mask may be faint, so that its edges must be looked for
 */
export function makeScreen(look, at, isSoft) {
  const picture = onBackground(h("img.mask-editor-picture", { alt: "", draggable: "false", hidden: true }));
  const ground = h("div.mask-editor-ground", {}, picture);
  const canvas = h("canvas", { "aria-hidden": "true" });
  const screen = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  const shape = context(1, 1);
  const edge = context(1, 1);
  /** The layer as an image. */
  let layerImage = context(1, 1);
  /** @type {import("./layer.js").Layer} */
  let layer = { width: 1, height: 1, channels: 1, data: new Uint8ClampedArray(1), total: 0, solid: 0 };
  /** Pixels of the picture for each of the layer. */
  let each = 1;
  let ratio = 1;
  /** What is to be drawn again. @type {Rect|null} */
  let dirty = null;
  let accent = "";

  // A mask's bytes become the opacity of white; where gray does not count, what counts is shown.
  function drawLayer([left, top, right, bottom]) {
    const isHard = look === "mask" && !isSoft();
    const image = layerImage.createImageData(right - left, bottom - top);
    let to = 0;
    for (let y = top; y < bottom; y += 1) {
      const from = y * layer.width;
      if (layer.channels === 4) {
        image.data.set(layer.data.subarray(4 * (from + left), 4 * (from + right)), to);
        to += 4 * (right - left);
      } else {
        for (let x = left; x < right; x += 1, to += 4) {
          image.data[to] = 255;
          image.data[to + 1] = 255;
          image.data[to + 2] = 255;
          const value = layer.data[from + x];
          image.data[to + 3] = isHard ? 255 * Number(isSolid(value)) : value;
        }
      }
    }
    layerImage.putImageData(image, left, top);
  }

  /**
   * From pixels of the layer to those of the screen, grown by so many of them.
   * @returns {Rect|null} left, top, width, height
   */
  function onScreen([left, top, right, bottom], room) {
    const scale = at.scale * each * ratio;
    const [x, y] = [
      Math.max(0, Math.floor(at.x * ratio + left * scale - room)),
      Math.max(0, Math.floor(at.y * ratio + top * scale - room)),
    ];
    const [x2, y2] = [
      Math.min(canvas.width, Math.ceil(at.x * ratio + right * scale + room)),
      Math.min(canvas.height, Math.ceil(at.y * ratio + bottom * scale + room)),
    ];
    return x2 > x && y2 > y ? [x, y, x2 - x, y2 - y] : null;
  }

  /** @param {Rect} part */
  function draw(part) {
    const reach = 2 * EDGE * ratio + 1;
    const area = onScreen(part, reach);
    // The edges in the area also come from shapes beside it.
    const around = onScreen(part, 2 * reach);
    if (!area || !around) return;
    /** @type {[CanvasRenderingContext2D, Rect][]} */
    const clips =
      look === "mask"
        ? [
            [screen, area],
            [edge, area],
            [shape, around],
          ]
        : [[screen, area]];
    for (const [one, clip] of clips) {
      one.save();
      one.beginPath();
      one.rect(...clip);
      one.clip();
      one.clearRect(...clip);
    }
    const into = look === "mask" ? shape : screen;
    into.imageSmoothingEnabled = at.scale * each < BLOCKS;
    into.imageSmoothingQuality = at.scale * each < 0.6 ? "high" : "low";
    into.drawImage(
      layerImage.canvas,
      at.x * ratio,
      at.y * ratio,
      layer.width * each * at.scale * ratio,
      layer.height * each * at.scale * ratio,
    );
    if (look === "mask") drawMask(around);
    for (const [one] of clips) one.restore();
  }

  const copy = (to, from, area, dx = 0, dy = 0) =>
    to.drawImage(from.canvas, ...area, area[0] + dx, area[1] + dy, area[2], area[3]);

  // The shape in the accent color, with a white edge and a black one. A soft mask's go around all that is masked,
  // however faintly; a hard one's stay thin where each of its pixels is many of the screen's.
  /** @param {Rect} area */
  function drawMask(area) {
    if (isSoft()) fill(area);
    const times = isSoft() ? 4 : Math.min(3, Math.max(0, Math.round(Math.log2(at.scale * each * ratio))));
    shape.globalCompositeOperation = "lighter";
    for (let time = 0; time < times; time += 1) copy(shape, shape, area);
    if (!isSoft()) fill(area);
    const round = (width) => {
      for (const [x, y] of AROUND) copy(edge, shape, area, x * width * ratio, y * width * ratio);
    };
    round(2 * EDGE);
    edge.globalCompositeOperation = "source-in";
    edge.fillStyle = "black";
    edge.fillRect(...area);
    edge.globalCompositeOperation = "source-over";
    round(EDGE);
    edge.globalCompositeOperation = "destination-out";
    copy(edge, shape, area);
    copy(screen, edge, area);
  }

  /** @param {Rect} area */
  function fill(area) {
    screen.globalAlpha = FILL;
    copy(screen, shape, area);
    screen.globalAlpha = 1;
    screen.globalCompositeOperation = "source-in";
    screen.fillStyle = accent;
    screen.fillRect(...area);
    screen.globalCompositeOperation = "source-over";
  }

  let asked = 0;
  function soon() {
    asked ||= requestAnimationFrame(() => {
      asked = 0;
      if (dirty) draw(dirty);
      dirty = null;
    });
  }

  return {
    elements: [ground, canvas],
    picture,
    /** What colors lie on: the picture, or the background. */
    ground: () => (picture.hidden ? config.background : picture),
    /** Another layer, and the picture under it (or none). pictureWidth: in pixels of the picture */
    show(nextLayer, url, pictureWidth) {
      layer = nextLayer;
      each = pictureWidth / layer.width;
      layerImage = context(layer.width, layer.height);
      drawLayer(wholeOf(layer));
      picture.hidden = !url;
      if (url) picture.src = url;
      else picture.removeAttribute("src");
    },
    /** A part of the layer changed. */
    changed(/** @type {Rect} */ rect) {
      drawLayer(rect);
      dirty = dirty
        ? [
            Math.min(dirty[0], rect[0]),
            Math.min(dirty[1], rect[1]),
            Math.max(dirty[2], rect[2]),
            Math.max(dirty[3], rect[3]),
          ]
        : rect;
      soon();
    },
    /** The view moved, the window's size or the theme changed: everything is drawn again. */
    place(width, height) {
      ratio = window.devicePixelRatio || 1;
      const [wide, high] = [Math.max(1, Math.round(width * ratio)), Math.max(1, Math.round(height * ratio))];
      for (const one of [canvas, shape.canvas, edge.canvas])
        if (one.width !== wide || one.height !== high) {
          one.width = wide;
          one.height = high;
        }
      accent = getComputedStyle(canvas).getPropertyValue("--accent").trim() || "currentColor";
      ground.style.translate = `${at.x}px ${at.y}px`;
      ground.style.width = `${layer.width * each * at.scale}px`;
      ground.style.height = `${layer.height * each * at.scale}px`;
      ground.classList.toggle("blocks", at.scale >= BLOCKS);
      screen.clearRect(0, 0, wide, high);
      dirty = wholeOf(layer);
      soon();
    },
  };
}
