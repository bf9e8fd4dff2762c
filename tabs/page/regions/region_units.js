// Regions in the form: what is wrong with a value, and how they go into a recipe and come out of it. Changes of where
// they are can be undone and redone.

import { config } from "../core/config.js";
import { modelTitle } from "../core/model_list.js";
import { formTab } from "../core/route.js";
import { findUpload, refOf } from "../core/uploads.js";
import { short, some } from "../core/words.js";
import { change, form, number, partOf, typed } from "../form/form.js";
import { judgeText, ranged } from "../form/rules.js";
import { resultSize } from "../form/size.js";
import { unitsOf } from "../form/units.js";
import { boxWords, FIRST } from "./boxes.js";
import { fittedMask } from "./region_mask.js";

export const PART = "regions.regions";

/**
 * One region in the form.
 * @typedef {Object} Region
 * @property {string} id of this form's
 * @property {string} prompt
 * @property {string|null} negative_prompt null: the recipe's counts
 * @property {string} weight as typed
 * @property {import("./boxes.js").Box} box where it is, unless a mask says it
 * @property {import("../core/uploads.js").Upload|null} mask
 */

/** @returns {Region[]} */
export const regionsOf = (values = form.get()) => unitsOf(PART, values);
/** @returns {Region|undefined} */
export const regionOf = (id, values = form.get()) => regionsOf(values).find((one) => one.id === id);
/** Its number from 1; 0 where it is gone. */
export const numberOf = (id, values = form.get()) => regionsOf(values).findIndex((one) => one.id === id) + 1;

/** @returns {Region} */
export const freshRegion = (box = FIRST) => ({
  id: Math.random().toString(36).slice(2, 10),
  prompt: "",
  negative_prompt: null,
  weight: typed(config.defaults[`${PART}.weight`]),
  box,
  mask: null,
});

/** Change some values of one region. */
export function setRegion(id, patch) {
  change({ [PART]: regionsOf().map((one) => (one.id === id ? { ...one, ...patch } : one)) });
}

// Where regions were, and where they were taken back from.
const MOST_STEPS = 100;
const steps = { undo: /** @type {Region[][]} */ ([]), redo: /** @type {Region[][]} */ ([]) };
let lastKey = "";

/**
 * Add, remove or place regions, so that it can be undone.
 * @param {Region[]} regions all of them from now on
 * @param {string} [key] of moves that are undone together: those of one region by keys
 */
export function placeRegions(regions, key = "") {
  if (!key || key !== lastKey) {
    steps.undo = [...steps.undo, regionsOf()].slice(-MOST_STEPS);
    steps.redo = [];
  }
  lastKey = key;
  change({ [PART]: regions });
}

/** What was written meanwhile stays: only places come back, and regions. @param {"undo"|"redo"} way */
export function travel(way) {
  const regions = steps[way].pop();
  if (!regions) return false;
  steps[way === "undo" ? "redo" : "undo"].push(regionsOf());
  lastKey = "";
  change({
    [PART]: regions.map((one) => {
      const now = regionOf(one.id);
      return now ? { ...now, box: one.box, mask: one.mask } : one;
    }),
  });
  return true;
}

export const canTravel = (way) => steps[way].length > 0;

/** What is wrong with one value of a region. */
function judgeRegion(region, name) {
  if (name === "weight") return ranged(`${PART}.weight`, region.weight);
  return name === "prompt" || name === "negative_prompt" ? judgeText(`${PART}.${name}`, region[name] ?? "") : null;
}

/** Where one value of a region lives. @returns {import("../form/bound.js").Via} */
export const regionVia = (id, name) => ({
  get: (values) => regionOf(id, values)?.[name],
  set: (value) => setRegion(id, { [name]: value }),
  standard: () => typed(config.defaults[`${PART}.${name}`]),
  judge: () => {
    const region = regionOf(id);
    return region ? judgeRegion(region, name) : null;
  },
  field: `${PART}.${name}-${id}`,
});

