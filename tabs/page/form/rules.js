// What is wrong with a value, in the same words as the server's. Nothing is ever corrected silently.

import { config } from "../core/config.js";
import { formTab } from "../core/route.js";
import { alarm } from "../ui/live.js";
import { form, number } from "./form.js";
import { sayAtGenerate } from "./generate_problem.js";
import { allParts, partsOf } from "./recipe_parts.js";
import { follows } from "./size.js";

/**
 * @typedef {{text: string, fixes: {label: string, patch: Object<string, string|number|boolean>}[], at?: string}} Problem
 * at: the field that has it, where that is one of several alike
 */

/** @type {Object<string, (values: any) => Problem|null>} */
const RULES = {
  prompt: (values) => judgeText("prompt", values.prompt),
  negative_prompt: (values) => judgeText("negative_prompt", values.negative_prompt),
  model: ({ model }) => {
    if (!model) return { text: "No model in models/. Put a model folder there.", fixes: [] };
    return model.problem ? { text: `${model.problem} ${model.hint}`.trim(), fixes: [] } : null;
  },
  width: (values) => (follows(values, formTab()) ? null : side("width", values.width)),
  height: (values) => (follows(values, formTab()) ? null : side("height", values.height)),
  steps: (values) => ranged("steps", values.steps, true),
  guidance: (values) => ranged("guidance", values.guidance, false),
  clip_skip: (values) => ranged("clip_skip", values.clip_skip, true),
  emphasis: () => null,
  styles: () => null,
  seed: ({ seed }) => {
    const text = seed.trim();
    const fits = text === "" || (/^\d{1,20}$/.test(text) && BigInt(text) <= BigInt(config.limits.max_seed));
    return fits ? null : says("seed", seed);
  },
};

/** The problem of one field, or null. */
export function problemOf(field) {
  const rule =
    RULES[field] ??
    allParts()
      .map((part) => part.rules?.[field])
      .find(Boolean);
  return rule?.(form.get()) ?? null;
}

/** The first field, from top to bottom, that stands in the way of Generate on the chosen tab. */
export function firstProblem() {
  const fields = [...Object.keys(RULES), ...partsOf(formTab()).flatMap((part) => Object.keys(part.rules ?? {}))];
  const found = fields
    .map((field) => ({ field, problem: problemOf(field), box: boxOf(field) }))
    .filter(({ problem }) => problem);
  found.sort((a, b) =>
    a.box && b.box && a.box.compareDocumentPosition(b.box) & Node.DOCUMENT_POSITION_PRECEDING ? 1 : -1,
  );
  return found[0] ?? null;
}

const boxOf = (field) => document.querySelector(`[data-field="${field}"]`);

/** @returns {Problem} */
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
  const {
    side: [low, high],
    side_multiple: step,
  } = config.limits;
  const value = number(text);
  if (Number.isInteger(value) && value > low && value < high && value % step) {
    const below = Math.floor(value / step) * step;
    const problem = says(field, text, `Use a multiple of ${step}: ${below} or ${below + step}.`);
    problem.fixes = [below, below + step].map((fix) => ({ label: String(fix), patch: { [field]: String(fix) } }));
    return problem;
  }
  return Number.isInteger(value) && value >= low && value <= high ? null : says(field, text);
}

/** The rule of a text: not too long, and nothing that JSON can't carry. */
export function judgeText(field, text) {
  const half = text.search(/\p{Surrogate}/u);
  if (half >= 0)
    return {
      text:
        `${config.labels[field]} has half of a character at place ${half + 1}: it was cut in two. ` +
        "Delete it there and type it again.",
      fixes: [],
    };
  if (text.length <= config.limits.prompt_characters) return null;
  return {
    text: `${config.labels[field]} is ${text.length.toLocaleString("en")} characters long. ${config.hints[field]}`,
    fixes: [],
  };
}

/**
 * Where fields say what is wrong with them.
 * @typedef {{input: HTMLElement, place: HTMLElement, ask: () => void, value: () => any}} Spot
 * @type {Map<string, Spot>}
 */
const spots = new Map();
/** What the server said against fields. @type {Map<string, Problem & {value: any}>} */
const refusals = new Map();

/** A field tells where its problems stand; form/bound.js does it for every field. */
export const placeSpot = (field, spot) => spots.set(field, spot);

/** What the server said against a field, as long as the field still holds the same. */
export function refusalOf(field) {
  const refusal = refusals.get(field);
  return refusal && refusal.value === spots.get(field)?.value() ? refusal : null;
}

