// A recipe to read: the prompt first, then pairs; rows only for what was used.

import { thumbnailUrl } from "../core/api.js";
import { config, samplerLabel } from "../core/config.js";
import { modelTitle } from "../core/model_list.js";
import { pixels, short } from "../core/words.js";
import { methodWords } from "../guidance/guidance_units.js";
import { regionRows } from "../regions/region_units.js";
import { SECOND_PROMPTS } from "../sections/second_prompts.js";
import { sizeConditioningWords } from "../sections/size_conditioning.js";
import { tilingWords } from "../sections/tiling_field.js";
import { h } from "../ui/dom.js";

/** @param {any} record a picture as the gallery has it @returns {HTMLElement} */
export function recipeList(record) {
  const { recipe } = record;
  if (!recipe) return h("dl.recipe", {}, ...pairs(upscaleRows(record)));
  const prompts = [
    h("div.long", {}, h("dt", {}, config.labels.prompt), h("dd.prompt", {}, recipe.prompt || "No prompt")),
  ];
  if (recipe.negative_prompt) {
    prompts.push(h("div.long", {}, h("dt", {}, config.labels.negative_prompt), h("dd", {}, recipe.negative_prompt)));
  }
  for (const name of SECOND_PROMPTS)
    if (recipe[name]) prompts.push(h("div.long", {}, h("dt", {}, config.labels[name]), h("dd", {}, recipe[name])));
  const schedule = config.schedules[recipe.schedule] ?? recipe.schedule;
  const rows = [
    ["Model", modelTitle(recipe.model.name)],
    ["Sampler", `${samplerLabel(recipe.sampler)}, ${schedule}`],
    ["Steps", String(recipe.steps)],
    ["Guidance", short(recipe.guidance)],
    ["Size", pixels(record.width, record.height)],
    ["Seed", record.seed],
    (recipe.clip_skip ?? 1) !== 1 && ["Clip skip", String(recipe.clip_skip)],
    recipe.template?.styles?.length && ["Styles", recipe.template.styles.join(", ")],
    recipe.template?.prompt && recipe.template.prompt !== recipe.prompt && ["Template", recipe.template.prompt],
    recipe.emphasis && recipe.emphasis !== "original" && ["Emphasis", config.emphases[recipe.emphasis]],
    recipe.tiling && [config.labels.tiling, tilingWords(recipe.tiling)],
    recipe.vae && ["VAE", nameOf(recipe.vae)],
    ...(recipe.loras ?? []).map((lora) => ["LoRA", `${nameOf(lora.model)} ${short(lora.weight)}${textWeight(lora)}`]),
    ...(recipe.hypernetworks ?? []).map((net) => ["Hypernetwork", `${nameOf(net.model)} ${short(net.weight)}`]),
    ...(recipe.guidance_methods ?? []).map((method) => ["Guidance method", methodWords(method)]),
    ...regionRows(recipe.regions),
    ...partRows(recipe),
    parentRow(record),
  ];
  return h("dl.recipe", {}, ...prompts, h("hr", {}), ...pairs(rows));
}

const pairs = (rows) =>
  rows
    .filter(Boolean)
    .map(([name, value]) => h("div", {}, h("dt", {}, name), h(name === "Seed" ? "dd.mono" : "dd", {}, value)));

const nameOf = (model) => modelTitle(model?.name ?? model);

// How strongly a LoRA acts on the text encoders, where that is set apart.
const textWeight = ({ text_weight: weight }) => (typeof weight === "number" ? `, text ${short(weight)}` : "");

// Rows of the parts that were used.
function partRows({ init_image: start, mask, controls = [], ip_adapters = [], hires, ...rest }) {
  return [
    start && ["Strength", short(start.strength)],
    start?.outpaint && [
      "Extended",
      ["left", "right", "up", "down"]
        .filter((side) => start.outpaint[side])
        .map((side) => `${side} ${start.outpaint[side]} px`)
        .join(", "),
    ],
    mask && [
      "Mask",
      [mask.area === "masked" ? "masked area only" : "whole picture", `blur ${mask.blur} px`].join(", "),
    ],
    ...controls.map((control) => {
      const preprocessor = control.preprocessor === "none" ? "" : `, ${control.preprocessor}`;
      return ["ControlNet", `${control.model ? nameOf(control.model) : "No model"} ${short(control.weight)}${preprocessor}`];
    }),
    ...ip_adapters.map((reference) => ["Picture as prompt", `${nameOf(reference.model)} ${short(reference.weight)}`]),
    hires && ["Hires pass", `${short(hires.scale)}×, ${nameOf(hires.upscaler)}, strength ${short(hires.strength)}`],
    hires?.guidance_methods && ["Hires guidance", hires.guidance_methods.map(methodWords).join(", ") || "No methods"],
    rest.refiner && ["Refiner", `${nameOf(rest.refiner.model)} from ${short(rest.refiner.at)}`],
    rest.size_conditioning && ["Size conditioning", sizeConditioningWords(rest.size_conditioning)],
  ];
}

function upscaleRows(record) {
  return [
    record.upscale && ["Upscaled", `${short(record.upscale.scale)}×`],
    record.upscale && ["Upscaler", nameOf(record.upscale.upscaler)],
    ["Size", pixels(record.width, record.height)],
    parentRow(record),
  ];
}

// The picture it was made from, to go there.
function parentRow({ parent }) {
  if (!parent) return null;
  return [
    "Made from",
    h(
      "a.parent",
      { href: `#/gallery/${encodeURIComponent(parent)}` },
      h("img", { src: thumbnailUrl(parent), alt: "", loading: "lazy", onerror: (event) => event.target.remove() }),
      "another picture",
    ),
  ];
}
