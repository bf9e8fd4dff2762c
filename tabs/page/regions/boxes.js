// Boxes of regions: fractions of the picture's width and height, moved, resized, drawn, laid out. No DOM.

/** @typedef {{left: number, top: number, width: number, height: number}} Box */
/** @typedef {{x: -1|0|1, y: -1|0|1}} Handle which sides it moves: -1 left or top, 1 right or bottom */

/** What an arrow key moves, and what a pointer is rounded to. */
export const STEP = 0.01;
/** The smallest side: narrower than a pointer can hold, and than the model can fill. */
const LEAST = 0.04;
/** An edge this near to another one, or to the middle, goes there. */
const NEAR = 0.015;
/** Where a region begins that is not drawn. */
export const FIRST = { left: 0.3, top: 0.3, width: 0.4, height: 0.4 };

const row = (count) => Array.from({ length: count }, (_, at) => tidy([at / count, 0, (at + 1) / count, 1]));

/** Layouts at hand. */
export const LAYOUTS = [
  { id: "columns", label: "Two columns", boxes: row(2) },
  { id: "rows", label: "Two rows", boxes: row(2).map(({ left, width }) => tidy([0, left, 1, left + width])) },
  { id: "thirds", label: "Three columns", boxes: row(3) },
];

/** A box by its edges: left, top, right, bottom. Four places are enough, and never add up to more than 1. @returns {Box} */
function tidy([left, top, right, bottom]) {
  const short = (value) => Math.round(value * 10_000) / 10_000;
  const [x, y] = [short(left), short(top)];
  return { left: x, top: y, width: short(short(right) - x), height: short(short(bottom) - y) };
}

const edgesOf = ({ left, top, width, height }) => [left, top, left + width, top + height];

const within = (value, low, high) => Math.min(high, Math.max(low, value));

/** Lines that edges go to: those of other boxes, of the picture, and its middle. @param {Box[]} others */
export const linesOf = (others) => ({
  x: [0, 0.5, 1, ...others.flatMap(({ left, width }) => [left, left + width])],
  y: [0, 0.5, 1, ...others.flatMap(({ top, height }) => [top, top + height])],
});

// The nearest line, else the nearest step.
function settled(value, lines) {
  const near = lines.reduce((best, line) => (Math.abs(line - value) < Math.abs(best - value) ? line : best), Infinity);
  return Math.abs(near - value) <= NEAR ? near : Math.round(value / STEP) * STEP;
}

// Where a span begins so that one of its ends is on a line.
function settledSpan(from, length, lines) {
  const [start, end] = [settled(from, lines), settled(from + length, lines) - length];
  return within(lines.includes(end + length) && !lines.includes(start) ? end : start, 0, 1 - length);
}

/** Moved by a part of the picture; lines: what its edges go to. @param {Box} box @returns {Box} */
export function moved(box, dx, dy, lines = { x: [], y: [] }) {
  const left = settledSpan(box.left + dx, box.width, lines.x);
  const top = settledSpan(box.top + dy, box.height, lines.y);
  return { ...tidy([left, top, left + box.width, top + box.height]), width: box.width, height: box.height };
}

/** With some sides moved; it never turns inside out. @param {Box} box @param {Handle} handle @returns {Box} */
export function resized(box, { x, y }, dx, dy, lines = { x: [], y: [] }) {
  const [left, top, right, bottom] = edgesOf(box);
  return tidy([
    x < 0 ? within(settled(left + dx, lines.x), 0, right - LEAST) : left,
    y < 0 ? within(settled(top + dy, lines.y), 0, bottom - LEAST) : top,
    x > 0 ? within(settled(right + dx, lines.x), left + LEAST, 1) : right,
    y > 0 ? within(settled(bottom + dy, lines.y), top + LEAST, 1) : bottom,
  ]);
}

/** Drawn from one point to another; null where it is too small to be meant. @returns {Box|null} */
export function drawn(from, to, lines) {
  const side = (axis) => [from[axis], to[axis]].sort((a, b) => a - b).map((at) => within(settled(at, lines[axis]), 0, 1));
  const [[left, right], [top, bottom]] = [side("x"), side("y")];
  return right - left >= LEAST && bottom - top >= LEAST ? tidy([left, top, right, bottom]) : null;
}

const percent = (part) => `${Math.round(100 * part)}%`;

/** "left 10%, top 0%, 40% × 100%". */
export const boxWords = ({ left, top, width, height }) =>
  `left ${percent(left)}, top ${percent(top)}, ${percent(width)} × ${percent(height)}`;
