// What is painted in a mask editor, as plain pixels: one byte each for a mask or a drawing, four for colors.
// Strokes are capsules with a clean edge. Knows nothing of screens, pointers or undo.

import { config } from "../core/config.js";

/**
 * @typedef {{x: number, y: number, size: number}} Dab size: diameter in pixels of the layer
 * @typedef {{isErasing: boolean, hardness: number, strength: number, color: number[]}} Brush hardness, strength:
 *   0..1; color: red, green, blue, for colors only
 * @typedef {[number, number, number, number]} Rect left, top, right, bottom; right and bottom are outside
 * @typedef {{width: number, height: number, channels: 1|4, data: Uint8ClampedArray, total: number,
 *   solid: number}} Layer
 *   total: sum of the bytes of a mask; solid: how many of them are masked where gray does not count
 */

const LONG = 4;
/** An eraser reaches one pixel further, so that along the same way it takes all that a brush left. */
const WIDER = 2;
/** Wherever a brush as small as this is set down, it masks a pixel. */
const LEAST_SIZE = 1.5;

/** @returns {Layer} an empty one */
export function makeLayer(width, height, channels) {
  return { width, height, channels, data: new Uint8ClampedArray(width * height * channels), total: 0, solid: 0 };
}

/** Whether a byte is masked where gray does not count: as the engine has it. */
export const isSolid = (value) => value >= config.limits.masked_from;

/** How much of a mask is set, 0..1: as the engine takes it. isHard: gray does not count */
export const covered = (layer, isHard) => (isHard ? layer.solid : layer.total / 255) / (layer.width * layer.height);

/** The same of a part of it. @param {Rect} rect */
export function coveredIn(layer, rect, isHard) {
  const area = within(layer, rect);
  if (!area) return 0;
  const [left, top, right, bottom] = area;
  let sum = 0;
  for (let y = top; y < bottom; y += 1) {
    for (let index = y * layer.width + left; index < y * layer.width + right; index += 1) {
      const value = layer.data[index];
      sum += isHard ? Number(isSolid(value)) : value / 255;
    }
  }
  return sum / ((right - left) * (bottom - top));
}

/** Set one byte of a mask. */
export function setByte(layer, index, value) {
  const before = layer.data[index];
  layer.data[index] = value;
  layer.total += value - before;
  layer.solid += Number(isSolid(value)) - Number(isSolid(before));
}

/** The whole of it. @returns {Rect} */
export const wholeOf = ({ width, height }) => [0, 0, width, height];

/** The smallest that holds both; either may be null. */
export function joined(one, other) {
  if (!one || !other) return one ?? other;
  return /** @type {Rect} */ ([
    Math.min(one[0], other[0]),
    Math.min(one[1], other[1]),
    Math.max(one[2], other[2]),
    Math.max(one[3], other[3]),
  ]);
}

/** What of a rectangle lies on the layer, in whole pixels; null where nothing does. */
export function within({ width, height }, [left, top, right, bottom]) {
  const cut = [
    Math.max(0, Math.floor(left)),
    Math.max(0, Math.floor(top)),
    Math.min(width, Math.ceil(right)),
    Math.min(height, Math.ceil(bottom)),
  ];
  return cut[0] < cut[2] && cut[1] < cut[3] ? /** @type {Rect} */ (cut) : null;
}

/** Where a stroke from one dab to the next reaches. */
export function reach(layer, from, to) {
  const room = (Math.max(from.size, to.size) + WIDER) / 2 + 1;
  return within(layer, [
    Math.min(from.x, to.x) - room,
    Math.min(from.y, to.y) - room,
    Math.max(from.x, to.x) + room,
    Math.max(from.y, to.y) + room,
  ]);
}

/** Paint or erase from one dab to the next. */
export function stroke(layer, from, to, brush) {
  const length = Math.hypot(to.x - from.x, to.y - from.y);
  const pieces = Math.max(1, Math.ceil(length / (LONG * Math.max(from.size, to.size, 8))));
  const more = brush.isErasing ? WIDER : 0;
  const at = (part) => ({
    x: from.x + (to.x - from.x) * part,
    y: from.y + (to.y - from.y) * part,
    size: Math.max(LEAST_SIZE, from.size + (to.size - from.size) * part) + more,
  });
  for (let piece = 0; piece < pieces; piece += 1) capsule(layer, at(piece / pieces), at((piece + 1) / pieces), brush);
}

function capsule(layer, from, to, brush) {
  const area = reach(layer, from, to);
  if (!area) return;
  const [left, top, right, bottom] = area;
  const [dx, dy] = [to.x - from.x, to.y - from.y];
  const length2 = dx * dx + dy * dy || 1;
  const put = layer.channels === 1 ? maskPutter(layer, brush) : colorPutter(layer, brush);
  for (let y = top; y < bottom; y += 1) {
    for (let x = left; x < right; x += 1) {
      const [px, py] = [x + 0.5 - from.x, y + 0.5 - from.y];
      const part = Math.min(1, Math.max(0, (px * dx + py * dy) / length2));
      const distance = Math.sqrt((px - dx * part) ** 2 + (py - dy * part) ** 2);
      const radius = (from.size + (to.size - from.size) * part) / 2;
      const share = coverage(distance, radius, brush.hardness);
      if (share > 0) put(y * layer.width + x, share);
    }
  }
}

// 1 inside, 0 outside; between them one pixel for a hard brush, a smooth slope for a soft one.
function coverage(distance, radius, hardness) {
  const inner = radius * hardness;
  if (radius - inner < 1) return Math.min(1, Math.max(0, radius - distance + 0.5));
  const slope = Math.min(1, Math.max(0, (distance - inner) / (radius - inner)));
  return 1 - slope * slope * (3 - 2 * slope);
}

// The largest wins, so that a stroke over itself does not grow: a brush of half strength sets one half.
function maskPutter(layer, { isErasing, strength }) {
  const { data } = layer;
  return (index, share) => {
    const before = data[index];
    const value = Math.round(255 * share * strength);
    setByte(layer, index, isErasing ? Math.min(before, 255 - value) : Math.max(before, value));
  };
}

function colorPutter({ data }, { isErasing, strength, color }) {
  return (index, share) => {
    const at = 4 * index;
    const alpha = data[at + 3] / 255;
    const part = share * strength;
    if (isErasing) {
      data[at + 3] = Math.round(255 * alpha * (1 - part));
      return;
    }
    const next = part + alpha * (1 - part);
    for (let c = 0; c < 3; c += 1)
      data[at + c] = Math.round((color[c] * part + data[at + c] * alpha * (1 - part)) / next);
    data[at + 3] = Math.round(255 * next);
  };
}

/** Set every byte of a rectangle of a mask by its value before. */
export function mapMask(layer, [left, top, right, bottom], next) {
  for (let y = top; y < bottom; y += 1) {
    for (let index = y * layer.width + left; index < y * layer.width + right; index += 1) {
      setByte(layer, index, next(layer.data[index]));
    }
  }
}

/** Make all of a layer empty. */
export function wipe(layer) {
  layer.data.fill(0);
  layer.total = layer.solid = 0;
}

/** Take over pixels of the same size. */
export function fillFrom(layer, bytes) {
  layer.data.set(bytes);
  layer.total = layer.solid = 0;
  if (layer.channels !== 1) return;
  for (const value of bytes) {
    layer.total += value;
    layer.solid += Number(isSolid(value));
  }
}
