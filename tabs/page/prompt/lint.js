// What is to be said of the prompts while they are written: where it stands, a sentence, and what to do. No DOM.

import { misfit } from "../lora/lora_units.js";
import { bracketPairs, fromComfy, fromCompel } from "./foreign_weights.js";
import { countTokens, nearest, withoutTags } from "./tokens.js";

const MOST_CHUNKS = 20; // as engine/adapters/prompt_chunks.py
const REASONABLE = 2; // weights beyond it mostly spoil a picture
const SHOWN = 40;
const TAG = /<(lora|lyco|hypernet):([^<>:\n]+)((?::[^<>\n]*)?)>|#[^\n]*/gi; // or a comment
const EMBEDDING = /\bembedding:([\w./\\-]*\w)/gi;
const WEIGHT = /:\s*([+-]?(?:\d+\.?\d*|\.\d+))\s*\)/g;
const FIELDS = ["prompt", "negative_prompt"];

/**
 * @typedef {{label: string, patch: Object<string, any>, act?: () => void}} Fix act: instead of a patch
 * @typedef {{field: string, from: number, to: number, text: string, fixes: Fix[], isMild?: boolean}} Note
 *   from, to: the marked words; isMild: nothing is wrong, it is only worth knowing
 * @typedef {{items: any[], isKnown: boolean}} Offered
 * @typedef {{loras: Offered, hypernetworks: Offered, embeddings: Offered, isPasted: boolean}} Known
 */

/**
 * Look both prompts over, the worst first.
 * @param {any} values of the form
 * @param {Known} known what there is; isPasted: whether the text was just pasted
 * @returns {Note[]}
 */
export function lint(values, known) {
  const notes = FIELDS.flatMap((field) => {
    const text = values[field];
    return [
      ...missingTags(field, text, values, known),
      ...missingEmbeddings(field, text, known),
      ...brackets(field, text, values.emphasis),
      ...foreignWeights(field, text, values.emphasis, known),
      ...weights(field, text, values.emphasis),
    ];
  });
  notes.push(...contradictions(values), ...FIELDS.flatMap((field) => chunkEnds(field, values)));
  return notes.sort((a, b) => Number(Boolean(a.isMild)) - Number(Boolean(b.isMild)));
}

const cut = (text) => (text.length > SHOWN ? `${text.slice(0, SHOWN - 1)}…` : text);

/** @returns {Fix} */
const edit = (label, field, text, from, to, put = "") => ({
  label,
  patch: { [field]: tidy(text.slice(0, from), put, text.slice(to)) },
});

// Where something was taken out, no comma and no space is left over.
function tidy(before, put, after) {
  if (put) return before + put + after;
  const rest = /(^|[,\n])\s*$/.test(before) ? after.replace(/^[ \t]*,?[ \t]*/, "") : after;
  return rest.trim() ? before + rest : before.replace(/[\s,]+$/, "");
}

const stem = (name) => name.toLowerCase().replace(/\.safetensors$/, "");
const short = (name) => name.split("/").pop();
const isNamed = (model, wanted) =>
  [model.name, short(model.name), model.title, model.alias].some((name) => name && stem(name) === wanted);

function missingTags(field, text, { model: main }, known) {
  const notes = [];
  for (const { index, 0: tag, 1: given, 2: written, 3: rest } of text.matchAll(TAG)) {
    if (!given) continue;
    const kind = given.toLowerCase();
    const { items, isKnown } = kind === "hypernet" ? known.hypernetworks : known.loras;
    const name = written.trim();
    const [from, to] = [index, index + tag.length];
    const remove = edit("Remove it", field, text, from, to);
    const found = items.find((one) => isNamed(one, stem(name)));
    const weight = Number(rest.slice(1).split(":")[0]);
    const add = (said, ...fixes) => notes.push({ field, from, to, text: said, fixes: [...fixes, remove] });
    if (!isKnown) continue;
    if (!found) {
      const near = nearest(
        stem(name),
        items.map((one) => short(one.name)),
      );
      const use = near.slice(0, 1).map((one) => edit(`Use ${one}`, field, text, from, to, `<${kind}:${one}${rest}>`));
      add(`<${kind}:${name}> is not here.${near.length ? ` Near: ${near.join(", ")}.` : ""}`, ...use);
    } else if (found.problem) add(`<${kind}:${name}>: ${found.problem}`);
    else if (misfit(found, main)) add(misfit(found, main));
    else if (Math.abs(weight) > REASONABLE) {
      const use = edit("Use 1", field, text, from, to, `<${kind}:${name}${rest.replace(/^:[^:]*/, ":1")}>`);
      add(`${found.title} has weight ${weight}: beyond ${REASONABLE} it mostly spoils the picture.`, use);
    }
  }
  return notes;
}

function missingEmbeddings(field, text, { embeddings: { items, isKnown } }) {
  if (!isKnown) return [];
  const names = items.flatMap(({ name }) => [stem(name), stem(short(name))]);
  return [...withoutTags(text).matchAll(EMBEDDING)]
    .filter(({ 1: name }) => !names.includes(stem(name)))
    .map(({ index, 0: all, 1: name }) => {
      const near = nearest(
        stem(name),
        items.map((one) => short(one.name)),
      );
      const to = index + all.length;
      const use = near.slice(0, 1).map((one) => edit(`Use ${one}`, field, text, index, to, `embedding:${one}`));
      const said = `Embedding “${cut(name)}” is not here.${near.length ? ` Near: ${near.join(", ")}.` : ""}`;
      return { field, from: index, to, text: said, fixes: [...use, edit("Remove it", field, text, index, to)] };
    });
}

