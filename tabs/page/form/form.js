// What the form holds, as it was typed; kept in the browser. Judging it is in form/rules.js, filling it from
// a recipe in form/recipe_fill.js.

import { config, schedulesFor } from "../core/config.js";
import { ownDefaults } from "../core/model_defaults.js";
import { findModel } from "../core/model_list.js";
import { keep, observable, recall } from "../core/store.js";

/**
 * @typedef {Object} Values
 * @property {string} prompt
 * @property {string} negative_prompt
 * @property {any} model entry as in GET /api/v1/models, or null where there is none
 * @property {string} preset key of the model's sizes, or "custom"
 * @property {string} width as typed
 * @property {string} height as typed
 * @property {string} sampler
 * @property {string} schedule
 * @property {string} steps as typed
 * @property {string} guidance as typed
 * @property {string} seed as typed; empty is random
 * @property {number} count
 * @property {string} [loops] rounds of loopback, as typed
 * @property {string} clip_skip
 * @property {string} emphasis
 * @property {string[]} styles names, in the order in which they are applied
 * @property {any} template what the prompt of a picture that was filled in was drawn from, and that prompt as `drawn`
 * @property {any} controls list of units as in controlnet/control_units.js; "ip_adapters", "loras" and "hypernetworks"
 *   likewise
 * @property {any} guidance_methods list of rows as in guidance/guidance_units.js; "regions.regions" of regions as in
 *   regions/region_units.js
 * @property {string} vae name; empty is the model's own
 * @property {string} tiling "x", "y" or "xy"; empty is none
 * @property {string} prompt_2 of the second text encoder; empty is the prompt. "negative_prompt_2" likewise
 *
 * Fields of the recipe's parts are held by their path, "init_image.strength", as labels and refusals name them:
 * numbers as typed, choices as they are. "init_image.image" and other pictures: {sha256, width, height, name, parent}
 * as in core/uploads.js, or null. "init_image.follow": whether the size is the picture's.
 */

/** @type {ReturnType<typeof observable<Values>>} */
export const form = observable(/** @type {any} */ ({}));

/** Fill the form from what this window, else this browser, last held; else with the model's defaults. */
export function loadForm() {
  const kept = inNamesOfToday(recall("form", null, "sessionStorage") ?? recall("form", {}));
  const isHere = kept.model && typeof kept.model.name === "string";
  const model = isHere && kept.model.name !== config.model?.name ? kept.model : config.model;
  const values = { ...startValues(model), ...kept, model };
  form.set(fitted(values));
  if (model && model !== config.model) refreshModel(model);
  form.later((now) => {
    const slim = { ...now, model: now.model && { ...now.model, words: [] } };
    keep("form", slim, "sessionStorage");
    keep("form", slim);
  });
}

// A form that this browser kept before December 2026 has older names: as contract/schema_1.py for recipes.
const FORMER = {
  "start.extend.": "init_image.outpaint.",
  "start.": "init_image.",
  "mask.feather": "mask.blur",
  references: "ip_adapters",
};

function inNamesOfToday(kept) {
  const values = Object.fromEntries(
    Object.entries(kept).map(([path, value]) => {
      const former = Object.keys(FORMER).find((name) => path === name || (name.endsWith(".") && path.startsWith(name)));
      return [former ? FORMER[former] + path.slice(former.length) : path, value];
    }),
  );
  for (const part of ["controls", "ip_adapters"]) {
    if (!Array.isArray(values[part])) continue;
    values[part] = values[part].map(({ begin, shows, ...unit }) => ({
      ...unit,
      ...(begin === undefined ? {} : { start: begin }),
      ...(shows === undefined ? {} : { control_type: shows }),
    }));
  }
  return values;
}

/** The kept model may have changed since, or be gone. */
async function refreshModel(kept) {
  const model = await findModel(kept.name).catch((problem) => (problem.code === "not_found" ? null : kept));
  if (form.get().model?.name !== kept.name) return;
  change({
    model: model ?? { ...kept, problem: `${kept.title} is gone.`, hint: "Put it back, or choose another model." },
  });
}

const USUAL = { sampler: "euler_a", schedule: "automatic", steps: 20, guidance: 7, width: 512, height: 512 };

/** What a fresh form holds for a model. @param {any} model @param {any} [own] a person's own defaults for it */
export function startValues(model, own = ownDefaults(model) ?? {}) {
  const defaults = { ...(model?.defaults ?? USUAL), ...own };
  return {
    prompt: "",
    negative_prompt: own.negative_prompt ?? "",
    model,
    preset: presetOf(model, defaults.width, defaults.height),
    width: String(defaults.width),
    height: String(defaults.height),
    sampler: defaults.sampler,
    schedule: defaults.schedule,
    steps: String(defaults.steps),
    guidance: String(defaults.guidance),
    seed: "",
    count: 1,
    clip_skip: String(own.clip_skip ?? model?.advice?.clip_skip ?? 1),
    emphasis: "original",
    styles: [],
    ...partValues(),
    vae: own.vae ?? "",
    guidance_methods: defaults.cfg_rescale ? [{ id: "cfg_rescale", phi: typed(defaults.cfg_rescale) }] : [],
  };
}

