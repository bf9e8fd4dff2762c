// Counts tokens about as CLIP's tokenizer does, without its 1.5 MB of merges, and finds words a model
// with a small vocabulary of its own doesn't know.

import { config } from "../core/config.js";

const PIECES = /'(?:s|t|re|ve|m|ll|d)\b|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+/giu;
const MARKS = 2; // begin and end of a chunk
const COMMA_REACH = 20 / 75; // of a chunk: it rather ends at a comma this near than in mid-phrase
const CHANGES = /\[[^[\]]*[:|]|\bAND\b/; // read in part at each step, or one beside the other

const withoutTags = (text) =>
  text.replace(/<\w{1,31}:[^<>\n]{1,400}>|#[^\n]*/g, (found) => (found[0] === "#" ? "" : " "));

// Escapes; weights and times; words of the grammar; brackets and bars.
const GRAMMAR = /\\([()[\]\\]?)|:\s*[+-]?(?:\d+\.?\d*|\.\d+)\s*(?=([)\]]))|\b(?:AND|BREAK)\b|([()[\]|])/g;
const OPENS = { ")": "(", "]": "[", "|": "[" };

// The words alone: without the grammar of contract/prompt.py. What closes nothing is a character.
function plain(text) {
  const open = { "(": 0, "[": 0 };
  return withoutTags(text)
    .replace(GRAMMAR, (found, escaped, closes, mark) => {
      const opener = OPENS[mark ?? closes];
      if (escaped !== undefined || (opener && !open[opener])) return escaped ?? found;
      if (mark in open) open[mark] += 1;
      else if (mark && mark !== "|") open[opener] -= 1;
      return " ";
    })
    .toLowerCase();
}

/**
 * @param {string} text
 * @param {any} model entry of the model
 * @returns {{used: number, room: number, chunks: number, isExact: boolean}}
 */
export function countTokens(text, model) {
  const known = new Set(model?.words ?? []);
  let isExact = known.size > 0 && !CHANGES.test(withoutTags(text));
  const sizeOf = (piece) => {
    if (!/\p{L}/u.test(piece) || known.has(piece)) return 1;
    isExact = false;
    return Math.max(1, Math.round(piece.length / 6));
  };
  const room = (model?.token_limit ?? 77) - MARKS;
  const parts = withoutTags(text)
    .split(/\bBREAK\b/)
    .map((part) => wordSizes(plain(part), sizeOf));
  const used = parts.flat().reduce((sum, word) => sum + word.size, 0);
  return { used, room, chunks: countChunks(parts, room), isExact };
}

// Each word and each comma with its tokens, as `engine/adapters/prompt_encoder.py` puts them into chunks.
function wordSizes(text, sizeOf) {
  const words = [];
  for (const word of text.match(/\S+/g) ?? []) {
    let follows = false;
    for (const piece of word.match(PIECES) ?? []) {
      const isComma = piece === ",";
      const last = words.at(-1);
      if (last && follows && !isComma) last.size += sizeOf(piece);
      else words.push({ size: sizeOf(piece), isComma });
      follows = !isComma;
    }
  }
  return words;
}

// How many chunks the parts between BREAKs take: no word is torn that fits into one.
function countChunks(parts, room) {
  const reach = Math.min(20, Math.floor(room * COMMA_REACH));
  let [full, open, comma] = [0, 0, -1];
  const turn = (rest) => {
    [full, open, comma] = [full + 1, rest, -1];
  };
  parts.forEach((words, index) => {
    if (index) turn(0);
    for (const { size, isComma } of words) {
      while (open && open + size > room) turn(!isComma && comma >= 0 && room - comma <= reach ? open - comma - 1 : 0);
      if (isComma) comma = open;
      open += size;
      while (open > room) turn(open - room);
    }
  });
  return Math.max(1, full + (open ? 1 : 0));
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
  return scored
    .sort((a, b) => a.away - b.away)
    .slice(0, 3)
    .map(({ known }) => known);
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
