// Keys that work everywhere, and the table that "?" shows.

import { generates, route } from "../core/route.js";
import { job } from "../jobs/job.js";
import { generate } from "../sections/generate_bar.js";
import { button, h, targetOf } from "../ui/dom.js";
import { closeLayer, layerHasEscape, openLayer } from "../ui/layers.js";
import { COMMAND, isCommand, isComposing, plainKey } from "../ui/shortcut.js";

const TABLE = [
  [`${COMMAND} Enter`, "Generate, also inside the prompt"],
  ["Esc", "Close the top layer; with none open, cancel this window’s job"],
  [`${COMMAND} ↑ ↓`, "Weight of the word or selection ± 0.1 (Shift: 0.05)"],
  ["← → Home End", "Tabs, choices side by side: move and choose"],
  ["← → ↑ ↓ Home End", "Gallery, contact sheet: move. Enter opens, Esc goes back"],
  ["/", "Gallery, models: to the search field"],
  ["F · U · D · Delete", "Focused picture: favorite, use settings, download, delete"],
  ["B E [ ] I 0 + −", "Canvas: brush, eraser, smaller, larger, invert, fit, zoom. Space and drag moves the picture"],
  ["← → ↑ ↓ Delete Enter", "A region: move (Shift: resize), remove, go to its prompt"],
  [`${COMMAND} Z, Shift Z`, "Canvas, regions: undo, redo"],
  ["?", "This table"],
];

const rows = TABLE.map(([keys, does]) => h("tr", {}, h("th", { scope: "row" }, h("kbd", {}, keys)), h("td", {}, does)));
const table = h(
  "dialog.key-table",
  { "aria-label": "Keyboard" },
  h(
    "div.picker-head",
    {},
    h("h2", {}, "Keyboard"),
    button({ label: "Close", icon: "close", words: false, onclick: closeLayer }),
  ),
  h("table", {}, h("tbody", {}, ...rows)),
);

/** Show the table. */
export function openKeyTable() {
  openLayer(table);
}

/** Listen from now on. */
export function listenForKeys(parent) {
  parent.append(table);
  addEventListener("keydown", (event) => {
    if (isComposing(event)) return;
    const isTyping = event.target instanceof Element && event.target.closest("input, textarea, select");
    if (event.key === "Enter" && isCommand(event) && generates(route.get().tab)) {
      event.preventDefault();
      generate();
    } else if (event.key === "Escape" && !layerHasEscape() && !targetOf(event, "select, input[type=search]")) {
      if (job.isActive()) job.cancel();
    } else if (plainKey(event) === "?" && !isTyping && !document.querySelector("dialog[open]")) {
      event.preventDefault();
      openKeyTable();
    }
  });
}
