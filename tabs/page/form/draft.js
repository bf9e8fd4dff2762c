// The form as the draft that is sent: the fields that all tabs share, and what the tab's sections add.

import { formTab } from "../core/route.js";
import { hasDynamic } from "./dynamic_text.js";
import { form, number } from "./form.js";
import { partsOf } from "./recipe_parts.js";
import { sizeOf } from "./size.js";

/**
 * Build it. Only call it when form/rules.js finds nothing wrong. Pictures may be on their way for a moment.
 * @param {string} [tab]
 * @param {any} [instead] values to use in place of the form's
 */
export async function draft(tab = formTab(), instead = {}) {
  const now = { ...form.get(), ...instead };
  const { width, height } = sizeOf(now, tab);
  const sent = {
    prompt: now.prompt,
    negative_prompt: now.negative_prompt,
    sampler: now.sampler,
    schedule: now.schedule,
    steps: number(now.steps),
    guidance: number(now.guidance),
    clip_skip: number(now.clip_skip),
    emphasis: now.emphasis,
    styles: now.styles,
    dynamic: hasDynamic(now),
    width,
    height,
    count: now.count,
  };
  if (now.model) sent.model = modelOf(now);
  if (now.seed.trim()) sent.seed = now.seed.trim();
  for (const part of partsOf(tab)) await part.write?.(sent, now);
  return sent;
}

// By name the model predicts what it does here now; a recipe that was filled in may say otherwise.
function modelOf({ model, prediction }) {
  if (prediction === undefined) return model.name;
  return { kind: "checkpoint", name: model.name, family: model.family, prediction };
}
