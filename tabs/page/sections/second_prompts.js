// Prompts for the second text encoder, for models that have one: what is empty is read as the prompts above.

import { config } from "../core/config.js";
import { entry } from "../form/bound.js";
import { form } from "../form/form.js";
import { judgeText } from "../form/rules.js";
import { h } from "../ui/dom.js";

export const SECOND_PROMPTS = ["prompt_2", "negative_prompt_2"];

const takesThem = ({ model }) => config.second_prompt_families.includes(model?.family);

/** Both fields, to stand in a section. */
export function secondPrompts() {
  const box = h("div.stack", {}, ...SECOND_PROMPTS.map((name) => entry(name, { placeholder: "As above" })));
  form.watch((now) => {
    box.hidden = !takesThem(now);
  });
  return box;
}

/** What they add to the recipe. @type {import("../form/recipe_parts.js").RecipePart} */
export const secondPromptsPart = {
  write: (draft, now) => {
    if (takesThem(now)) for (const name of SECOND_PROMPTS) if (now[name]) draft[name] = now[name];
  },
  read: (recipe, patch) => {
    for (const name of SECOND_PROMPTS) patch[name] = recipe[name] ?? "";
  },
  rules: Object.fromEntries(
    SECOND_PROMPTS.map((name) => [name, (now) => (takesThem(now) ? judgeText(name, now[name] ?? "") : null)]),
  ),
};

/** For the closed section. */
export const secondPromptsSummary = (now) =>
  takesThem(now) && SECOND_PROMPTS.some((name) => now[name]) ? "second prompt" : "";
