// The section of regions: a canvas with boxes, and below it the fields of each region. Off until one is drawn.

import { config } from "../core/config.js";
import { showProblem, slider, toggle } from "../form/bound.js";
import { form } from "../form/form.js";
import { joinRecipe } from "../form/recipe_parts.js";
import { section } from "../form/section.js";
import { wholeVia } from "../form/units.js";
import { button, field, h } from "../ui/dom.js";
import { announce } from "../ui/live.js";
import { offerUndo } from "../ui/undo_bar.js";
import { LAYOUTS } from "./boxes.js";
import { makeRegionCanvas } from "./region_canvas.js";
import { makeRegionRow } from "./region_row.js";
import { baseRule, canTravel, freshRegion, numberOf, PART, placeRegions, readRegions } from "./region_units.js";
import { regionsOf, regionsRule, regionsSummary, travel, writeRegions } from "./region_units.js";

/** Fill the part. */
export function regions_section(element) {
  element.replaceChildren(
    section({
      name: "regions",
      title: config.labels.regions,
      fields: ["regions", "regions.base", "regions.common"],
      summary: regionsSummary,
      body: () => [body()],
    }),
  );
  joinRecipe("regions_section", {
    write: writeRegions,
    read: readRegions,
    rules: { regions: regionsRule, "regions.base": baseRule },
  });
}

function body() {
  /** @type {Map<string, HTMLElement>} */
  const rows = new Map();
  const list = h("div.units", {});
  const canvas = makeRegionCanvas({ onremove: remove, onopen: open, ondraw: begin });
  const add = button({ label: "Add a region", icon: "plus", kind: "outlined", onclick: () => addOne() });
  const shared = h(
    "div.region-shared",
    {},
    toggle("regions.common", config.labels["regions.common"]),
    slider("regions.base", 0.05),
  );
  const { box, problem } = field(
    "regions",
    "",
    h("div.stack", {}, tools(), canvas.element, list, add, shared),
    { note: config.explain.regions },
  );
  showProblem("regions", add, problem, { ...wholeVia(PART), field: "regions" });

  function open(id) {
    const prompt = rows.get(id)?.querySelector("textarea");
    prompt?.focus({ preventScroll: true });
    prompt?.scrollIntoView({ block: "center" });
  }

  // Its prompt is at hand where it can be seen; the canvas does not go away under the pointer.
  function begin(id) {
    const prompt = rows.get(id)?.querySelector("textarea");
    const { left = 0, top = 0, width = 0, height = 0 } = prompt?.getBoundingClientRect() ?? {};
    const isSeen = document.elementFromPoint(left + width / 2, top + height - 2) === prompt;
    if (isSeen && !matchMedia("(pointer: coarse)").matches) prompt?.focus({ preventScroll: true });
    else canvas.focus(id);
    announce(`Region ${numberOf(id)} was drawn.`);
  }

  function addOne() {
    const region = freshRegion();
    placeRegions([...regionsOf(), region]);
    canvas.focus(region.id);
    announce(`Region ${numberOf(region.id)} was added. Arrow keys move it.`);
  }

  function remove(id) {
    const before = regionsOf();
    const at = numberOf(id);
    placeRegions(before.filter((one) => one.id !== id));
    offerUndo(`Region ${at} was removed.`, () => placeRegions(before));
    const next = regionsOf()[Math.min(at, regionsOf().length) - 1];
    if (next) canvas.focus(next.id);
    else add.focus();
  }

  form.watch((now) => {
    const regions = regionsOf(now);
    for (const { id } of regions) if (!rows.has(id)) rows.set(id, makeRegionRow(id, remove));
    const shown = regions.map(({ id }) => rows.get(id));
    if (shown.length !== list.children.length || shown.some((row, at) => list.children[at] !== row))
      list.replaceChildren(.../** @type {HTMLElement[]} */ (shown));
    add.hidden = regions.length >= config.limits[PART];
    shared.hidden = !regions.length;
  });
  return box;
}

// Layouts, undo and redo.
function tools() {
  const way = (name, label) => {
    const made = button({ label, icon: name, words: false, quick: true, onclick: () => travel(name) });
    form.watch(() => made.setAttribute("aria-disabled", String(!canTravel(name))));
    return made;
  };
  const layouts = LAYOUTS.map((layout) =>
    button({ label: layout.label, icon: `layout_${layout.id}`, words: false, onclick: () => layOut(layout) }),
  );
  return h(
    "div.region-tools",
    { role: "group", "aria-label": "Layouts" },
    ...layouts,
    h("span.region-gap", {}),
    way("undo", "Undo"),
    way("redo", "Redo"),
  );
}

// Regions keep their words and take the places in turn; those beyond them go, and come back by Undo.
function layOut({ label, boxes }) {
  const before = regionsOf();
  placeRegions(boxes.map((box, at) => (before[at] ? { ...before[at], box, mask: null } : freshRegion(box))));
  const lost = before.slice(boxes.length);
  const words = lost.some(({ prompt }) => prompt.trim()) ? `${label}: the other regions were removed.` : `${label}.`;
  if (lost.length) offerUndo(words, () => placeRegions(before));
  else announce(words);
}
