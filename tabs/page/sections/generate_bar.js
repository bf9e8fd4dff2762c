// The one filled button. Never disabled: with something missing it goes there and says so.

import { formTab, go } from "../core/route.js";
import { draft } from "../form/draft.js";
import { form } from "../form/form.js";
import { clearGenerateProblem, generateProblem } from "../form/generate_problem.js";
import { clearRefusals, firstProblem, showField } from "../form/rules.js";
import { resultSize } from "../form/size.js";
import { job } from "../jobs/job.js";
import { h } from "../ui/dom.js";
import { announce } from "../ui/live.js";
import { COMMAND } from "../ui/shortcut.js";
import { generateDrawn } from "./dynamic_prompts.js";
import { generateRepeated } from "./repeat_section.js";

/** Fill the place of the bar. @param {(event: string) => void} trigger gradio's, for its events */
export function generate_bar(element, trigger) {
  job.bindTrigger(trigger);
  const words = h("span.words", {});
  const button = h(
    "button.generate",
    {
      type: "button",
      id: "generate",
      onclick: generate,
      "aria-keyshortcuts": "Control+Enter",
      "aria-describedby": "generate-words",
    },
    words,
    h("kbd", { "aria-hidden": "true" }, `${COMMAND} ↵`),
  );
  job.waiting.watch((waiting) =>
    words.replaceChildren(h("span", {}, waiting.length ? `Generate · ${waiting.length} waiting` : "Generate")),
  );
  element.replaceChildren(generateProblem, button);
}

/** Make what the form says, or show what stands in the way. */
export function generate() {
  go(formTab());
  // Each press asks anew: what was refused may be there by now.
  clearRefusals();
  clearGenerateProblem();
  const first = firstProblem();
  if (first?.problem) {
    showField(first.problem.at ?? first.field);
    announce(first.problem.text);
    return;
  }
  // On a phone the result is above the form.
  if (innerWidth < 860)
    scrollTo({ top: 0, behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
  if (!generateRepeated() && !generateDrawn()) job.submit(() => draft(), { ...resultSize(form.get(), formTab()), count: form.get().count });
}
