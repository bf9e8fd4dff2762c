// The rule for sizes, as contract/sizes.py has it; its numbers come with the configuration. Sizes are {width, height}.

import { config } from "../core/config.js";

// As Python rounds: halves go to the even neighbor.
function round(value) {
  const below = Math.floor(value);
  const rest = value - below;
  if (rest !== 0.5) return rest < 0.5 ? below : below + 1;
  return below % 2 ? below + 1 : below;
}

const both = ({ width, height }, change) => ({ width: change(width), height: change(height) });
const toMultiple = (length) => round(length / config.limits.side_multiple) * config.limits.side_multiple;

/** The size of a hires pass, from that of the first. */
export const hiresSize = (size, scale) => both(size, (side) => toMultiple(side * scale));

/** The size of an enlarged picture. */
export const upscaledSize = (size, scale) => both(size, (side) => round(side * scale));

/** What of a picture stays when it is extended: cut at the right and at the foot. */
export const innerSize = (size) =>
  both(size, (side) => Math.floor(side / config.limits.side_multiple) * config.limits.side_multiple);

/**
 * The size of a picture with the sides it gains.
 * @param {{width: number, height: number}} size
 * @param {{left: number, right: number, up: number, down: number}} gained
 */
export function extendedSize(size, gained) {
  const { left, right, up, down } = gained;
  const { width, height } = innerSize(size);
  return { width: width + left + right, height: height + up + down };
}

/**
 * The size that is painted of a start picture, on a model that usually makes `usual`. isMasked: under a mask there is
 * more room
 */
export function followedSize(size, usual, isMasked = false) {
  const {
    side: [low, high],
    size_room,
    masked_room,
    max_pixels,
  } = config.limits;
  const [room, most] = isMasked ? [masked_room, max_pixels] : [size_room, Infinity];
  const [pixels, usually] = [size.width * size.height, Math.min(usual.width * usual.height, most)];
  const scale = pixels > Math.min(room * usually, most) ? Math.sqrt(usually / pixels) : 1;
  return both(size, (side) => Math.min(high, Math.max(low, toMultiple(side * scale))));
}

/** The resolution at which a control map is as large as the result; as engine/images/preprocessors.py has it. */
export function mapResolution(picture, size, resize) {
  const [low, high] = config.limits["controls.resolution"];
  const ratios = [size.width / picture.width, size.height / picture.height];
  const ratio = resize === "fill" ? Math.min(...ratios) : Math.max(...ratios);
  return Math.min(high, Math.max(low, round(ratio * Math.min(picture.width, picture.height))));
}
