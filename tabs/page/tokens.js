// Counts tokens about as CLIP's tokenizer does, without its 1.5 MB of merges, and finds words a model
// with a small vocabulary of its own doesn't know.

import { config } from "./config.js";

const PIECES = /'(?:s|t|re|ve|m|ll|d)\b|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+/giu;
const MARKS = 2; // begin and end of a chunk

// The words alone: without the grammar of contract/prompt.py.
const plain = (text) => text
  .replace(/<[A-Za-z]\w*:[^<>\n]+>/g, " ")
  .replace(/:\s*[+-]?[\d.]+(?:e[+-]?\d+)?\s*(?=[)\]]|$)/gi, " ")
  .replace(/\\([()[\]\\])/g, "$1")
  .replace(/\b(?:BREAK|AND)\b|[()[\]|]/g, " ")
  .toLowerCase();

/**
 * @param {string} text
 * @param {any} model entry of the model
 * @returns {{used: number, room: number, chunks: number, isExact: boolean}}
 */
export function countTokens(text, model) {
  const known = new Set(model?.words ?? []);
  let used = 0;
  let isExact = known.size > 0;
  for (const piece of plain(text).match(PIECES) ?? []) {
    const isWord = /\p{L}/u.test(piece);
    if (!isWord || known.has(piece)) { used += 1; continue; }
    used += Math.max(1, Math.round(piece.length / 6));
    isExact = false;
  }
  const room = (model?.token_limit ?? 77) - MARKS;
  return { used, room, chunks: Math.max(1, Math.ceil(used / room)), isExact };
}

/** Words of a text that the model's own vocabulary lacks, each once, in their order. */
export function unknownWords(text, model) {
  if (!model?.words?.length) return [];
  const known = new Set([...model.words, ...config.common_words]);
  const words = plain(text).match(/\p{L}+/gu) ?? [];
  return [...new Set(words)].filter((word) => word.length >= config.limits.least_letters && !known.has(word));
}

/** Up to three known words that are spelled nearly like one; plurals count as near. */
export const nearWords = (word, model) => nearest(word, model?.words ?? []);

/** Up to three of some names that are spelled nearly like one. */
export function nearest(word, names) {
  const reach = word.length > 5 ? 2 : 1;
  const scored = names
    .filter((known) => Math.abs(known.length - word.length) <= 3 && known.length > 2)
    .map((known) => ({ known, away: known.startsWith(word) || word.startsWith(known) ? 1 : distance(word, known) }))
    .filter(({ away }) => away <= reach);
  return scored.sort((a, b) => a.away - b.away).slice(0, 3).map(({ known }) => known);
}

// Levenshtein, one row at a time.
function distance(a, b) {
  let row = [...Array(b.length + 1).keys()];
  for (let i = 1; i <= a.length; i += 1) {
    const next = [i];
    for (let j = 1; j <= b.length; j += 1) {
      next[j] = Math.min(next[j - 1] + 1, row[j] + 1, row[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1));
    }
    row = next;
  }
  return row[b.length];
}
