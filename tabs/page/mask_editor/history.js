// Undo and redo for a layer: each step keeps the tiles it changed as they were, up to so many bytes.

import { joined, setByte, within } from "./layer.js";

const TILE = 64;
const MOST_BYTES = 96 * 1024 * 1024;

/** @param {import("./layer.js").Layer} layer */
export function makeHistory(layer) {
  const across = Math.ceil(layer.width / TILE);
  /** Steps that can be taken back, oldest first: tiles by number. @type {Map<number, Uint8ClampedArray>[]} */
  const past = [];
  /** @type {Map<number, Uint8ClampedArray>[]} */
  const future = [];
  /** @type {Map<number, Uint8ClampedArray>|null} */
  let open = null;

  function rectOf(tile) {
    const [x, y] = [(tile % across) * TILE, Math.floor(tile / across) * TILE];
    return /** @type {import("./layer.js").Rect} */ (within(layer, [x, y, x + TILE, y + TILE]));
  }

  function copyOf(tile) {
    const [left, top, right, bottom] = rectOf(tile);
    const wide = (right - left) * layer.channels;
    const kept = new Uint8ClampedArray(wide * (bottom - top));
    for (let y = top; y < bottom; y += 1) {
      const at = (y * layer.width + left) * layer.channels;
      kept.set(layer.data.subarray(at, at + wide), (y - top) * wide);
    }
    return kept;
  }

  function putBack(tile, kept) {
    const [left, top, right, bottom] = rectOf(tile);
    const wide = (right - left) * layer.channels;
    for (let y = top; y < bottom; y += 1) {
      const at = (y * layer.width + left) * layer.channels;
      for (let x = 0; x < wide; x += 1) {
        const value = kept[(y - top) * wide + x];
        if (layer.channels === 1) setByte(layer, at + x, value);
        else layer.data[at + x] = value;
      }
    }
  }

  // What is there now goes to the other side, so that the way back is the same.
  function swap(from, to) {
    const step = from.pop();
    if (!step) return null;
    let changed = null;
    const other = new Map();
    for (const [tile, kept] of step) {
      other.set(tile, copyOf(tile));
      putBack(tile, kept);
      changed = joined(changed, rectOf(tile));
    }
    to.push(other);
    return changed;
  }

  function forgetOldest() {
    const size = (step) => [...step.values()].reduce((sum, kept) => sum + kept.length, 0);
    let bytes = past.reduce((sum, step) => sum + size(step), 0);
    while (bytes > MOST_BYTES && past.length > 1) bytes -= size(past.shift());
  }

  return {
    /** A step begins; what it is about to change is told by `keep`. */
    begin() {
      open = new Map();
    },
    /** Keep a rectangle as it is now, before it is changed. */
    keep([left, top, right, bottom]) {
      if (!open) return;
      for (let y = Math.floor(top / TILE); y * TILE < bottom; y += 1) {
        for (let x = Math.floor(left / TILE); x * TILE < right; x += 1) {
          const tile = y * across + x;
          if (!open.has(tile)) open.set(tile, copyOf(tile));
        }
      }
    },
    /** The step is done. */
    end() {
      if (open?.size) {
        past.push(open);
        future.length = 0;
        forgetOldest();
      }
      open = null;
    },
    /** The step was a mistake: as if it had not begun. Returns what changed. */
    cancel() {
      if (!open) return null;
      past.push(open);
      open = null;
      const changed = swap(past, []);
      return changed;
    },
    undo: () => swap(past, future),
    redo: () => swap(future, past),
    canUndo: () => past.length > 0,
    canRedo: () => future.length > 0,
  };
}
