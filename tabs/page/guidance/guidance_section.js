// The section of guidance: methods beside the guidance scale, a row each with its values, and a menu to add one. The
// hires section shows the same rows for methods of its own.

import { config } from "../core/config.js";
import { list, showProblem, slider, textInput } from "../form/bound.js";
import { change, form } from "../form/form.js";
import { joinRecipe } from "../form/recipe_parts.js";
import { section } from "../form/section.js";
import { removeUnit, unitsOf, wholeVia } from "../form/units.js";
import { button, field, h } from "../ui/dom.js";
import { announce } from "../ui/live.js";
import { openMenu } from "../ui/menu.js";
import { methodsRule, methodsSummary, methodsToAdd, methodOf, methodUnit, PART } from "./guidance_units.js";
import { readMethods, valueVia, writeMethods } from "./guidance_units.js";

const SHOWN = 2; // values of a method that are seen at once; the others open on demand

/** Fill the part. */
export function guidance_section(element) {
  element.replaceChildren(
    section({ name: PART, title: "Guidance", fields: [PART], summary: methodsSummary, body: () => [methodRows(PART)] }),
  );
  joinRecipe("guidance_section", { write: writeMethods, read: readMethods, rules: { [PART]: (values) => methodsRule(PART, values) } });
}

/** The rows of a part of the form, and the menu. */
export function methodRows(part) {
  const add = button({
    label: "Add a method",
    icon: "plus",
    kind: "outlined",
    onclick: () =>
      openMenu(
        add,
        "Methods of guidance",
        methodsToAdd(part).map((method) => ({ label: method.label, icon: "plus", onchoose: () => take(part, method) })),
      ),
  });
  const units = h("div.units", {});
  const { box, problem } = field(part, "", h("div.stack", {}, units, add), { note: config.explain[part] });
  showProblem(part, add, problem, wholeVia(part));
  const rows = new Map();
  form.watch((now) => {
    const used = unitsOf(part, now).filter((unit) => methodOf(unit.id));
    for (const { id } of used) if (!rows.has(id)) rows.set(id, makeRow(part, methodOf(id)));
    const shown = used.map(({ id }) => rows.get(id));
    if (shown.length !== units.children.length || shown.some((row, at) => units.children[at] !== row))
      units.replaceChildren(...shown);
    add.hidden = !methodsToAdd(part).length || used.length >= config.limits[PART];
  });
  return box;
}

function take(part, method) {
  change({ [part]: [...unitsOf(part), methodUnit(method.id)] });
  announce(`${method.label} was added.`);
}

function makeRow(part, method) {
  const made = method.parameters.map((parameter) => control(part, method, parameter));
  const [first, more] = [made.slice(0, SHOWN), made.slice(SHOWN)];
  const remove = button({
    label: `Remove ${method.label}`,
    icon: "trash",
    words: false,
    onclick: () => {
      const index = unitsOf(part).findIndex((unit) => unit.id === method.id);
      removeUnit(part, index, method.label);
    },
  });
  return h(
    "section.unit.net",
    { "aria-label": method.label },
    h(
      "div.unit-head",
      { "data-field": `${part}.id-${method.id}` },
      h("span.net-words", {}, h("h3", {}, method.label), h("p.hint", {}, method.does)),
      remove,
    ),
    ...first,
    more.length > 0 && h("details.unit-more", {}, h("summary", {}, "More values"), h("div.section-body", {}, ...more)),
  );
}

function control(part, method, parameter) {
  const via = valueVia(part, method.id, parameter);
  const name = `${part}.${parameter.id}`;
  if (parameter.choices.length) return list(name, () => parameter.choices, parameter.label, via);
  if (typeof parameter.default === "number") {
    const look = { from: parameter.least, to: parameter.most, label: parameter.label };
    return slider(name, parameter.step, look, via);
  }
  const input = textInput(name, { placeholder: parameter.default }, via);
  const { box, problem } = field(via.field, parameter.label, input, { labelFor: input.id });
  showProblem(name, input, problem, via);
  return box;
}
