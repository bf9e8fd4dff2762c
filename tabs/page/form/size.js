// How large the result will be: what the form says, or on tabs with a start picture, what the picture says; and what
// happens to a picture that is not brought to just its own size.

import { config } from "../core/config.js";
import { pixels } from "../core/words.js";
import { number } from "./form.js";
import { extendedSize, followedSize, hiresSize } from "./size_rule.js";

const SIDES = ["left", "right", "up", "down"];
const isSame = (one, other) => one.width === other.width && one.height === other.height;

/** Whether a tab can take its size from a picture. */
export const canFollow = (tab) => Boolean(config.sections[tab]?.includes("strength_field"));

/** The value that says whether it does: a size that is chosen for one tab is not meant for another. */
export const followKey = (tab) => (tab === "inpaint" ? "inpaint.follow" : "init_image.follow");

/** Whether the size is the start picture's now. */
export const follows = (values, tab) => canFollow(tab) && values[followKey(tab)] && Boolean(values["init_image.image"]);

/** Pixels that a side of the start picture gains; 0 where nothing sensible was typed. */
export const gainOf = (values, side) => Math.max(0, number(values[`init_image.outpaint.${side}`]) || 0);

const isExtended = (values, tab) =>
  tab === "inpaint" && Boolean(values["init_image.image"]) && values["inpaint.mode"] === "extend";
const isPainted = (values, tab) =>
  tab === "inpaint" && Boolean(values["init_image.image"]) && values["inpaint.mode"] !== "extend";
const isArea = (values, tab) => isPainted(values, tab) && values["mask.area"] === "masked";

/** Whether what is painted is put back into the start picture, which keeps its size. */
export const keepsSize = (values, tab) =>
  isPainted(values, tab) && (isArea(values, tab) || follows(values, tab) || Boolean(values["mask.keep_size"]));

/** The start picture with the sides it gains. */
export const extended = (values) =>
  extendedSize(
    values["init_image.image"],
    /** @type {any} */ (Object.fromEntries(SIDES.map((side) => [side, gainOf(values, side)]))),
  );

/** What a model usually makes. */
export const usualSize = (model) => model?.defaults ?? { width: 512, height: 512 };

/**
 * The size that is asked for, in pixels; NaN where nothing sensible was typed.
 * @param {any} values of the form
 * @param {string} tab
 */
export function sizeOf(values, tab) {
  if (isExtended(values, tab)) return extended(values);
  if (!follows(values, tab)) return { width: number(values.width), height: number(values.height) };
  const { width, height } = usualSize(values.model);
  // Only the masked area is painted: at the model's own size.
  return isArea(values, tab)
    ? { width, height }
    : followedSize(values["init_image.image"], { width, height }, tab === "inpaint");
}

/** The size of what comes out: of the hires pass; of the picture, where what is painted is put back into it. */
export function resultSize(values, tab) {
  const picture = values["init_image.image"];
  if (keepsSize(values, tab)) return { width: picture.width, height: picture.height };
  const size = sizeOf(values, tab);
  const scale = values.hires && config.sections[tab].includes("hires_section") ? number(values["hires.scale"]) : NaN;
  return scale >= 1 ? hiresSize(size, scale) : size;
}

/**
 * What of the start picture the result shows, where "crop" cuts some of it off: left, top, right, bottom in its pixels.
 * @returns {number[]|null} null where all of it is shown
 */
export function shownPart(values, tab) {
  const picture = values["init_image.image"];
  const isCropped = follows(values, tab) || values["init_image.resize"] === "crop";
  if (!picture || !isCropped || keepsSize(values, tab) || isExtended(values, tab)) return null;
  const size = sizeOf(values, tab);
  const ratio = Math.max(size.width / picture.width, size.height / picture.height);
  const [across, down] = [(picture.width - size.width / ratio) / 2, (picture.height - size.height / ratio) / 2];
  return across > 0.5 || down > 0.5 ? [across, down, picture.width - across, picture.height - down] : null;
}

/** What happens to the start picture on its way to the result, where that is not just its size; else "". */
export function sizeNote(values, tab) {
  const picture = values["init_image.image"];
  if (!canFollow(tab) || !picture || isExtended(values, tab)) return "";
  const size = sizeOf(values, tab);
  if (!(size.width > 0 && size.height > 0) || isSame(size, picture)) return "";
  const own = `The picture is ${pixels(picture.width, picture.height)}`;
  if (keepsSize(values, tab)) {
    const painted = isArea(values, tab) ? "the masked area" : "it";
    return `${own} and keeps its size; ${painted} is painted at ${pixels(size.width, size.height)}.`;
  }
  if (!follows(values, tab)) {
    if (values["init_image.resize"] !== "crop" || size.width * picture.height === size.height * picture.width)
      return "";
    return `${own}: what does not fit ${pixels(size.width, size.height)} is cut off. “Picture” keeps its shape.`;
  }
  const {
    side: [low, high],
    side_multiple: step,
    size_room: room,
  } = config.limits;
  const usual = usualSize(values.model);
  const result = `and is brought to ${pixels(size.width, size.height)}`;
  if (picture.width * picture.height > room * usual.width * usual.height) {
    const model = values.model?.title ?? "the model";
    return `${own} ${result}: ${model} usually makes ${pixels(usual.width, usual.height)}.`;
  }
  const isOutside = Math.min(picture.width, picture.height) < low || Math.max(picture.width, picture.height) > high;
  const sides = isOutside ? `${low} to ${high}` : `multiples of ${step}`;
  return `${own} ${result}: sides are ${sides}; what is left over is cut off.`;
}
