// How large the result will be: what the form says, or on tabs with a start picture, what the picture says.

import { config } from "./config.js";
import { number } from "./form.js";

const MUCH = 1.5;

/** Whether a tab can take its size from a picture. */
export const canFollow = (tab) => Boolean(config.sections[tab]?.includes("strength_field"));

/** Whether the size is the start picture's now. */
export const follows = (values, tab) => canFollow(tab) && values["start.follow"] && Boolean(values["start.image"]);

/**
 * The size that is asked for, in pixels; NaN where nothing sensible was typed.
 * @param {any} values of the form
 * @param {string} tab
 */
export function sizeOf(values, tab) {
  if (!follows(values, tab)) return { width: number(values.width), height: number(values.height) };
  const usual = values.model?.defaults ?? { width: 512, height: 512 };
  // Only the masked area is painted: at the model's own size.
  if (tab === "inpaint" && values["mask.area"] === "masked") return { width: usual.width, height: usual.height };
  return fitted(values["start.image"], usual.width * usual.height);
}

/** The size of what comes out: where only the masked area is painted, that of the picture it is put back into. */
export function resultSize(values, tab) {
  const picture = values["start.image"];
  const isPutBack = tab === "inpaint" && picture && values["inpaint.mode"] !== "extend" && values["mask.area"] === "masked";
  return isPutBack ? { width: picture.width, height: picture.height } : sizeOf(values, tab);
}

/** A picture's own size in steps of 8; brought to what the model is used to where it is much larger. */
export function fitted({ width, height }, area) {
  const shrink = width * height > MUCH * area ? Math.sqrt(area / (width * height)) : 1;
  const { side: [low, high], side_multiple: step } = config.limits;
  const fit = (side) => Math.min(high, Math.max(low, Math.round((side * shrink) / step) * step));
  return { width: fit(width), height: fit(height) };
}
