// Styles applied to a prompt: their names in the form, and how they change a text.

import { announce } from "../ui/live.js";
import { change, form } from "./form.js";
import { styles } from "./parts_list.js";

const PLACE = "{prompt}";

/** Apply one more style, or take one off. */
export function toggleStyle(name) {
  const { styles: names } = form.get();
  const isOn = names.includes(name);
  change({ styles: isOn ? names.filter((one) => one !== name) : [...names, name] });
  announce(isOn ? `Style ${name} is off.` : `Style ${name} is on.`);
}

/** A text with those of some styles, as `studio/prompts/styles.py` applies them. */
function withStyles(text, texts) {
  return texts.reduce(
    (now, style) =>
      style.includes(PLACE)
        ? style.replaceAll(PLACE, () => now)
        : [now.trim(), style.trim()].filter(Boolean).join(", "),
    text,
  );
}

/**
 * The styles of a recipe for the form, with the prompts as they were before; null where the styles that are here
 * would give other prompts.
 */
export async function stylesOf({ template, prompt, negative_prompt: negative = "" }) {
  if (!template?.styles?.length) return null;
  await styles.refresh();
  const found = template.styles.map((name) => styles.find(name));
  if (!found.every(Boolean)) return null;
  const isSame =
    withStyles(
      template.prompt ?? "",
      found.map((one) => one.prompt),
    ) === prompt &&
    withStyles(
      template.negative_prompt ?? "",
      found.map((one) => one.negative_prompt),
    ) === negative;
  if (!isSame) return null;
  return {
    prompt: template.prompt ?? "",
    negative_prompt: template.negative_prompt ?? "",
    styles: template.styles,
  };
}
