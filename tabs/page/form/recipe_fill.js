// Fills the form from a recipe (a picture's, a file's), with a way back.

import { config, samplerLabel, schedulesFor } from "../core/config.js";
import { findModel } from "../core/model_list.js";
import { formTab, go } from "../core/route.js";
import { announce } from "../ui/live.js";
import { offerUndo } from "../ui/undo_bar.js";
import { isDynamic } from "./dynamic_text.js";
import { change, form, presetOf } from "./form.js";
import { fillRest } from "./panes.js";
import { allParts } from "./recipe_parts.js";
import { followKey, usualSize } from "./size.js";
import { followedSize } from "./size_rule.js";
import { stylesOf } from "./styles.js";

const PLAIN = ["prompt", "negative_prompt", "sampler", "schedule", "emphasis"];
const NUMBERS = ["steps", "guidance", "clip_skip", "width", "height"];

// What a recipe may hold and the form has a place for, or finds again by itself (embeddings, by the prompts' words);
// extras have a sentence of their own. tests/browser/test_recipe_fill.py holds it against the contract.
const KNOWN = new Set([
  ...PLAIN,
  ...NUMBERS,
  "schema",
  "model",
  "seed",
  "count",
  "init_image",
  "mask",
  "controls",
  "ip_adapters",
  "loras",
  "hypernetworks",
  "tiling",
  "prompt_2",
  "negative_prompt_2",
  "guidance_methods",
  "regions",
  "vae",
  "hires",
  "sampling",
  "noise",
  "size_conditioning",
  "embeddings",
  "refiner",
  "extras",
  "parent",
  "styles",
  "template",
  "dynamic",
]);

/**
 * Put a recipe, or what is known of one, into the form, and show a tab that has a place for all of it. Plain
 * fields it doesn't speak of stay; parts it lacks are taken out.
 * @param {any} recipe
 * @param {{seed?: string, count?: number, words: string}} how words: what the undo bar says
 */
export async function fillForm(recipe, { seed, count, words }) {
  fillRest();
  const before = form.get();
  const patch = {};
  for (const name of PLAIN) if (typeof recipe[name] === "string") patch[name] = recipe[name];
  for (const name of NUMBERS)
    if (recipe[name] !== undefined && recipe[name] !== null) patch[name] = String(recipe[name]);
  if (recipe.prompt !== undefined && recipe.negative_prompt === undefined) patch.negative_prompt = "";
  const wantedSeed = seed ?? recipe.seed;
  if (wantedSeed !== undefined && wantedSeed !== null) patch.seed = String(wantedSeed);
  patch.count = count ?? recipe.count ?? 1;
  patch.styles = [];
  Object.assign(patch, await stylesOf(recipe));
  const { template } = recipe;
  const isTemplate = isDynamic(template?.prompt ?? "") || isDynamic(template?.negative_prompt ?? "");
  patch.template = isTemplate ? { ...template, drawn: patch.prompt } : null;
  const missing = await takeModel(recipe.model, patch);
  const model = patch.model ?? before.model;
  patch.preset = presetOf(model, patch.width ?? before.width, patch.height ?? before.height);
  const gaps = await Promise.all(allParts().map((part) => part.read?.(recipe, patch)));
  gaps.push(...notTaken(recipe), schedulePair(patch, before, model));
  const tab = tabFor(recipe);
  if (recipe.init_image) patch[followKey(tab)] = isFollowed(patch, model, recipe.mask);
  go(tab);
  change(patch);
  const gone = missing ? `Made with “${missing}”, which is not here. The rest is in the form.` : words;
  const sentence = [gone, ...gaps].filter(Boolean).join(" ");
  announce(sentence);
  offerUndo(sentence, () => form.set(before));
}

// Whether the size is just what the start picture gives by itself: then the next picture gives its own.
function isFollowed(values, model, mask) {
  const picture = values["init_image.image"];
  if (!picture || (mask && mask.area !== "masked" && !mask.keep_size)) return false;
  const { width, height } =
    mask?.area === "masked" ? usualSize(model) : followedSize(picture, usualSize(model), Boolean(mask));
  return String(width) === values.width && String(height) === values.height;
}

// What the form has no place for.
function notTaken(recipe) {
  const extensions = Object.keys(recipe.extras ?? {});
  const others = Object.keys(recipe).filter((name) => !KNOWN.has(name));
  return [
    extensions.length ? `Not in the form: settings of ${extensions.join(", ")}.` : "",
    others.length ? `Not in the form: ${others.join(", ")}.` : "",
  ];
}

// Only pairs that make sense are offered; the form takes Automatic instead of another.
function schedulePair(patch, before, model) {
  const sampler = patch.sampler ?? before.sampler;
  const schedule = patch.schedule ?? before.schedule;
  const isOffered = schedulesFor(sampler, model).includes(schedule);
  if (isOffered || schedule === "automatic") return "";
  const label = config.schedules[schedule] ?? schedule;
  return `${label} does not go with ${samplerLabel(sampler)} on this model; Automatic is used.`;
}

// The chosen tab if it shows all that the recipe has, else the first that does.
function tabFor(recipe) {
  if (recipe.mask || recipe.init_image?.outpaint) return "inpaint";
  if (recipe.init_image) return "img2img";
  if (recipe.controls?.length) return "controlnet";
  const now = formTab();
  const isPlain = !config.sections[now].includes("strength_field");
  return isPlain && now !== "controlnet" ? now : "txt2img";
}

async function takeModel(wanted, patch) {
  const name = typeof wanted === "string" ? wanted : wanted?.name;
  if (!name) return null;
  const chosen = form.get().model;
  const model = name === chosen?.name ? chosen : await findModel(name).catch(() => null);
  if (!model) return name;
  if (model !== chosen) patch.model = model;
  // What the model predicted then, where that is not what it does here now.
  const then = typeof wanted === "string" ? undefined : (wanted.prediction ?? null);
  patch.prediction = then === undefined || then === (model.prediction ?? null) ? undefined : then;
  return null;
}