// Parts that are there several times keep their values in their units.
const MANY = /^(controls|ip_adapters|loras|hypernetworks|regions\.regions|upscale)\./;

function partValues() {
  const plain = Object.entries(config.defaults).filter(([path]) => !MANY.test(path));
  return {
    ...Object.fromEntries(plain.map(([path, value]) => [path, typed(value)])),
    "init_image.image": null,
    "init_image.depth": null,
    "init_image.follow": true,
    "inpaint.follow": true,
    "inpaint.mode": "paint",
    controls: [],
    ip_adapters: [],
    loras: [],
    hypernetworks: [],
    "regions.regions": [],
    vae: "",
    tiling: "",
    "refiner.model": "",
    prompt_2: "",
    negative_prompt_2: "",
    hires: false,
    loops: "1",
  };
}

/** A default as it would have been typed. */
export function typed(value) {
  if (value === null) return "";
  return typeof value === "number" ? String(value) : value;
}

/**
 * The values of one part as a recipe wants them: numbers are numbers, empty fields are left out.
 * @param {string} part like "init_image"
 * @param {any} values by path, "init_image.strength"
 */
export function partOf(part, values) {
  /** @type {Object<string, any>} */
  const found = {};
  for (const [path, standard] of Object.entries(config.defaults)) {
    const name = path.slice(part.length + 1);
    if (!path.startsWith(`${part}.`) || name.includes(".") || values[path] === "" || values[path] === undefined)
      continue;
    found[name] = typeof standard === "number" || path in config.limits ? number(values[path]) : values[path];
  }
  return found;
}

/** What a person filled in, as text: a preview that arrives or a model's details change nothing of it. */
export const filledIn = () =>
  JSON.stringify(form.get(), (key, value) => {
    if (key === "map" || key === "preview") return undefined;
    return key === "model" ? (value?.name ?? value) : value;
  });

/** Change some fields. */
export function change(patch) {
  form.set(fitted({ ...form.get(), ...patch }));
}

/** Take another model: what stood on the old one's defaults moves to the new one's; the rest stays. */
export function chooseModel(model) {
  moveFrom(startValues(form.get().model), model);
}

/** Take the chosen model's defaults after they changed: what stood on those before moves to them; the rest stays. */
export function takeDefaults(before) {
  moveFrom(before, form.get().model);
}

function moveFrom(before, model) {
  const now = form.get();
  const after = startValues(model);
  const patch = { model, prediction: undefined };
  for (const name of ["sampler", "schedule", "steps", "guidance", "clip_skip", "vae", "negative_prompt"]) {
    if (now[name] === before[name]) patch[name] = after[name];
  }
  if (JSON.stringify(now.guidance_methods) === JSON.stringify(before.guidance_methods))
    patch.guidance_methods = after.guidance_methods;
  const isUsual = now.width === before.width && now.height === before.height;
  const isOwn = isUsual && ownDefaults(model)?.width;
  const sized = isOwn ? undefined : model?.sizes?.[now.preset];
  if (now.preset !== "custom" || isUsual) {
    const [width, height] = sized ?? [after.width, after.height];
    Object.assign(patch, { preset: sized ? now.preset : after.preset, width: String(width), height: String(height) });
  }
  change(patch);
}

/** The key of a size among the model's, or "custom". */
export function presetOf(model, width, height) {
  for (const [name, [w, h]] of Object.entries(model?.sizes ?? {})) {
    if (w === Number(width) && h === Number(height)) return name;
  }
  return "custom";
}

// What makes no sense together is not offered, so it can't stay chosen: a sampler with the model, a schedule with it.
function fitted(values) {
  const offered = schedulesFor(values.sampler, values.model);
  if (!offered.length) return { ...values, sampler: values.model.defaults.sampler, schedule: "automatic" };
  const hires = values["hires.sampler"];
  if (hires && !schedulesFor(hires, values.model).length) return fitted({ ...values, "hires.sampler": "" });
  return offered.includes(values.schedule) ? values : { ...values, schedule: "automatic" };
}

/** A typed number with comma or point; NaN where it is none. */
export function number(text) {
  const plain = String(text).trim().replace(",", ".");
  return /^[+-]?(\d+\.?\d*|\.\d+)$/.test(plain) ? Number(plain) : NaN;
}
