// Prompt and negative prompt in one outline, with a count of tokens and notes on what is written.

import { config } from "../core/config.js";
import { route } from "../core/route.js";
import { showProblem } from "../form/bound.js";
import { isDynamic } from "../form/dynamic_text.js";
import { change, form } from "../form/form.js";
import { offerCombinations } from "../sections/dynamic_prompts.js";
import { button, field, freshId, h, setText } from "../ui/dom.js";
import { COMMAND } from "../ui/shortcut.js";
import { isWritten, writeText } from "../ui/text_fields.js";
import { completion } from "./prompt_completion.js";
import { lint } from "./lint.js";
import { marksOver } from "./marks.js";
import { embeddingNames, knownFor, onPromptLists } from "./prompt_lists.js";
import { styleChips } from "./style_chips.js";
import { stylesButton } from "./styles_dialog.js";
import { countTokens, nearWords, unknownWords } from "./tokens.js";
import { listenForWeights } from "./weight_keys.js";

const MOST_NAMED = 3;
const KEYS_HINT = `${COMMAND} ↑ ↓ changes the weight`;

/** Fill the part. */
export function prompt_box(element) {
  // What is written last is taken back first: of both, the prompt.
  const negative = area("negative_prompt", "What it should not show (optional)", 1);
  const prompt = area("prompt", "What should the picture show?", 3);
  const areas = { prompt, negative_prompt: negative };
  const marks = { prompt: marksOver(prompt), negative_prompt: marksOver(negative) };
  const note = h("p.note", { id: "prompt-note" });
  const fixes = h("span.fixes", {});
  const count = h("p.count", {});
  prompt.setAttribute("aria-describedby", note.id);
  negative.setAttribute("aria-label", config.labels.negative_prompt);
  const group = h(
    "div.prompts",
    {},
    prompt,
    negative,
    marks.prompt.element,
    marks.negative_prompt.element,
    completion(prompt, "prompt"),
    completion(negative, "negative_prompt"),
  );
  const container = element.closest(".gradio-container") ?? document.body;
  const { box, problem } = field("prompt", config.labels.prompt, group, {
    note: config.explain.prompt,
    aside: stylesButton(container),
    labelFor: prompt.id,
  });
  const other = field("negative_prompt", "", "", { note: config.explain.negative_prompt });
  box.append(other.problem);
  box.querySelector(".explain")?.after(other.box.querySelector(".explain") ?? "");
  const styles = field("styles", "", styleChips());
  group.after(h("div.below", {}, h("div.notes", {}, note, fixes), count), styles.box);
  showProblem("styles", styles.box, styles.problem);
  showProblem("prompt", prompt, problem);
  showProblem("negative_prompt", negative, other.problem);
  let pasted = "";
  let drawn = "";
  /** @type {import("./lint.js").Note[]} */
  let notes = [];
  const look = (now = form.get()) => {
    const { prompt: text, negative_prompt: avoided, model, emphasis, count: pictures, template } = now;
    const key = JSON.stringify([text, avoided, model?.name, emphasis, pictures, template]);
    if (key === drawn) return;
    drawn = key;
    combined = null;
    notes = lint(now, knownFor(`${text} ${avoided}`, pasted !== "" && Object.keys(areas).some((name) => now[name] === pasted)));
    for (const [name, { show }] of Object.entries(marks)) {
      const breaks = countTokens(now[name], now.model, now.emphasis).breaks.map(({ at }) => at);
      show(
        notes.filter((one) => one.field === name),
        breaks,
      );
    }
    setText(count, countLine(now));
    say();
  };
  /** What the server said of all combinations. @type {Awaited<ReturnType<typeof offerCombinations>>} */
  let combined = null;
  const combine = async () => {
    combined = await offerCombinations();
    say();
  };
  // The note on what the caret is in, else the first.
  const say = () => {
    const now = form.get();
    const inside = notes.find(({ field: name, from, to }) => {
      const { selectionStart: caret } = areas[name];
      return document.activeElement === areas[name] && from <= caret && caret <= to;
    });
    const said = inside ?? notes[0] ?? templateNote(now, combined, combine);
    const others = notes.length - 1;
    setText(note, said ? said.text : noteLine(now));
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
            change(patch);
          },
        }),
      ),
      others > 0 ? h("span.hint", {}, `${others} more`) : "",
    );
  };
  const carets = { prompt: -1, negative_prompt: -1 };
  for (const [name, area] of Object.entries(areas)) {
    area.addEventListener("focus", () => {
      carets[name] = area.selectionStart;
    });
    area.addEventListener("paste", () =>
      area.addEventListener("input", () => [pasted, drawn] = [area.value, ""], { once: true, capture: true }),
    );
  }
  // Only where the caret moves: on the way to a fix, by Tab, its note stays.
  document.addEventListener("selectionchange", () => {
    const name = Object.keys(areas).find((one) => areas[one] === document.activeElement);
    if (!name || carets[name] === areas[name].selectionStart) return;
    carets[name] = areas[name].selectionStart;
    if (notes.length > 1) say();
  });
  form.watch(look);
  onPromptLists(() => {
    drawn = "";
    look();
  });
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

/** That a prompt is a template, and what can be made of it; or that it was drawn from one. */
function templateNote({ prompt, negative_prompt: negative, count, template }, combined, combine) {
  if (!isDynamic(prompt) && !isDynamic(negative)) {
    if (template?.drawn !== prompt) return null;
    const { drawn: _, ...written } = template;
    const patch = { prompt: "", negative_prompt: "", styles: [], ...written };
    return { text: "Drawn from a template.", fixes: [{ label: "Use the template", patch }] };
  }
  if (combined) return { text: combined.words, fixes: [{ label: "Make them", patch: {}, act: combined.make }] };
  const text = count === 1 ? "One of its choices is drawn." : "Each picture draws its own choices.";
  return { text, fixes: [{ label: "All combinations", patch: {}, act: combine }] };
}

/** "17 of 75 tokens", over the limit "92 tokens, 2 chunks"; "about" where the words are not the model's own. */
function countLine({ prompt, model, emphasis }) {
  const { used, room, chunks, isExact } = countTokens(prompt, model, emphasis);
  const about = isExact || used === 0 ? "" : "about ";
  if (chunks > 1) return `${about}${used} tokens, ${chunks} chunks`;
  return `${about}${used} of ${room} tokens`;
}

/** One line on what is written, else a hint. */
function noteLine({ prompt, negative_prompt, model, emphasis }) {
  if (!prompt.trim()) return "No prompt: the model paints freely.";
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
