// Colors for a brush: a few at hand, any other by the browser's picker; what is chosen is kept with the hand.

import { h } from "../ui/dom.js";
import { hex } from "./layer_files.js";
import { hand, take } from "./tools.js";

/** Name, red, green, blue. */
const PAINTS = [
  ["Black", 24, 24, 28],
  ["White", 250, 250, 248],
  ["Red", 200, 50, 44],
  ["Yellow", 240, 196, 60],
  ["Green", 70, 130, 70],
  ["Blue", 60, 110, 180],
];

/** A group for the toolbar. */
export function colorGroup() {
  if (!hand.get().color) take({ color: hex(PAINTS[2].slice(1)) });
  const any = h("input.any-color", {
    type: "color",
    "aria-label": "Color",
    title: "Color",
    oninput: () => take({ color: any.value, tool: "brush" }),
  });
  const swatches = PAINTS.map(([name, ...channels]) => {
    const made = h("button.swatch", {
      type: "button",
      "aria-label": name,
      title: name,
      onclick: () => take({ color: hex(channels), tool: "brush" }),
    });
    made.style.background = hex(channels);
    return made;
  });
  hand.watch((now) => {
    any.value = now.color;
    swatches.forEach((one, at) => one.setAttribute("aria-pressed", String(hex(PAINTS[at].slice(1)) === now.color)));
  });
  return h("span.colors", {}, any, ...swatches);
}
