// What a picture of the gallery is called; one that was enlarged has no recipe of its own.

import { cut } from "../core/words.js";

/** Its prompt, or what was done to make it. */
export function titleOfPicture(record, length = 120) {
  if (record.recipe) return cut(record.recipe.prompt, length) || "No prompt";
  return record.upscale ? `Upscaled ${record.upscale.scale}×` : "Picture";
}

/** Its recipe as the result pane shows it. */
export function shownRecipe(record, count = 1) {
  if (!record.recipe) return { prompt: titleOfPicture(record), count, before: record.upscale?.image.sha256 };
  const { init_image: start } = record.recipe;
  const before = start && !start.outpaint ? { before: start.image.sha256, resize: start.resize } : {};
  return { ...before, ...record.recipe, seed: record.seed, model: record.recipe.model.name, count };
}
