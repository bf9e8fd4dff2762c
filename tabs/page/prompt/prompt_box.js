// Prompt and negative prompt in one outline, with a count of tokens and notes on what is written.

import { config } from "../core/config.js";
import { showProblem } from "../form/bound.js";
import { drawnWords, isDynamic } from "../form/dynamic_text.js";
import { change } from "../form/form.js";
import { offerCombinations } from "../sections/dynamic_prompts.js";
import { field, h } from "../ui/dom.js";
import { promptArea } from "./prompt_area.js";
import { promptNotes } from "./prompt_notes.js";
import { styleChips } from "./style_chips.js";
import { stylesButton } from "./styles_dialog.js";

/** Fill the part. */
export function prompt_box(element) {
  // What is written last is taken back first: of both, the prompt.
  const negative = area("negative_prompt", "What it should not show (optional)", 1);
  const prompt = area("prompt", "What should the picture show?", 3);
  /** What the server said of all combinations. @type {Awaited<ReturnType<typeof offerCombinations>>} */
  let combined = null;
  const combine = async () => {
    combined = await offerCombinations();
    notes.say();
  };
  const notes = promptNotes(
    { prompt, negative_prompt: negative },
    {
      id: "prompt-note",
      read: (now) => now,
      put: change,
      none: () => "No prompt: the model paints freely.",
      also: (now) => templateNote(now, combined, combine),
      onnew: () => {
        combined = null;
      },
    },
  );
  negative.setAttribute("aria-label", config.labels.negative_prompt);
  const group = h("div.prompts", {}, prompt, negative, ...notes.over.prompt, ...notes.over.negative_prompt);
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
  group.after(notes.below, styles.box);
  showProblem("styles", styles.box, styles.problem);
  showProblem("prompt", prompt, problem);
  showProblem("negative_prompt", negative, other.problem);
  element.replaceChildren(box);
}

const area = (name, placeholder, rows) =>
  promptArea({ name, placeholder, rows, get: (now) => now[name], set: (text) => change({ [name]: text }) });

/** That a prompt is a template, and what can be made of it; or that it was drawn from one. */
function templateNote(now, combined, combine) {
  if (!isDynamic(now.prompt, now.negative_prompt)) {
    if (now.template?.drawn !== now.prompt) return null;
    const { drawn: _, ...written } = now.template;
    const patch = { prompt: "", negative_prompt: "", styles: [], ...written };
    return { text: "Drawn from a template.", fixes: [{ label: "Use the template", patch }] };
  }
  if (combined) return { text: combined.words, fixes: [{ label: "Make them", patch: {}, act: combined.make }] };
  return { text: drawnWords(now), fixes: [{ label: "All combinations", patch: {}, act: combine }] };
}
