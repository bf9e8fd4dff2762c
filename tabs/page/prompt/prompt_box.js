// Prompt and negative prompt in one outline, with a count of tokens and notes on what is written.

import { config } from "../core/config.js";
import { route } from "../core/route.js";
import { showProblem } from "../form/bound.js";
import { change, form } from "../form/form.js";
import { field, freshId, h, setText } from "../ui/dom.js";
import { COMMAND } from "../ui/shortcut.js";
import { isWritten, writeText } from "../ui/text_fields.js";
import { completion } from "./prompt_completion.js";
import { embeddingNames, onTagLists, tagNote } from "./prompt_tags.js";
import { countTokens, nearWords, unknownWords } from "./tokens.js";
import { listenForWeights } from "./weight_keys.js";

const MOST_NAMED = 3;
const KEYS_HINT = `${COMMAND} ↑ ↓ changes the weight`;

/** Fill the part. */
export function prompt_box(element) {
  // What is written last is taken back first: of both, the prompt.
  const negative = area("negative_prompt", "What it should not show (optional)", 1);
  const prompt = area("prompt", "What should the picture show?", 3);
  const note = h("p.note", { id: "prompt-note" });
  const count = h("p.count", {});
  prompt.setAttribute("aria-describedby", note.id);
  negative.setAttribute("aria-label", config.labels.negative_prompt);
  const group = h(
    "div.prompts",
    {},
    prompt,
    negative,
    completion(prompt, "prompt"),
    completion(negative, "negative_prompt"),
  );
  const { box, problem } = field("prompt", config.labels.prompt, group, {
    note: config.explain.prompt,
    labelFor: prompt.id,
  });
  const other = field("negative_prompt", "", "", { note: config.explain.negative_prompt });
  box.append(other.problem);
  box.querySelector(".explain")?.after(other.box.querySelector(".explain") ?? "");
  group.after(h("div.below", {}, note, count));
  showProblem("prompt", prompt, problem);
  showProblem("negative_prompt", negative, other.problem);
  const draw = (now = form.get()) => {
    setText(count, countLine(now));
    setText(note, noteLine(now));
    note.classList.toggle("marked", note.textContent !== KEYS_HINT && now.prompt.trim() !== "");
  };
  form.watch(draw);
  onTagLists(() => draw());
  element.replaceChildren(box);
  const pane = element.closest("#recipe");
  pane?.setAttribute("role", "complementary");
  pane?.setAttribute("aria-label", "Recipe");
}

/** A text area that grows with what is typed; the style sheet says how far. */
function area(name, placeholder, rows) {
  const made = h("textarea", {
    id: freshId(name),
    name,
    placeholder,
    rows,
    spellcheck: "true",
    autocapitalize: "none",
    oninput: (event) => {
      if (!isWritten(event)) change({ [name]: made.value });
    },
  });
  listenForWeights(made);
  const grow = () => {
    if (CSS.supports("field-sizing", "content")) return;
    made.style.height = "auto";
    made.style.height = `${made.scrollHeight}px`;
  };
  // While another tab hides it, the browser would forget its undo: what is to stand there waits until it is seen.
  const show = () => {
    if (made.isConnected && !made.checkVisibility()) return;
    writeText(made, form.get()[name]);
    grow();
  };
  form.watch(show);
  route.later(show);
  return made;
}

/** "17 of 75 tokens", over the limit "92 tokens, 2 chunks"; "about" where the words are not the model's own. */
function countLine({ prompt, model }) {
  const { used, room, chunks, isExact } = countTokens(prompt, model);
  const about = isExact || used === 0 ? "" : "about ";
  if (chunks > 1) return `${about}${used} tokens, ${chunks} chunks`;
  return `${about}${used} of ${room} tokens`;
}

/** One line on what is written, else a hint. */
function noteLine({ prompt, negative_prompt, model }) {
  if (!prompt.trim()) return "No prompt: the model paints freely.";
  const text = `${prompt} ${negative_prompt}`;
  const wrong = tagNote(text, model);
  if (wrong) return wrong;
  const strange = unknownWords(text, model);
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
