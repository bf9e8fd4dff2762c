// What fits what stands before the caret: LoRAs and hypernetworks after "<lora:" and "<hypernet:", embeddings after
// "embedding:", styles after "<style:" (which leaves no words), wildcards after "__"; else tags and embeddings that begin
// as the phrase does. No DOM.

import { grouped } from "../core/words.js";
import { embeddings, hypernetworks, loraModels, promptTags, styles, wildcards } from "../form/parts_list.js";
import { toggleStyle } from "../form/styles.js";

const MOST = 8;
const LEAST_LETTERS = 3; // of a phrase, before tags are offered
const NAMED = /(<(?:lora|lyco):|<hypernet:|<style:|\bembedding:|__)([^<>:,\n(){}|]*)$/i;
const PHRASE = /(?:^|[,\n([{|])\s*([^\s,()[\]{}|<>:\\][^,()[\]{}|<>:\n\\]*)$/;

function listOf(head) {
  if (head === "__") return wildcards;
  if (/embedding/i.test(head)) return embeddings;
  if (/style/i.test(head)) return styles;
  return /hypernet/i.test(head) ? hypernetworks : loraModels;
}

/**
 * @param {string} before what stands before the caret
 * @returns {{isNamed: boolean, items: import("./prompt_completion.js").Completion[]}|null} isNamed: a name is what must
 *   come here
 */
export function completionsFor(before) {
  const named = NAMED.exec(before);
  if (named) return { isNamed: named[1] !== "__" || named[2] !== "", items: namesFor(named, before) };
  const phrase = PHRASE.exec(before)?.[1] ?? "";
  if (phrase.length < LEAST_LETTERS) return null;
  return { isNamed: false, items: tagsFor(phrase, before.length - phrase.length) };
}

/** Call when a list has come. */
export const onCompletions = (look) =>
  [loraModels, hypernetworks, embeddings, styles, wildcards, promptTags].forEach(({ state }) => state.later(look));

/** @returns {import("./prompt_completion.js").Completion[]} */
function namesFor(/** @type {RegExpExecArray} */ [, head, typed], before) {
  const models = listOf(head);
  models.refresh();
  const wanted = typed.trim().toLowerCase();
  const from = before.length - typed.length;
  return models.state
    .get()
    .items.filter((one) => !one.problem && `${one.name} ${one.title ?? ""}`.toLowerCase().includes(wanted))
    .slice(0, MOST)
    .map((one) => ({
      id: one.name,
      label: one.title ?? one.name,
      hint: one.family_label ?? (one.count ? `${grouped(one.count)} lines` : ""),
      from: models === styles ? from - head.length : from,
      lora: models === loraModels ? one : null,
      take: (rest) => {
        const tail = withoutTail(rest, typed, one.name);
        if (models === styles) {
          toggleStyle(one.name);
          return ["", tail.replace(/^>/, "")];
        }
        if (head === "__") return [`${one.name}__`, tail.replace(/^_{1,2}(?!\w)/, "")];
        const needsEnd = head.startsWith("<") && !tail.startsWith(":") && !tail.startsWith(">");
        return [needsEnd ? `${one.name}:1>` : one.name, tail];
      },
    }));
}

// What stands behind the caret, without the end of a name that the caret is in.
function withoutTail(rest, typed, name) {
  const [tail] = /** @type {RegExpExecArray} */ (/^[^\s<>:,()]*/.exec(rest));
  const isOfName =
    /^[:>]/.test(rest.slice(tail.length)) || name.toLowerCase().includes((typed.trimStart() + tail).toLowerCase());
  return isOfName ? rest.slice(tail.length) : rest;
}

// Those that begin so come first, then those with a word that does; each in the order of its file.
/** @returns {import("./prompt_completion.js").Completion[]} */
function tagsFor(phrase, from) {
  embeddings.refresh();
  if (!promptTags.state.get().isKnown) promptTags.refresh();
  const wanted = phrase.toLowerCase().replaceAll("_", " ");
  const begins = [];
  const within = [];
  const own = embeddings.state.get().items.map(({ name }) => ({ name, hint: "embedding", names: [name.toLowerCase()] }));
  for (const tag of [...own, ...promptTags.state.get().items]) {
    if (begins.length === MOST) break;
    if (tag.names.some((name) => name.startsWith(wanted))) begins.push(tag);
    else if (within.length < MOST && tag.names[0].includes(` ${wanted}`)) within.push(tag);
  }
  const found = [...begins, ...within].slice(0, MOST).filter(({ names }) => names[0] !== wanted);
  return found.map(({ name, hint, names, count = 0 }) => {
    const other = names.slice(1).find((one) => one.startsWith(wanted) && !names[0].startsWith(wanted));
    const words = name.replace(/[()[\]]/g, "\\$&");
    return {
      id: name,
      label: other ? `${name} (${other})` : name,
      hint: hint || (count ? grouped(count) : ""),
      from,
      take: (/** @type {string} */ rest) => [words, rest],
    };
  });
}
