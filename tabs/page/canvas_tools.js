// The tools of every canvas: what is in the hand, kept in the browser, and the toolbar that changes it.

import { button, h, setText } from "./dom.js";
import { rove, settleTabStop } from "./roving.js";
import { keep, observable, recall } from "./store.js";

const LEAST = 2;
const STEP = 1.2;

/** tool: brush, eraser or pick; size: diameter in pixels of the picture; hardness and strength: of soft masks. */
export const hand = observable({ tool: "brush", size: 58, hardness: 0.5, strength: 1, color: "",
  ...recall("hand", {}) });
hand.later((now) => keep("hand", { ...now, tool: "brush" }));

/** Change some of it. */
export const take = (patch) => hand.set({ ...hand.get(), ...patch });

/** The largest brush for a picture. */
const mostOf = ({ width, height }) => Math.max(64, Math.round(Math.max(width, height) / 2));

/** Take a larger (1) or smaller (-1) brush. */
export function resize(by, picture) {
  const size = hand.get().size * STEP ** by;
  take({ size: Math.min(mostOf(picture), Math.max(LEAST, Math.round(by > 0 ? Math.ceil(size) : Math.floor(size)))) });
}

// Even steps of the slider are even factors of size.
const sizeAt = (share, most) => Math.round(LEAST * (most / LEAST) ** share);
const shareOf = (size, most) => Math.min(1, Math.log(size / LEAST) / Math.log(most / LEAST));

/** A slider with percent; for soft masks. */
export function shareSlider(name, label) {
  const shown = h("span.share", {});
  const range = /** @type {HTMLInputElement} */ (h("input", { type: "range", min: 5, max: 100, step: 5, "aria-label": label,
    oninput: () => take({ [name]: Number(range.value) / 100 }) }));
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
 * @param {{label: string, tools: string[], act: Object<string, () => void>, more: ((opener: HTMLElement) => void)|null,
 *   extra?: Node|null}} look tools: names of ICONS; act: what each button does; extra: stands after the brushes
 */
export function makeToolbar({ label, tools, act, more, extra = null }) {
  const made = Object.fromEntries(tools.map((name) => {
    const [words, drawing, keys] = ICONS[name];
    const one = button({ label: words, icon: drawing, words: false, onclick: () => act[name]() });
    one.dataset.tool = name;
    one.title = keys ? `${words} (${keys})` : words;
    if (keys) one.setAttribute("aria-keyshortcuts", keys.replace("Ctrl ", "Control+").replace("Shift ", "Shift+"));
    return [name, one];
  }));
  const opener = button({ label: "More ways to mask", icon: "more", words: false, onclick: () => more?.(opener) });
  opener.hidden = !more;
  opener.setAttribute("aria-expanded", "false");
  let most = 256;
  const range = /** @type {HTMLInputElement} */ (h("input.brush-size", { type: "range", min: 0, max: 1, step: 0.005, "aria-label": "Brush size",
    oninput: () => take({ size: sizeAt(Number(range.value), most) }) }));
  const size = h("output.brush-px", {});
  const zoom = h("output.zoom", { "aria-label": "Zoom" });
  const part = () => h("span.parting", { "aria-hidden": "true" });
  const bar = h("div.canvas-tools", { role: "toolbar", "aria-label": label },
    h("div.tool-group", {}, made.brush, made.eraser, made.pick),
    h("div.tool-group.sizes", {}, part(), extra, range, size),
    h("div.tool-group", {}, part(), made.undo, made.redo, made.invert, made.clear),
    h("div.tool-group.views", {}, made.fit, zoom, opener));
  // Up and down are the slider's; left and right go through the toolbar.
  range.addEventListener("keydown", (event) => {
    if (["ArrowUp", "ArrowDown", "PageUp", "PageDown"].includes(event.key)) event.stopPropagation();
  });
  rove(bar, "button, input", {});
  settleTabStop([...bar.querySelectorAll("button, input")]);
  hand.watch((now) => {
    range.value = String(shareOf(now.size, most));
    range.style.setProperty("--fill", `${100 * shareOf(now.size, most)}%`);
    range.setAttribute("aria-valuetext", `${now.size} px`);
    setText(size, `${now.size} px`);
    for (const name of ["brush", "eraser", "pick"]) made[name]?.setAttribute("aria-pressed", String(now.tool === name));
  });
  return {
    element: bar,
    /** Another picture: its largest brush. */
    measure(picture) { most = mostOf(picture); take({ size: Math.min(most, hand.get().size) }); },
    /** What can be pressed now, and how large the picture is shown. */
    show({ canUndo, canRedo, isEmpty, scale }) {
      for (const [name, can] of [["undo", canUndo], ["redo", canRedo], ["clear", !isEmpty]]) made[name]?.setAttribute("aria-disabled", String(!can));
      setText(zoom, `${Math.round(100 * scale)}%`);
    },
  };
}

const ICONS = {
  brush: ["Brush", "brush", "B"], eraser: ["Eraser", "eraser", "E"], pick: ["Pick a color", "pick", "P"],
  undo: ["Undo", "undo", "Ctrl Z"], redo: ["Redo", "redo", "Ctrl Shift Z"], invert: ["Invert", "invert", "I"],
  clear: ["Clear", "trash", ""], fit: ["Fit", "fit", "0"],
};

/** A circle as wide as the brush, that goes with the pointer. */
export function brushRing() {
  const ring = h("div.brush-ring", { "aria-hidden": "true", hidden: true });
  return { element: ring,
    /** @param {number[]|null} point x and y in the canvas */
    show(point, size) {
      ring.hidden = !point || size < 6;
      if (!point) return;
      const [x, y] = point;
      ring.style.width = ring.style.height = `${size}px`;
      ring.style.translate = `${x - size / 2}px ${y - size / 2}px`;
    } };
}
