// A recipe to read: the prompt first, then pairs; rows only for what was used.

import { config, samplerLabel } from "./config.js";
import { h } from "./dom.js";
import { modelTitle } from "./models.js";
import { pixels, short } from "./words.js";

/** @param {any} record a picture as the gallery has it @returns {HTMLElement} */
export function recipeList(record) {
  const { recipe } = record;
  const prompts = [h("div.long", {}, h("dt", {}, config.labels.prompt), h("dd.prompt", {}, recipe.prompt || "No prompt"))];
  if (recipe.negative_prompt) {
    prompts.push(h("div.long", {}, h("dt", {}, config.labels.negative_prompt), h("dd", {}, recipe.negative_prompt)));
  }
  const schedule = config.schedules[recipe.schedule] ?? recipe.schedule;
  const rows = [
    ["Model", modelTitle(recipe.model.name)],
    ["Sampler", `${samplerLabel(recipe.sampler)}, ${schedule}`],
    ["Steps", String(recipe.steps)],
    ["Guidance", short(recipe.guidance)],
    ["Size", pixels(record.width, record.height)],
    ["Seed", record.seed],
    (recipe.clip_skip ?? 1) !== 1 && ["Clip skip", String(recipe.clip_skip)],
    ...(recipe.loras ?? []).map((lora) => ["LoRA", `${lora.ref.name} ${short(lora.weight)}`]),
    record.parent && ["Made from", `picture ${record.parent}`],
  ].filter(Boolean);
  return h("dl.recipe", {}, ...prompts, h("hr", {}), ...rows.map(([name, value]) =>
    h("div", {}, h("dt", {}, name), h(name === "Seed" ? "dd.mono" : "dd", {}, value))));
}
