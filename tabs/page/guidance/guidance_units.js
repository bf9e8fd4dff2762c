// Methods of guidance that are listed in the form: what is wrong with a value, and how they go into a recipe and back.

import { config } from "../core/config.js";
import { short } from "../core/words.js";
import { form, number, typed } from "../form/form.js";
import { setUnit, unitsOf } from "../form/units.js";

export const PART = "guidance_methods";

/** A method's row in the catalog. */
export const methodOf = (id) => config.guidance_methods.find((method) => method.id === id);

/** A fresh row of the form: a method with its defaults, or with the values of a recipe. */
export function methodUnit(id, values = {}) {
  const own = methodOf(id).parameters.map((one) => [one.id, typed(values[one.id] ?? one.default)]);
  return { id, ...Object.fromEntries(own) };
}

const isNumber = (parameter) => typeof parameter.default === "number";

/** What is wrong with one value of a row. */
function judgeValue(unit, name) {
  const method = methodOf(unit.id);
  const parameter = method?.parameters.find((one) => one.id === name);
  if (!parameter || !isNumber(parameter)) return null;
  const value = number(unit[name]);
  if (value >= parameter.least && value <= parameter.most) return null;
  const text = String(unit[name]).trim();
  const shown = text === "" ? "empty" : Number.isNaN(value) ? `“${text}”` : text;
  const range = `Use a number, ${short(parameter.least)} to ${short(parameter.most)}.`;
  return { text: `${method.label}: ${parameter.label} is ${shown}. ${range}`, fixes: [] };
}

/** Where one value of a method lives. A method is there once, so that its id is its place. @returns {any} */
export function valueVia(part, id, parameter) {
  const index = () => unitsOf(part).findIndex((unit) => unit.id === id);
  return {
    get: (values) => unitsOf(part, values).find((unit) => unit.id === id)?.[parameter.id],
    set: (value) => setUnit(part, index(), { [parameter.id]: value }),
    standard: () => typed(parameter.default),
    judge: () => (index() < 0 ? null : judgeValue(unitsOf(part)[index()], parameter.id)),
    field: `${part}.${parameter.id}-${id}`,
  };
}

/** The rule of a part, that of the form or of the hires pass: the first value that is wrong. */
export function methodsRule(part, values) {
  for (const unit of unitsOf(part, values)) {
    for (const name of Object.keys(unit)) {
      const problem = judgeValue(unit, name);
      if (problem) return { ...problem, at: `${part}.${name}-${unit.id}` };
    }
  }
  return null;
}

/** The rows of a part as a recipe has them. */
export const methodsOf = (part, values) =>
  unitsOf(part, values).map((unit) => ({
    id: unit.id,
    values: Object.fromEntries(
      methodOf(unit.id).parameters.map((one) => [one.id, isNumber(one) ? number(unit[one.id]) : unit[one.id]]),
    ),
  }));

/** The methods of a recipe as rows. */
export const rowsOf = (methods) =>
  methods.filter((one) => methodOf(one.id)).map((one) => methodUnit(one.id, one.values));

/** Put the methods into a draft; none has to be said where the model asks for some. */
export function writeMethods(draft, values) {
  if (unitsOf(PART, values).length || values.model?.defaults?.cfg_rescale) draft[PART] = methodsOf(PART, values);
}

/** Take the methods of a recipe over. */
export function readMethods(recipe, patch) {
  patch[PART] = rowsOf(recipe[PART] ?? []);
}

/** For the closed section: "CFG rescale 0.7, PAG 3"; more than two by their number. */
export function methodsSummary(values) {
  const used = unitsOf(PART, values);
  return used.length > 2 ? `${used.length} methods` : used.map(methodWords).join(", ");
}

/** A method by name and its first value: "PAG 3". */
export function methodWords(unit) {
  const method = methodOf(unit.id);
  if (!method) return unit.id;
  const [first] = method.parameters;
  const value = (unit.values ?? unit)[first.id] ?? first.default;
  return isNumber(first) ? `${method.label} ${short(Number(value) || 0)}` : method.label;
}

/** The methods that are not there yet and go with the model. */
export function methodsToAdd(part) {
  const now = form.get();
  const denoiser = config.denoisers[now.model?.family] ?? "unet";
  const there = unitsOf(part, now).map((unit) => unit.id);
  return config.guidance_methods.filter(({ id, denoisers }) => denoisers.includes(denoiser) && !there.includes(id));
}
