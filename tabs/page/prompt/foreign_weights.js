// Weights as InvokeAI (Compel) and ComfyUI write them, translated to those of this prompt box. Pure text.

import { withoutTags } from "./tokens.js";

const BEHIND = /^(\++|-+|\d{0,2}\.\d+|\d)(?=[\s,.;)]|$)/;
const WORD = /(?<![\p{L}\p{N}_)])(\p{L}[\p{L}\p{N}_'’-]*\p{L})(\++|-{2,})(?=[\s,.;)]|$)/gu;
const OWN_WEIGHT = /:\s*([+-]?(?:\d+\.?\d*|\.\d+))\s*$/;
const DIGITS = 1000;

const rounded = (weight) => String(Math.round(weight * DIGITS) / DIGITS);
const ofSigns = (signs) => rounded((signs[0] === "+" ? 1.1 : 0.9) ** signs.length);

/**
 * Round brackets that match, from the inside out. Escaped ones, and those of tags and comments, are characters.
 * @returns {{from: number, to: number}[]} to: of the closing one
 */
export function bracketPairs(text) {
  /** @type {number[]} */
  const open = [];
  const pairs = [];
  for (const { index, 0: mark } of withoutTags(text).matchAll(/\\[\s\S]|[()]/g)) {
    if (mark === "(") open.push(index);
    else if (mark === ")" && open.length) pairs.push({ from: /** @type {number} */ (open.pop()), to: index });
  }
  return pairs;
}

/**
 * A text with Compel's weights, "word++", "(a phrase)1.3", "(dull)-", in ours.
 * @returns {{text: string, first: string}|null} first: what was recognized first; null where there is nothing
 */
export function fromCompel(text) {
  const edits = [];
  for (const { from, to } of bracketPairs(text)) {
    const inner = text.slice(from + 1, to);
    const behind = BEHIND.exec(text.slice(to + 1, to + 40))?.[1];
    if (!behind || OWN_WEIGHT.test(inner) || !inner.trim()) continue;
    const weight = /\d/.test(behind) ? rounded(Number(behind)) : ofSigns(behind);
    edits.push({ from: to, to: to + 1 + behind.length, put: `:${weight})`, shown: text.slice(from, to + 1) + behind });
  }
  for (const { index, 0: all, 1: word, 2: signs } of withoutTags(text).matchAll(WORD))
    edits.push({ from: index, to: index + all.length, put: `(${word}:${ofSigns(signs)})`, shown: all });
  if (!edits.length) return null;
  edits.sort((a, b) => b.from - a.from);
  const translated = edits.reduce((now, { from, to, put }) => now.slice(0, from) + put + now.slice(to), text);
  return { text: translated, first: edits.at(-1)?.shown ?? "" };
}

/**
 * A text that ComfyUI reads otherwise, in ours: there a number inside counts, and those around it don't.
 * @returns {{text: string, first: string}|null} null where both read the same
 */
export function fromComfy(text) {
  const spans = bracketPairs(text).map(({ from, to }) => {
    const own = OWN_WEIGHT.exec(text.slice(from + 1, to));
    return { from, to, own: own && own.index ? Number(own[1]) : null, end: own?.index ? from + 1 + own.index : to };
  });
  const nested = spans.find(
    (inner) => inner.own !== null && spans.some((outer) => outer.from < inner.from && inner.to < outer.to),
  );
  if (!nested) return null;
  const starts = new Map(spans.map((span) => [span.from, span]));
  const runs = [];
  const around = [{ weight: 1, to: Infinity, end: Infinity }];
  for (let at = 0; at < text.length; at += 1) {
    const inside = around[around.length - 1];
    const begins = starts.get(at);
    if (at === inside.to) around.pop();
    else if (begins) around.push({ ...begins, weight: begins.own ?? inside.weight * 1.1 });
    else if (at < inside.end) {
      const last = runs.at(-1);
      if (last?.weight === inside.weight) last.text += text[at];
      else runs.push({ text: text[at], weight: inside.weight });
    }
  }
  const put = ({ text: words, weight }) => {
    const [, before, middle, after] = /** @type {string[]} */ (/^(\s*)([\s\S]*?)(\s*)$/.exec(words));
    return weight === 1 || !middle ? words : `${before}(${middle}:${rounded(weight)})${after}`;
  };
  return { text: runs.map(put).join(""), first: text.slice(nested.from, nested.to + 1) };
}
