// What is wrong with a value, in the same words as the server's. Nothing is ever corrected silently.

import { config } from "./config.js";
import { form, number } from "./form.js";
import { allParts, partsOf } from "./recipe_parts.js";
import { formTab } from "./route.js";
import { follows } from "./size.js";

/**
 * @typedef {{text: string, fixes: {label: string, patch: Object<string, string>}[], at?: string}} Problem
 * at: the field that has it, where that is one of several alike
 */

/** @type {Object<string, (values: any) => Problem|null>} */
const RULES = {
  prompt: (values) => tooLong("prompt", values.prompt),
  negative_prompt: (values) => tooLong("negative_prompt", values.negative_prompt),
  model: ({ model }) => {
    if (!model) return { text: "No model in models/. Put a model folder there.", fixes: [] };
    return model.problem ? { text: `${model.problem} ${model.hint}`.trim(), fixes: [] } : null;
  },
  width: (values) => (follows(values, formTab()) ? null : side("width", values.width)),
  height: (values) => (follows(values, formTab()) ? null : side("height", values.height)),
  steps: (values) => ranged("steps", values.steps, true),
  guidance: (values) => ranged("guidance", values.guidance, false),
  clip_skip: (values) => ranged("clip_skip", values.clip_skip, true),
  seed: ({ seed }) => {
    const text = seed.trim();
    const fits = text === "" || (/^\d{1,20}$/.test(text) && BigInt(text) <= BigInt(config.limits.max_seed));
    return fits ? null : says("seed", seed);
  },
};

/** The problem of one field, or null. */
export function problemOf(field) {
  const rule = RULES[field] ?? allParts().map((part) => part.rules?.[field]).find(Boolean);
  return rule?.(form.get()) ?? refusalOf(field);
}

/** The first field, from top to bottom, that stands in the way of Generate on the chosen tab. */
export function firstProblem() {
  const fields = [...Object.keys(RULES), ...partsOf(formTab()).flatMap((part) => Object.keys(part.rules ?? {}))];
  const found = fields.map((field) => ({ field, problem: problemOf(field), box: boxOf(field) })).filter(({ problem }) => problem);
  found.sort((a, b) => (a.box && b.box && a.box.compareDocumentPosition(b.box) & Node.DOCUMENT_POSITION_PRECEDING ? 1 : -1));
  return found[0] ?? null;
}

const boxOf = (field) => document.querySelector(`[data-field="${field}"]`);

function says(field, value, hint = config.hints[field]) {
  const shown = String(value).trim();
  const known = Number.isNaN(number(shown)) ? `“${shown}”` : shown;
  return { text: `${config.labels[field]} is ${shown === "" ? "empty" : known}. ${hint}`, fixes: [] };
}

/** The rule of a number within `config.limits`. */
export function ranged(field, text, whole = false) {
  const [low, high] = config.limits[field];
  const value = number(text);
  const fits = value >= low && value <= high && (!whole || Number.isInteger(value));
  return fits ? null : says(field, text);
}

function side(field, text) {
  const { side: [low, high], side_multiple: step } = config.limits;
  const value = number(text);
  if (Number.isInteger(value) && value > low && value < high && value % step) {
    const below = Math.floor(value / step) * step;
    const problem = says(field, text, `Use a multiple of ${step}: ${below} or ${below + step}.`);
    problem.fixes = [below, below + step].map((fix) => ({ label: String(fix), patch: { [field]: String(fix) } }));
    return problem;
  }
  return Number.isInteger(value) && value >= low && value <= high ? null : says(field, text);
}

function tooLong(field, text) {
  if (text.length <= config.limits.prompt_characters) return null;
  return { text: `${config.labels[field]} is ${text.length.toLocaleString("en")} characters long. ${config.hints[field]}`, fixes: [] };
}

/** @type {Map<string, {text: string, value: any}>} */
const refusals = new Map();

/** What the server said against a field, as long as the field still holds the same. */
function refusalOf(field) {
  const refusal = refusals.get(field);
  return refusal && refusal.value === form.get()[field] ? { text: refusal.text, fixes: [] } : null;
}

/**
 * Show the server's refusal at its field.
 * @param {{code: string, message: string, hint?: string}} told
 * @returns {boolean} whether it belongs to a field of the form
 */
export function refuse(told) {
  const field = fieldOf(told.code);
  if (!field) return false;
  refusals.set(field, { text: `${told.message} ${told.hint ?? ""}`.trim(), value: form.get()[field] });
  showField(field);
  return true;
}

// "invalid_start_image_sha256" belongs to "start.image": the longest name that fits.
function fieldOf(code) {
  if (!code.startsWith("invalid_")) return null;
  const fields = [...Object.keys(RULES), ...partsOf(formTab()).flatMap((part) => Object.keys(part.rules ?? {}))];
  const fitting = fields.filter((field) => `${code}_`.startsWith(`invalid_${field.replaceAll(".", "_")}_`));
  return fitting.sort((a, b) => b.length - a.length)[0] ?? null;
}

/** Bring a field with a problem into view, tell it to say so, and put the focus there. */
export function showField(field) {
  // A closed section makes its fields when it is opened.
  document.querySelector(`details[data-fields~="${field.replace(/\..*-\d+$/, "")}"]`)?.dispatchEvent(new Event("fill"));
  const box = boxOf(field) ?? boxOf("width");
  box?.closest("details")?.setAttribute("open", "");
  const control = box?.querySelector(field === "height" ? "input:nth-of-type(2)" : "textarea, input:not([hidden]), select, button");
  control?.dispatchEvent(new Event("problem", { bubbles: true }));
  control?.focus();
}