/** Forget what the server said: it is asked anew. */
export function clearRefusals() {
  const fields = [...refusals.keys()];
  refusals.clear();
  for (const field of fields) spots.get(field)?.ask();
}

/**
 * Say what the server refused: at its field where the tab shows it, else over the Generate button. It is always seen.
 * @param {{message: string, hint?: string, field?: string, fix?: Object<string, any>}} refusal
 */
export function refuse(refusal) {
  const text = `${refusal.message} ${refusal.hint ?? ""}`.trim();
  const problem = { text, fixes: fixesOf(refusal.fix ?? {}) };
  for (const field of fieldsOf(refusal.field ?? "")) {
    openSection(field);
    const spot = spots.get(field);
    if (!spot) continue;
    refusals.set(field, { ...problem, value: spot.value() });
    spot.ask();
    if (!spot.place.hidden && spot.place.checkVisibility({ visibilityProperty: true })) {
      alarm(text);
      focusIn(spot);
      return;
    }
    refusals.delete(field);
  }
  sayAtGenerate(problem);
}

const fixesOf = (fix) => {
  const known = Object.entries(fix).filter(([field]) => field in form.get());
  if (!known.length) return [];
  const patch = Object.fromEntries(known.map(([field, value]) => [field, String(value)]));
  const isSize = "width" in patch && "height" in patch;
  const label = isSize ? `${patch.width} × ${patch.height}` : known.map(([, value]) => value).join(", ");
  return [
    {
      label,
      patch:
        isSize || "width" in patch || "height" in patch
          ? { preset: "custom", "init_image.follow": false, ...patch }
          : patch,
    },
  ];
};

// The page's own names for what the server calls otherwise.
const ALSO = {
  init_image: ["init_image.image", "inpaint.picture"],
  "init_image.image": ["inpaint.picture"],
  mask: ["mask.image"],
  "hires.guidance_methods": ["hires.own_guidance"],
};

/**
 * The page's fields for a path of the request, the nearest first: "controls.1.image" is that of the second unit in use.
 */
function fieldsOf(path) {
  const [, part, place, name, inner] = /^([a-z_.]+)\.(\d+)(?:\.([^.]+))?(?:\.([^.]+))?/.exec(path) ?? [];
  if (!path) return [];
  if (!part) {
    const found = [];
    for (let left = path; left; left = left.replace(/\.?[^.]*$/, "")) found.push(left, ...(ALSO[left] ?? []));
    return found;
  }
  const used = (form.get()[part] || []) // an empty text where a pass takes those of the first
    .map((unit, index) => ({ unit, index }))
    .filter(({ unit }) => unit.image || unit.model || unit.id);
  const { unit, index } = used[Number(place)] ?? { unit: {}, index: Number(place) };
  if (unit.id)
    return [...[inner, name, "id", "prompt"].map((one) => `${part}.${one}-${unit.id}`), part, part.split(".")[0]];
  return [`${part}.${name}-${index}`, `${part}.model-${index}`, part, ...(ALSO[part] ?? []), part.split(".")[0]];
}

// A closed section makes its fields when it is opened.
function openSection(field) {
  const section = document.querySelector(`details[data-fields~="${field.replace(/\..*-\w+$/, "")}"]`);
  if (!section?.checkVisibility()) return;
  section.dispatchEvent(new Event("fill"));
  section.setAttribute("open", "");
}

function focusIn({ input, place }) {
  for (let around = input.closest("details"); around; around = around.parentElement?.closest("details"))
    around.setAttribute("open", "");
  const control = input.matches("input, textarea, select, button")
    ? input
    : input.querySelector("button, input:not([hidden]), [tabindex]");
  control?.focus();
  place.scrollIntoView({ block: "nearest" });
}

/** Bring a field with a problem into view, tell it to say so, and put the focus there. */
export function showField(field) {
  openSection(field);
  const spot = spots.get(field);
  const box = boxOf(field) ?? spot?.input ?? boxOf("width");
  box?.closest("details")?.setAttribute("open", "");
  // A text comes before the buttons above it.
  const control =
    field === "height"
      ? spot?.input
      : /** @type {HTMLElement|null|undefined} */ (
          box?.querySelector("textarea") ?? box?.querySelector("input:not([hidden]), select, button")
        );
  control?.dispatchEvent(new Event("problem", { bubbles: true }));
  control?.focus();
}
