// The tools of every mask editor: what is in the hand, kept in the browser, and the toolbar that changes it.

import { keep, observable, recall } from "../core/store.js";
import { button, h, setText } from "../ui/dom.js";
import { rove, settleTabStop } from "../ui/roving.js";

const STEP = 1.2;
const LEAST_SHARE = 1 / 512;
const MOST_SHARE = 1 / 2;
/** Diameters of the brushes, as shares of the picture's longer side: a large picture gets a large brush. */
const SIZES = { mask: 0.075, colors: 0.05, drawing: 0.015 };

/** tool: brush, eraser or pick; mask, colors, drawing: their brushes; hardness and strength: of soft masks. */
export const hand = observable({
  ...SIZES,
  hardness: 0.5,
  strength: 1,
  color: "",
  ...recall("hand", {}),
  tool: "brush",
});
hand.later((now) => keep("hand", now));

/** Change some of it. */
export const take = (patch) => hand.set({ ...hand.get(), ...patch });

/** Diameter of the brush in pixels of a picture. @param {"mask"|"colors"|"drawing"} look */
export const brushSize = (look, { width, height }) =>
  Math.max(1, Math.round(hand.get()[look] * Math.max(width, height)));

/** Take a larger (1) or smaller (-1) brush. */
export const resize = (look, by) =>
  take({ [look]: Math.min(MOST_SHARE, Math.max(LEAST_SHARE, hand.get()[look] * STEP ** by)) });

// Even steps of the slider are even factors of size.
const shareAt = (part) => LEAST_SHARE * (MOST_SHARE / LEAST_SHARE) ** part;
const partOf = (share) => Math.log(share / LEAST_SHARE) / Math.log(MOST_SHARE / LEAST_SHARE);

/** A slider with percent; for soft masks. */
export function shareSlider(name, label) {
  const shown = h("span.share", {});
  const range = h("input", {
    type: "range",
    min: 5,
    max: 100,
    step: 5,
    "aria-label": label,
    oninput: () => take({ [name]: Number(range.value) / 100 }),
  });
  hand.watch((now) => {
    range.value = String(Math.round(100 * now[name]));
    range.style.setProperty("--fill", `${(100 * (100 * now[name] - 5)) / 95}%`);
    range.setAttribute("aria-valuetext", setShare(shown, now[name]));
  });
  return h("div.field", {}, h("div.field-head", {}, h("span.label", {}, label), shown), range);
}

function setShare(place, share) {
  setText(place, `${Math.round(100 * share)}%`);
  return place.textContent;
}

/**
 * @param {{look: "mask"|"colors"|"drawing", label: string, tools: string[], act: Object<string, () => void>,
 *   more: ((opener: HTMLElement) => void)|null, extra?: Node|null}} look tools: names of ICONS; act: what each button
 *   does; extra: stands after the brushes
 */
export function makeToolbar({ look, label, tools, act, more, extra = null }) {
  const made = Object.fromEntries(
    tools.map((name) => {
      const [words, drawing, keys] = ICONS[name];
      const one = button({ label: words, icon: drawing, words: false, onclick: () => act[name]() });
      one.dataset.tool = name;
      one.title = keys ? `${words} (${keys})` : words;
      if (keys) one.setAttribute("aria-keyshortcuts", keys.replace("Ctrl ", "Control+").replace("Shift ", "Shift+"));
      return [name, one];
    }),
  );
  const opener = button({ label: "More ways to mask", icon: "more", words: false, onclick: () => more?.(opener) });
  opener.hidden = !more;
  opener.setAttribute("aria-expanded", "false");
  let picture = { width: 512, height: 512 };
  const range = h("input.brush-size", {
    type: "range",
    min: 0,
    max: 1,
    step: 0.005,
    "aria-label": "Brush size",
    oninput: () => take({ [look]: shareAt(Number(range.value)) }),
  });
  const size = h("output.brush-px", {});
  const zoom = h("output.zoom", { "aria-label": "Zoom" });
  const part = () => h("span.parting", { "aria-hidden": "true" });
  const bar = h(
    "div.mask-editor-tools",
    { role: "toolbar", "aria-label": label },
    h("div.tool-group", {}, made.brush, made.eraser, made.pick),
    extra && h("div.tool-group.extra", {}, part(), extra),
    h("div.tool-group.sizes", {}, part(), range, size),
    h("div.tool-group", {}, part(), made.undo, made.redo, made.invert, made.clear),
    h("div.tool-group.views", {}, made.fit, zoom, opener),
  );
  // Up and down are the slider's; left and right go through the toolbar.
  range.addEventListener("keydown", (event) => {
    if (["ArrowUp", "ArrowDown", "PageUp", "PageDown"].includes(event.key)) event.stopPropagation();
  });
  rove(bar, "button, input", {});
  settleTabStop([...bar.querySelectorAll("button, input")]);
  function draw() {
    const now = hand.get();
    range.value = String(partOf(now[look]));
    range.style.setProperty("--fill", `${100 * partOf(now[look])}%`);
    setText(size, `${brushSize(look, picture)} px`);
    range.setAttribute("aria-valuetext", size.textContent);
    for (const name of ["brush", "eraser", "pick"]) made[name]?.setAttribute("aria-pressed", String(now.tool === name));
  }
  hand.watch(draw);
  return {
    element: bar,
    /** Another picture: the brush goes by its size. */
    measure(next) {
      picture = next;
      draw();
    },
    /** What can be pressed now, and how large the picture is shown. */
    show({ canUndo, canRedo, isEmpty, scale }) {
      for (const [name, can] of [
        ["undo", canUndo],
        ["redo", canRedo],
        ["clear", !isEmpty],
      ])
        made[name]?.setAttribute("aria-disabled", String(!can));
      setText(zoom, `${Math.round(100 * scale)}%`);
    },
  };
}

const ICONS = {
  brush: ["Brush", "brush", "B"],
  eraser: ["Eraser", "eraser", "E"],
  pick: ["Pick a color", "pick", "P"],
  undo: ["Undo", "undo", "Ctrl Z"],
  redo: ["Redo", "redo", "Ctrl Shift Z"],
  invert: ["Invert", "invert", "I"],
  clear: ["Clear", "trash", ""],
  fit: ["Fit", "fit", "0"],
};

/** A circle as wide as the brush, that goes with the pointer. */
export function brushRing() {
  const ring = h("div.brush-ring", { "aria-hidden": "true", hidden: true });
  return {
    element: ring,
    /** @param {number[]|null} point x and y in the canvas */
    show(point, size) {
      ring.hidden = !point || size < 6;
      if (!point) return;
      const [x, y] = point;
      ring.style.width = ring.style.height = `${size}px`;
      ring.style.translate = `${x - size / 2}px ${y - size / 2}px`;
    },
  };
}
