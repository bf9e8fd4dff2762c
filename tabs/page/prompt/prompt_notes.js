// What stands below a prompt while it is written: a note on what the linter found, with fixes, and the count of tokens;
// and what lies over it: marks, and names that fit. For the prompt box, and for each region's prompts.

import { form } from "../form/form.js";
import { bringTriggers } from "../lora/triggers.js";
import { button, freshId, h, setText } from "../ui/dom.js";
import { COMMAND } from "../ui/shortcut.js";
import { lint } from "./lint.js";
import { marksOver } from "./marks.js";
import { completion } from "./prompt_completion.js";
import { embeddingNames, knownFor, onPromptLists } from "./prompt_lists.js";
import { countTokens, nearWords, unknownWords } from "./tokens.js";

const MOST_NAMED = 3;
const KEYS_HINT = `${COMMAND} ↑ ↓ changes the weight`;

/**
 * @param {{prompt: HTMLTextAreaElement, negative_prompt: HTMLTextAreaElement}} areas
 * @param {{read: (now: any) => any, put: (patch: any) => void, none: (values: any) => string,
 *   also?: (values: any) => {text: string, fixes: import("./lint.js").Fix[]}|null, onnew?: () => void, id?: string}} how
 *   read: the form's values with these two prompts as `prompt` and `negative_prompt`, or null where they are gone;
 *   put: changes the two; none: what is said where nothing is written; also: what else there is to say; onnew: the text
 *   is another one
 * @returns {{below: HTMLElement, over: {prompt: HTMLElement[], negative_prompt: HTMLElement[]}, say: () => void}}
 *   over: to stand behind each area, in a box that is positioned
 */
export function promptNotes(areas, { read, put, none, also = () => null, onnew = () => {}, id = freshId("note") }) {
  const note = h("p.note", { id });
  const fixes = h("span.fixes", {});
  const count = h("p.count", {});
  const names = Object.keys(areas);
  const marks = { prompt: marksOver(areas.prompt), negative_prompt: marksOver(areas.negative_prompt) };
  areas.prompt.setAttribute("aria-describedby", note.id);
  let pasted = "";
  let drawn = "";
  /** @type {import("./lint.js").Note[]} */
  let notes = [];
  const look = () => {
    const now = read(form.get());
    if (!now) return;
    const { prompt, negative_prompt: avoided, model, emphasis, count: pictures, template } = now;
    const key = JSON.stringify([prompt, avoided, model?.name, emphasis, pictures, template, none(now)]);
    if (key === drawn) return;
    drawn = key;
    onnew();
    notes = lint(now, knownFor(`${prompt} ${avoided}`, pasted !== "" && names.some((name) => now[name] === pasted)));
    for (const name of names) {
      const breaks = countTokens(now[name], now.model, now.emphasis).breaks.map(({ at }) => at);
      marks[name].show(
        notes.filter((one) => one.field === name),
        breaks,
      );
    }
    setText(count, countLine(now));
    say();
  };
  // The note on what the caret is in, else the first.
  const say = () => {
    const now = read(form.get());
    if (!now) return;
    const inside = notes.find(({ field: name, from, to }) => {
      const { selectionStart: caret } = areas[name];
      return document.activeElement === areas[name] && from <= caret && caret <= to;
    });
    const said = inside ?? notes[0] ?? also(now);
    const others = notes.length - 1;
    setText(note, said ? said.text : noteLine(now, none(now)));
    note.classList.toggle("marked", note.textContent !== KEYS_HINT && now.prompt.trim() !== "");
    const key = said ? JSON.stringify([said.fixes, others]) : "";
    if (fixes.dataset.key === key) return;
    fixes.dataset.key = key;
    fixes.replaceChildren(
      ...(said?.fixes ?? []).map(({ label, patch, act }) =>
        button({
          label,
          kind: "fix",
          onclick: () => {
            if (act) {
              act();
              return;
            }
            areas[Object.keys(patch)[0]].focus();
            put(patch);
          },
        }),
      ),
      others > 0 ? h("span.hint", {}, `${others} more`) : "",
    );
  };
  const carets = { prompt: -1, negative_prompt: -1 };
  for (const name of names) {
    const area = areas[name];
    area.addEventListener("focus", () => {
      carets[name] = area.selectionStart;
    });
    area.addEventListener("paste", () =>
      area.addEventListener("input", () => [pasted, drawn] = [area.value, ""], { once: true, capture: true }),
    );
  }
  // Only where the caret moves: on the way to a fix, by Tab, its note stays.
  document.addEventListener("selectionchange", () => {
    const name = names.find((one) => areas[one] === document.activeElement);
    if (!name || carets[name] === areas[name].selectionStart) return;
    carets[name] = areas[name].selectionStart;
    if (notes.length > 1) say();
  });
  form.watch(look);
  onPromptLists(() => {
    drawn = "";
    look();
  });
  const bring = (model) => bringTriggers(model, read(form.get()).prompt, (prompt) => put({ prompt }));
  const over = (name) => [marks[name].element, completion(areas[name], (text) => put({ [name]: text }), bring)];
  return {
    below: h("div.below", {}, h("div.notes", {}, note, fixes), count),
    over: { prompt: over("prompt"), negative_prompt: over("negative_prompt") },
    say,
  };
}

/** "17 of 75 tokens", over the limit "92 tokens, 2 chunks"; "about" where the words are not the model's own. */
function countLine({ prompt, model, emphasis }) {
  const { used, room, chunks, isExact } = countTokens(prompt, model, emphasis);
  const about = isExact || used === 0 ? "" : "about ";
  if (chunks > 1) return `${about}${used} tokens, ${chunks} chunks`;
  return `${about}${used} of ${room} tokens`;
}

/** One line on what is written, else a hint. */
function noteLine({ prompt, negative_prompt, model, emphasis }, none) {
  if (!prompt.trim()) return none;
  const text = `${prompt} ${negative_prompt}`;
  const strange = unknownWords(text, model, emphasis);
  const called = strange.length ? embeddingNames() : new Set();
  const unknown = strange.filter((word) => !called.has(word));
  if (!unknown.length) return matchMedia("(pointer: coarse)").matches ? "" : KEYS_HINT;
  const named = unknown
    .slice(0, MOST_NAMED)
    .map((word) => `“${word}”`)
    .join(", ");
  const more = unknown.length > MOST_NAMED ? ` and ${unknown.length - MOST_NAMED} more` : "";
  const near = unknown.length === 1 ? nearWords(unknown[0], model) : [];
  return `${model.title} does not know ${named}${more}.${near.length ? ` Near: ${near.join(", ")}.` : ""}`;
}
