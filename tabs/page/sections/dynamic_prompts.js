// Templates, {a|b} and __wildcards__: the server draws each picture anew, in a job of its own; or all combinations are
// made in turn.

import { inWords, post, Unreachable } from "../core/api.js";
import { formTab } from "../core/route.js";
import { some } from "../core/words.js";
import { draft } from "../form/draft.js";
import { hasDynamic } from "../form/dynamic_text.js";
import { form } from "../form/form.js";
import { refuse } from "../form/rules.js";
import { resultSize } from "../form/size.js";
import { job } from "../jobs/job.js";
import { offerUndo } from "../ui/undo_bar.js";

/** Take Generate over where several pictures are to be drawn. @returns {boolean} whether it did */
export function generateDrawn() {
  if (form.get().count === 1 || !hasDynamic(form.get())) return false;
  submitDrawn();
  return true;
}

async function submitDrawn() {
  const tab = formTab();
  const look = { ...resultSize(form.get(), tab), count: 1 };
  try {
    const { jobs } = await post("/jobs", await draft(tab));
    jobs.forEach((id, index) => job.enqueue(id, look, noteOf(index, jobs.length)));
    await endTogether(jobs);
  } catch (problem) {
    refuse(inWords(problem));
  }
}

// One press began them, so that one press of Cancel, or a failure, ends them.
async function endTogether(jobs) {
  for (const [index, id] of jobs.entries()) {
    const done = await job.whenEnded(id);
    if (done.phase === "done") continue;
    const rest = jobs.slice(index + 1);
    if (rest.length) offerUndo(`Ended at ${noteOf(index, jobs.length)}.`, null);
    for (const other of rest.reverse()) await job.cancel(other); // the last first, so that none begins meanwhile
    return;
  }
}

const noteOf = (index, of) => `picture ${index + 1} of ${of}`;

/** Ask how many pictures the template means, say so, and make them when that is pressed. */
export async function offerCombinations() {
  const { prompt, negative_prompt: negative } = form.get();
  try {
    const { total, prompts } = await post("/prompts/combinations", { prompt, negative_prompt: negative });
    const made = prompts.map(([one, other]) => ({ prompt: one, negative_prompt: other, dynamic: false }));
    const template = { prompt, negative_prompt: negative, styles: form.get().styles };
    return {
      words: `All combinations are ${some(total, "picture")}.`,
      make: () => submitAll(made.map((one) => ({ ...one, template }))),
    };
  } catch (problem) {
    refuse(inWords(problem));
    return null;
  }
}

// Each waits for the one before, so that the queue stays free for others.
async function submitAll(changes) {
  const tab = formTab();
  const first = await draft(tab);
  const look = { ...resultSize(form.get(), tab), count: 1 };
  const seed = first.seed === undefined ? null : BigInt(first.seed);
  for (const [index, change] of changes.entries()) {
    const own = seed === null ? {} : { seed: String((seed + BigInt(index)) % (1n << 64n)) };
    const note = noteOf(index, changes.length);
    try {
      const { id } = await post("/jobs", { ...first, ...change, ...own, count: 1 });
      job.enqueue(id, look, note);
      const done = await job.whenEnded(id);
      if (done.phase !== "done") {
        if (index + 1 < changes.length) offerUndo(`Ended at ${note}.`, null);
        return;
      }
    } catch (problem) {
      if (problem instanceof Unreachable) offerUndo(`The connection broke: ${note} was not begun.`, null);
      else refuse(inWords(problem));
      return;
    }
  }
}