/** The rule of the part: the first value that is wrong. */
export function regionsRule(values) {
  for (const region of regionsOf(values)) {
    for (const name of ["prompt", "negative_prompt", "weight"]) {
      const problem = judgeRegion(region, name);
      if (problem) return { ...problem, at: `${PART}.${name}-${region.id}` };
    }
  }
  return null;
}

/** The rule of the recipe's own share; it counts where there are regions. */
export const baseRule = (values) => (regionsOf(values).length ? ranged("regions.base", values["regions.base"]) : null);

/** Put the regions into a draft. A mask takes the shape of the picture, as a box does. */
export async function writeRegions(draft, values) {
  const regions = regionsOf(values);
  if (!regions.length) return;
  const size = resultSize(values, formTab());
  const written = regions.map(async ({ prompt, negative_prompt, weight, box, mask }) => ({
    prompt,
    ...(negative_prompt === null ? {} : { negative_prompt }),
    weight: number(weight),
    ...(mask ? { mask: refOf(await fittedMask(mask, size)) } : { box }),
  }));
  draft.regions = { ...partOf("regions", values), regions: await Promise.all(written) };
}

/** Take the regions of a recipe over; LoRAs that act in one stand in its prompt again, as tags. */
export async function readRegions({ regions: part }, patch) {
  const given = part?.regions ?? [];
  const masks = await Promise.all(given.map(({ mask }) => (mask ? findUpload(mask.sha256) : null)));
  for (const name of ["base", "common"])
    patch[`regions.${name}`] = typed(part?.[name] ?? config.defaults[`regions.${name}`]);
  patch[PART] = given.map((one, index) => ({
    ...freshRegion(one.box ?? FIRST),
    prompt: [one.prompt, ...(one.loras ?? []).map(tagOf)].filter(Boolean).join(" "),
    negative_prompt: one.negative_prompt ?? null,
    weight: typed(one.weight ?? config.defaults[`${PART}.weight`]),
    mask: masks[index],
  }));
  const isGone = given.some(({ mask }, index) => mask && !masks[index]);
  return isGone ? "The mask of a region is not here any more: it is a box now." : "";
}

function tagOf({ model, weight = 1, text_weight: text = null, blocks = [] }) {
  const weights = text === null ? [weight] : [`te=${text}`, `unet=${weight}`];
  return `<lora:${[model.name ?? model, ...weights, ...(blocks.length ? [`lbw=${blocks.join(",")}`] : [])].join(":")}>`;
}

/** For the closed section. */
export const regionsSummary = (values) => (regionsOf(values).length ? some(regionsOf(values).length, "region") : "");

/** What of a region's folded fields is not the usual. */
export const regionMore = ({ weight, negative_prompt: negative }) =>
  [number(weight) !== config.defaults[`${PART}.weight`] && weight.trim(), negative && "negative"]
    .filter(Boolean)
    .join(", ");

/** The regions of a recipe to read: a pair of words for each, and for what they share where it is not the usual. */
export function regionRows(part) {
  if (!part) return [];
  const { base = config.defaults["regions.base"], common } = part;
  return [
    ...part.regions.map((one, index) => [`Region ${index + 1}`, regionWords(one)]),
    base !== config.defaults["regions.base"] && [config.labels["regions.base"], `${short(100 * base)}%`],
    common === false && [config.labels["regions.common"], "no"],
  ];
}

function regionWords({ prompt, negative_prompt: negative, weight = 1, box, loras = [] }) {
  return [
    prompt.trim() || "No prompt of its own",
    negative && `not ${negative}`,
    box ? boxWords(box) : "painted mask",
    weight !== 1 && `weight ${short(weight)}`,
    ...loras.map(({ model, weight: strength = 1 }) => `LoRA ${modelTitle(model.name ?? model)} ${short(strength)}`),
  ]
    .filter(Boolean)
    .join("; ");
}
