// The one filled button. Never disabled: with something missing it goes there and says so.

import { h } from "./dom.js";
import { draft } from "./draft.js";
import { form } from "./form.js";
import { clearGenerateProblem, generateProblem } from "./generate_problem.js";
import { job } from "./job.js";
import { announce } from "./live.js";
import { generateRepeated } from "./repeat_section.js";
import { clearRefusals, firstProblem, showField } from "./rules.js";
import { formTab, go } from "./route.js";
import { COMMAND } from "./shortcut.js";
import { resultSize } from "./size.js";

/** Fill the part. */
export function generate_bar(element, props, watch, trigger) {
  job.attach(trigger);
  const words = h("span.words", {});
  const button = h("button.generate", { type: "button", id: "generate", onclick: generate, "aria-keyshortcuts": "Control+Enter", "aria-describedby": "generate-words" },
    words, h("kbd", { "aria-hidden": "true" }, `${COMMAND} ↵`));
  job.waiting.watch((waiting) => words.replaceChildren(h("span", {}, waiting.length ? `Generate · ${waiting.length} waiting` : "Generate")));
  element.replaceChildren(generateProblem, button);
}

/** Make what the form says, or show what stands in the way. */
export function generate() {
  go(formTab());
  // Each press asks anew: what was refused may be there by now.
  clearRefusals();
  clearGenerateProblem();
  const first = firstProblem();
  if (first) {
    showField(first.problem.at ?? first.field);
    announce(first.problem.text);
    return;
  }
  // On a phone the result is above the form.
  if (innerWidth < 860) scrollTo({ top: 0, behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
  if (!generateRepeated()) job.make(() => draft(), { ...resultSize(form.get(), formTab()), count: form.get().count });
}
