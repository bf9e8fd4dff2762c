// Parts that are there several times ("controls", "ip_adapters"): their units in the form, and values bound to one.

import { config } from "../core/config.js";
import { offerUndo } from "../ui/undo_bar.js";
import { change, form, number, typed } from "./form.js";

/** A fresh unit: the contract's defaults, no model, no picture; `map` is the preview of its preprocessor. */
export function emptyUnit(part) {
  const own = Object.entries(config.defaults).filter(([path]) => path.startsWith(`${part}.`));
  return {
    model: "",
    image: null,
    map: null,
    ...Object.fromEntries(own.map(([path, value]) => [path.slice(part.length + 1), typed(value)])),
  };
}

/** The units of a part. */
export const unitsOf = (part, values = form.get()) => values[part] || [];

/** Whether nothing was put into a unit yet; it is passed over then. A method of guidance is named by its id. */
export const isBlank = (unit) => !unit.image && !unit.model && !unit.id;

/** Change some values of one unit. */
export function setUnit(part, index, patch) {
  change({ [part]: unitsOf(part).map((unit, at) => (at === index ? { ...unit, ...patch } : unit)) });
}

/** One more unit, if the contract allows it. */
export function addUnit(part, patch = {}) {
  if (unitsOf(part).length < config.limits[part])
    change({ [part]: [...unitsOf(part), { ...emptyUnit(part), ...patch }] });
}

/** Take a unit out; Undo brings it back. */
export function removeUnit(part, index, label = `${config.labels[part]} ${index + 1}`) {
  const before = unitsOf(part);
  change({ [part]: before.filter((_, at) => at !== index) });
  if (!isBlank(before[index])) offerUndo(`${label} was removed.`, () => change({ [part]: before }));
}

/**
 * Put a picture into the first unit that has none, else into a new one. Returns which, or -1 where none can be added.
 */
export function takeIntoUnit(part, picture) {
  const units = unitsOf(part);
  const index = units.findIndex((unit) => !unit.image);
  if (index < 0 && units.length >= config.limits[part]) return -1;
  if (index < 0) addUnit(part, { image: picture });
  else setUnit(part, index, { image: picture, map: null });
  return index < 0 ? units.length : index;
}

/**
 * A value of one unit, for the controls of form/bound.js.
 * @param {(unit: any, name: string) => import("./rules.js").Problem|null} judge what is wrong with a value of a unit
 * @returns {import("./bound.js").Via}
 */
export function unitVia(part, index, name, judge = () => null) {
  return {
    get: (values) => unitsOf(part, values)[index]?.[name],
    set: (value) => setUnit(part, index, { [name]: value }),
    standard: () => typed(config.defaults[`${part}.${name}`]),
    judge: () => (unitsOf(part)[index] ? judge(unitsOf(part)[index], name) : null),
    field: `${part}.${name}-${index}`,
  };
}

/** A part as a whole, for what the server says of all its units together. @returns {import("./bound.js").Via} */
export const wholeVia = (part) => ({
  get: unitsOf.bind(null, part),
  set: () => {},
  standard: () => "",
  judge: () => null,
  field: part,
});

/** A unit's values as a recipe wants them; empty ones are left out. */
export function unitFields(part, unit) {
  /** @type {Object<string, any>} */
  const found = {};
  for (const [path, standard] of Object.entries(config.defaults)) {
    const name = path.slice(part.length + 1);
    if (!path.startsWith(`${part}.`) || unit[name] === "" || unit[name] === undefined) continue;
    found[name] = typeof standard === "number" || NUMBERS.has(name) ? number(unit[name]) : unit[name];
  }
  return found;
}

const NUMBERS = new Set(["resolution", "low", "high", "text_weight"]);

/** The first problem of a part's units, and the field that has it. */
export function firstUnitProblem(part, values, judge) {
  for (const [index, unit] of unitsOf(part, values).entries()) {
    if (isBlank(unit)) continue;
    for (const name of Object.keys(unit)) {
      const problem = judge(unit, name);
      if (problem) return { ...problem, at: `${part}.${name}-${index}` };
    }
  }
  return null;
}