// The first of each kind that is left open or closes nothing.
function brackets(field, text, emphasis) {
  if (emphasis === "none") return [];
  /** @type {Object<string, number[]>} */
  const open = { "(": [], "[": [] };
  /** @type {Object<string, number[]>} */
  const stray = { "(": [], "[": [] };
  for (const { index, 0: mark } of withoutTags(text).matchAll(/\\[\s\S]|[()[\]]/g)) {
    if (mark in open) open[mark].push(index);
    else if (mark === ")" || mark === "]") {
      const opener = mark === ")" ? "(" : "[";
      if (open[opener].pop() === undefined) stray[opener].push(index);
    }
  }
  return (emphasis === "comfyui" ? ["("] : ["(", "["]).flatMap((opener) => {
    const closer = opener === "(" ? ")" : "]";
    const [from] = [...open[opener], ...stray[opener]];
    if (from === undefined) return [];
    const remove = { label: "Remove it", patch: { [field]: text.slice(0, from) + text.slice(from + 1) } };
    if (!open[opener].length)
      return [{ field, from, to: from + 1, text: `“${closer}” closes nothing.`, fixes: [remove] }];
    const phrase = /^[^,\n]*/.exec(text.slice(from))?.[0].trimEnd() ?? "";
    const end = from + phrase.length;
    const close = { label: "Close it", patch: { [field]: text.slice(0, end) + closer + text.slice(end) } };
    const said = `“${opener}” is never closed: it acts on all that follows.`;
    return [{ field, from, to: from + 1, text: said, fixes: [close, remove] }];
  });
}

function foreignWeights(field, text, emphasis, { isPasted }) {
  if (emphasis === "none") return [];
  const compel = fromCompel(text);
  const found = compel ?? (isPasted && emphasis === "original" ? fromComfy(text) : null);
  if (!found) return [];
  const from = Math.max(0, text.indexOf(found.first));
  const said = compel
    ? `“${cut(found.first)}” is a weight as InvokeAI writes it.`
    : `“${cut(found.first)}” lies within another weight: here they multiply, in ComfyUI the inner one counts.`;
  const label = compel ? "Translate" : "Translate from ComfyUI";
  const fixes = [{ label, patch: { [field]: found.text } }];
  return [{ field, from, to: from + found.first.length, text: said, fixes, isMild: true }];
}

function weights(field, text, emphasis) {
  if (emphasis === "none" || emphasis === "ignore") return [];
  const closes = new Map(bracketPairs(text).map(({ from, to }) => [to, from]));
  return [...withoutTags(text).matchAll(WEIGHT)].flatMap(({ index, 0: all, 1: written }) => {
    const begins = closes.get(index + all.length - 1);
    if (begins === undefined || Math.abs(Number(written)) <= REASONABLE) return [];
    const words = cut(text.slice(begins + 1, index).trim());
    const at = index + all.indexOf(written);
    const usual = Number(written) < 0 ? "-1.5" : "1.5";
    return [
      {
        field,
        from: begins,
        to: index + all.length,
        text: `“${words}” has weight ${written}: beyond ${REASONABLE} it mostly spoils the picture.`,
        fixes: [edit(`Use ${usual}`, field, text, at, at + written.length, usual)],
      },
    ];
  });
}

// Phrases between commas, without brackets and weights; from, to: with them.
function phrasesOf(text) {
  return [...withoutTags(text).matchAll(/[^,\n]+/g)].map(({ index, 0: all }) => {
    const from = index + all.length - all.trimStart().length;
    const words = all
      .replace(/:\s*[+-]?[\d.]+\s*(?=[)\]])|\b(?:AND|BREAK)\b|[()[\]\\]/g, " ")
      .replace(/\s+/g, " ");
    return { from, to: index + all.trimEnd().length, words: words.trim().toLowerCase() };
  });
}

function contradictions({ prompt, negative_prompt: negative }) {
  const wanted = new Set(phrasesOf(prompt).map(({ words }) => words));
  return phrasesOf(negative)
    .filter(({ words }) => words.length > 2 && wanted.has(words))
    .map(({ from, to, words }) => {
      const here = phrasesOf(prompt).find((phrase) => phrase.words === words);
      const fixes = [edit("Remove it from the negative prompt", "negative_prompt", negative, from, to)];
      if (here) fixes.push(edit("From the prompt", "prompt", prompt, here.from, here.to));
      return { field: "negative_prompt", from, to, text: `“${cut(words)}” is wanted and not wanted.`, fixes };
    });
}

// A phrase that the end of a chunk cuts in two, and what lies behind the last chunk.
function chunkEnds(/** @type {string} */ field, values) {
  const { model, emphasis } = values;
  const text = /** @type {string} */ (values[field]);
  const { breaks, room } = countTokens(text, model, emphasis);
  /** @type {Note[]} */
  const notes = [];
  const end = breaks[MOST_CHUNKS - 1]?.at;
  if (end !== undefined) {
    const said = `What is behind ${room * MOST_CHUNKS} tokens is not read.`;
    notes.push({ field, from: end, to: text.length, text: said, fixes: [edit("Cut it", field, text, end, text.length)] });
  }
  const torn = breaks.find(({ isTorn }) => isTorn);
  if (!torn) return notes;
  const begins = text.slice(0, torn.at).search(/[^,.;\n]*$/);
  const from = begins + (/^\s*/.exec(text.slice(begins))?.[0].length ?? 0);
  if (from <= 0 || from >= torn.at) return notes;
  const said = `The first ${room} tokens end within “${cut(text.slice(from, torn.at).trim())}”; the rest is read by itself.`;
  const fixes = [edit("BREAK before it", field, text, from, from, "BREAK ")];
  notes.push({ field, from, to: torn.at, text: said, fixes, isMild: true });
  return notes;
}
