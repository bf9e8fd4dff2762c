// The section of ControlNet units. On its own tab it stands open, elsewhere it is closed and says what is in it.

import { config } from "./config.js";
import { showProblem } from "./bound.js";
import { button, h } from "./dom.js";
import { controlRule, controlSummary, noControlModel, readControls, writeControls } from "./control_units.js";
import { makeControlUnit } from "./control_unit.js";
import { form } from "./form.js";
import { controlModels, preprocessors } from "./parts_list.js";
import { joinRecipe } from "./recipe_parts.js";
import { route } from "./route.js";
import { section } from "./section.js";
import { addUnit, unitsOf, wholeVia } from "./units.js";

const TAB = "controlnet";

/** Fill the part. */
export function control_section(element) {
  const details = section({ name: "controls", title: config.labels.controls, fields: ["controls"], summary: controlSummary, body, opensOn: TAB });
  element.replaceChildren(details);
  joinRecipe("control_section", { write: writeControls, read: readControls, rules: { controls: controlRule } });
  route.watch(({ tab }) => { if (tab === TAB && !unitsOf("controls").length) addUnit("controls"); });
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
    made.forEach((unit, index) => { unit.hidden = index >= count; });
    add.hidden = count >= config.limits.controls;
  });
  // What is wrong with all of them together; each says its own.
  const problem = h("p.problem", { hidden: true, id: "controls-problem" });
  showProblem("controls", add, problem, wholeVia("controls"));
  return [none, units, add, problem];
}
