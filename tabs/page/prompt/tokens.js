// Counts tokens about as CLIP's tokenizer does, without its 1.5 MB of merges, and finds words a model
// with a small vocabulary of its own doesn't know.

import { config } from "../core/config.js";

const PIECES = /'(?:s|t|re|ve|m|ll|d)\b|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+/giu;
const MARKS = 2; // begin and end of a chunk
const COMMA_REACH = 20 / 75; // of a chunk: it rather ends at a comma this near than in mid-phrase
const CHANGES = /\[[^[\]]*[:|]|\bAND\b/; // read in part at each step, or one beside the other
const TAG_OR_COMMENT = /<\w{1,31}:[^<>\n]{1,400}>|#[^\n]*/g;

/** The same text with blanks for its tags and comments: what stands where stays. */
export const withoutTags = (text) => text.replace(TAG_OR_COMMENT, (found) => " ".repeat(found.length));

// Escapes; weights and times; words of the grammar; brackets and bars.
const GRAMMAR = /\\([()[\]\\]?)|:\s*[+-]?(?:\d+\.?\d*|\.\d+)\s*(?=([)\]]))|\b(?:AND|(BREAK))\b|([()[\]|])/g;
const OPENS = { ")": "(", "]": "[", "|": "[" };

/**
 * @typedef {{text: string, at: number[]}} Plain words alone, and where each of their characters stands in the text
 */

/**
 * The words alone, in parts between BREAKs: without the grammar of contract/prompt.py. What closes nothing is a
 * character.
 * @returns {Plain[]}
 */
function plainParts(text, emphasis) {
  const open = { "(": 0, "[": 0 };
  const whole = withoutTags(text);
  /** @type {Plain[]} */
  const parts = [{ text: "", at: [] }];
  const put = (words, from) => {
    const part = /** @type {Plain} */ (parts.at(-1));
    part.text += words;
    for (let index = 0; index < words.length; index += 1) part.at.push(from + index);
  };
  let last = 0;
  for (const found of emphasis === "none" ? [] : whole.matchAll(GRAMMAR)) {
    const [all, escaped, closes, isBreak, mark] = found;
    put(whole.slice(last, found.index), last);
    last = found.index + all.length;
    const opener = OPENS[mark ?? closes];
    if (isBreak) parts.push({ text: "", at: [] });
    else if (escaped !== undefined) put(escaped, last - escaped.length);
    else if ((opener && !open[opener]) || (emphasis === "comfyui" && /[[\]]/.test(mark))) put(all, found.index);
    else {
      if (mark in open) open[mark] += 1;
      else if (mark && mark !== "|") open[opener] -= 1;
      put(" ", found.index);
    }
  }
  put(whole.slice(last), last);
  return parts;
}

/**
 * @param {string} text
 * @param {any} model entry of the model
 * @param {string} [emphasis] of the recipe
 * @returns {{used: number, room: number, chunks: number, isExact: boolean, breaks: {at: number, isTorn: boolean}[]}}
 *   breaks: where in the text a chunk begins by itself; isTorn: behind a word and not a comma
 */
export function countTokens(text, model, emphasis = "original") {
  const known = new Set(model?.words ?? []);
  let isExact = known.size > 0 && !CHANGES.test(withoutTags(text));
  const sizeOf = (piece) => {
    if (!/\p{L}/u.test(piece) || known.has(piece.toLowerCase())) return 1;
    isExact = false;
    return Math.max(1, Math.round(piece.length / 6));
  };
  const room = (model?.token_limit ?? 77) - MARKS;
  const parts = plainParts(text, emphasis).map((part) => wordSizes(part, sizeOf));
  const used = parts.flat().reduce((sum, word) => sum + word.size, 0);
  return { used, room, isExact, ...chunksOf(parts, room) };
}

// Each word and each comma with its tokens, as `engine/adapters/prompt_chunks.py` puts them into chunks.
function wordSizes({ text, at }, sizeOf) {
  const words = [];
  for (const word of text.matchAll(/\S+/g)) {
    let follows = false;
    for (const piece of word[0].matchAll(PIECES)) {
      const isComma = piece[0] === ",";
      const last = words.at(-1);
      if (last && follows && !isComma) last.size += sizeOf(piece[0]);
      else words.push({ size: sizeOf(piece[0]), isComma, from: at[word.index + piece.index] });
      follows = !isComma;
    }
  }
  return words;
}

// How many chunks the parts between BREAKs take, and where they begin: no word is torn that fits into one.
function chunksOf(parts, room) {
  const reach = Math.min(20, Math.floor(room * COMMA_REACH));
  const breaks = [];
  let [full, open, comma] = [0, 0, -1];
  let behind = -1; // the first word behind the comma
  const turn = (rest) => {
    [full, open, comma] = [full + 1, rest, -1];
  };
  parts.forEach((words, index) => {
    if (index) turn(0);
    let before = null;
    for (const word of words) {
      const { size, isComma, from } = word;
      if (comma >= 0 && behind < 0) behind = from;
      while (open && open + size > room) {
        const isNear = !isComma && comma >= 0 && room - comma <= reach;
        breaks.push({ at: isNear ? behind : from, isTorn: !isNear && !before?.isComma && !isComma });
        turn(isNear ? open - comma - 1 : 0);
      }
      if (isComma) [comma, behind] = [open, -1];
      open += size;
      while (open > room) turn(open - room);
      before = word;
    }
  });
  return { chunks: Math.max(1, full + (open ? 1 : 0)), breaks };
}

/** Words of a text that the model's own vocabulary lacks, each once, in their order. */
export function unknownWords(text, model, emphasis = "original") {
  if (!model?.words?.length) return [];
  const known = new Set([...model.words, ...config.common_words]);
  const words = plainParts(text, emphasis).flatMap((part) => part.text.toLowerCase().match(/\p{L}+/gu) ?? []);
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
