// Trigger words of a LoRA: chips that go into the prompt and out again. Those that a person chose for a LoRA are kept in
// this browser, and come along when it is chosen again.

import { keep, recall } from "../core/store.js";
import { change, form } from "../form/form.js";
import { h } from "../ui/dom.js";
import { announce } from "../ui/live.js";

const KEY = "triggers";

/** @returns {string[]} the words that a person chose for a LoRA */
const chosenFor = (name) => recall(KEY, {})[name] ?? [];

function choose(name, words) {
  const { [name]: _, ...others } = recall(KEY, {});
  keep(KEY, words.length ? { ...others, [name]: words } : others);
}

/** Whether a word is in a prompt. */
export const isIn = (prompt, word) => prompt.toLowerCase().includes(word.toLowerCase());
/** A prompt with a word at its end. */
export const withWord = (prompt, word) => (prompt.trim() ? `${prompt.trimEnd().replace(/,$/, "")}, ${word}` : word);

/** A prompt without a word: behind a comma as it was put in, else where it stands first. */
export function withoutWord(prompt, word) {
  const text = prompt.toLowerCase();
  const wanted = word.toLowerCase();
  const put = text.lastIndexOf(`, ${wanted}`);
  if (put >= 0) return prompt.slice(0, put) + prompt.slice(put + wanted.length + 2);
  const at = text.indexOf(wanted);
  return (prompt.slice(0, at) + prompt.slice(at + wanted.length)).replace(/^[\s,]+/, "");
}

/**
 * Put the words that were chosen for a LoRA into a prompt. @param {any} model @param {string} prompt
 * @param {(text: string) => void} put @returns {string} what was put in
 */
export function bringTriggers({ name, trigger_words: words = [] }, prompt, put) {
  const missing = chosenFor(name).filter((word) => words.includes(word) && !isIn(prompt, word));
  if (missing.length) put(missing.reduce(withWord, prompt));
  return missing.join(", ");
}

/** A trigger word: pressed while it is in the prompt. */
export function triggerChip(name, word) {
  const { prompt } = form.get();
  const isThere = isIn(prompt, word);
  return h(
    "button.chip",
    {
      type: "button",
      "aria-pressed": String(isThere),
      onclick: () => {
        const others = chosenFor(name).filter((one) => one !== word);
        choose(name, isThere ? others : [...others, word]);
        change({ prompt: isThere ? withoutWord(prompt, word) : withWord(prompt, word) });
        announce(`“${word}” is ${isThere ? "out of" : "in"} the prompt.`);
      },
    },
    word,
  );
}
