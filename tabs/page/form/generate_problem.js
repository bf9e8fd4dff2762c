// Why Generate made nothing, where no field of the tab can say it: one line over the button, until the form changes,
// Generate is pressed again, or it is closed. It lies over the fields, so that nothing moves.

import { button, h } from "../ui/dom.js";
import { alarm } from "../ui/live.js";
import { change, filledIn, form } from "./form.js";

const words = h("p.problem", { id: "generate-words" });
const fixes = h("span.fixes", {});
/** The line, to stand over the button. */
export const generateProblem = h(
  "div.generate-problem",
  { hidden: true },
  words,
  fixes,
  button({ label: "Close", icon: "close", words: false, onclick: () => clearGenerateProblem() }),
);

let against = "";
form.later(() => {
  if (!generateProblem.hidden && filledIn() !== against) clearGenerateProblem();
});

/**
 * Say it, to the eye and to the ear.
 * @param {{text: string, fixes: {label: string, patch: Object<string, string|boolean>}[]}} problem
 */
export function sayAtGenerate({ text, fixes: offered }) {
  against = filledIn();
  words.textContent = text;
  fixes.replaceChildren(
    ...offered.map((fix) => button({ label: fix.label, kind: "fix", onclick: () => change(fix.patch) })),
  );
  generateProblem.hidden = false;
  alarm(text);
}

/** Take it away. */
export function clearGenerateProblem() {
  generateProblem.hidden = true;
}
