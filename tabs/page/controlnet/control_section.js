// The section of ControlNet units. On its own tab it stands open, elsewhere it is closed and says what is in it.

import { config } from "../core/config.js";
import { route } from "../core/route.js";
import { showProblem } from "../form/bound.js";
import { form } from "../form/form.js";
import { controlModels, preprocessors } from "../form/parts_list.js";
import { joinRecipe } from "../form/recipe_parts.js";
import { section } from "../form/section.js";
import { addUnit, unitsOf, wholeVia } from "../form/units.js";
import { button, h } from "../ui/dom.js";
import { makeControlUnit } from "./control_unit.js";
import { controlRule, controlSummary, noControlModel, readControls, writeControls } from "./control_units.js";

const TAB = "controlnet";

/** Fill the part. */
export function control_section(element) {
  const details = section({
    name: "controls",
    title: config.labels.controls,
    fields: ["controls"],
    summary: controlSummary,
    body,
    opensOn: TAB,
  });
  element.replaceChildren(details);
  joinRecipe("control_section", { write: writeControls, read: readControls, rules: { controls: controlRule } });
  route.watch(({ tab }) => {
    if (tab === TAB && !unitsOf("controls").length) addUnit("controls");
  });
}

function body() {
  controlModels.refresh();
  preprocessors.refresh();
  const none = h("p.hint", { hidden: true });
  const units = h("div.units", {});
  const add = button({ label: "Add a unit", icon: "plus", kind: "outlined", onclick: () => addUnit("controls") });
  controlModels.state.watch(({ items, isKnown }) => {
    none.hidden = !isKnown || items.length > 0;
    none.textContent = noControlModel();
  });
  // Units are made once and kept: the n-th shows whatever the n-th unit of the form is.
  const made = [];
  form.watch((now) => {
    const count = unitsOf("controls", now).length;
    while (made.length < count) {
      made.push(makeControlUnit(made.length));
      units.append(made.at(-1));
    }
    made.forEach((unit, index) => {
      unit.hidden = index >= count;
    });
    add.hidden = count >= config.limits.controls;
  });
  // What is wrong with all of them together; each says its own.
  const problem = h("p.problem", { hidden: true, id: "controls-problem" });
  showProblem("controls", add, problem, wholeVia("controls"));
  return [none, units, add, problem];
}
