// Loopback and batches: further jobs that this page submits, each with the last result, or the next file, as its start.

import { inWords, post, Refused, Unreachable } from "../core/api.js";
import { config } from "../core/config.js";
import { formTab } from "../core/route.js";
import { observable } from "../core/store.js";
import { say } from "../core/toast.js";
import { upload, uploadSaved } from "../core/uploads.js";
import { some } from "../core/words.js";
import { slider } from "../form/bound.js";
import { draft } from "../form/draft.js";
import { form, number } from "../form/form.js";
import { joinRecipe } from "../form/recipe_parts.js";
import { ranged, refuse } from "../form/rules.js";
import { section } from "../form/section.js";
import { job } from "../jobs/job.js";
import { button, field, h, setText } from "../ui/dom.js";
import { announce } from "../ui/live.js";
import { offerUndo } from "../ui/undo_bar.js";

const KINDS = "image/png, image/jpeg, image/webp";
const TAB = "img2img";

/** Files that wait for Generate; a browser keeps no files over a reload. */
const files = observable(/** @type {File[]} */ ([]));

/** Fill the part. */
export function repeat_section(element) {
  element.replaceChildren(section({ name: "repeat", title: "Repeat", fields: ["loops", "batch"], summary, body }));
  files.later(() => form.set({ ...form.get() }));
  joinRecipe("repeat_section", {
    rules: { loops: (values) => (files.get().length ? null : ranged("loops", values.loops, true)) },
  });
}

function summary(now) {
  if (files.get().length) return some(files.get().length, "file");
  return number(now.loops) > 1 ? `${now.loops} rounds` : "";
}

function body() {
  const input = h("input", {
    type: "file",
    accept: KINDS,
    multiple: true,
    hidden: true,
    "aria-label": "Several pictures",
    onchange: () => {
      takeFiles([...(input.files ?? [])]);
      input.value = "";
    },
  });
  const said = h("p.hint", {});
  const clear = button({ label: "Clear", kind: "link", onclick: () => takeFiles([]) });
  const choose = button({
    label: "Choose several pictures",
    icon: "file",
    kind: "outlined",
    onclick: () => input.click(),
  });
  files.watch((chosen) => {
    clear.hidden = !chosen.length;
    setText(
      said,
      chosen.length
        ? `Generate makes ${some(chosen.length, "job")}, one for each file.`
        : "Each becomes a job of its own, with the settings above.",
    );
  });
  const loops = slider("loops", 1, { to: 10 });
  loops.append(h("p.hint", {}, "Each round begins from the result of the one before."));
  return [
    loops,
    field("batch", "Several pictures", h("div.reader", {}, choose, input), { note: config.explain.batch }).box,
    h("div.below", {}, said, clear),
  ];
}

/** Files for a batch; none ends it. */
export function takeFiles(chosen) {
  files.set(chosen);
  if (chosen.length) announce(`${some(chosen.length, "picture")} for Generate.`);
}

const isRepeating = () => formTab() === TAB && (files.get().length > 0 || number(form.get().loops) > 1);

/** Whether a batch stands in for the start picture. */
export const hasFiles = () => files.get().length > 0;

/** Take Generate over where something repeats. @returns {boolean} whether it did */
export function generateRepeated() {
  if (!isRepeating()) return false;
  if (files.get().length) submitFiles(files.get());
  else startRounds(number(form.get().loops));
  return true;
}

/**
 * Queue one job and show it in its turn; what the server refuses stands at its field.
 * @returns {Promise<string|null>} its id
 * @throws {Unreachable}
 */
async function submit(made, note) {
  try {
    const { id } = await post("/jobs", made);
    job.enqueue(id, { width: made.width, height: made.height, count: made.count }, note);
    return id;
  } catch (problem) {
    if (problem instanceof Unreachable) throw problem;
    refuse(inWords(problem));
    return null;
  }
}

async function submitFiles(chosen) {
  takeFiles([]);
  for (const [index, file] of chosen.entries()) {
    const left = chosen.slice(index);
    try {
      const picture = await uploaded(file);
      if (!picture) continue;
      const made = await draft(TAB, { "init_image.image": picture });
      if (!(await submit(made, `file ${index + 1} of ${chosen.length}`))) {
        takeFiles(left);
        return;
      }
    } catch (problem) {
      if (!(problem instanceof Unreachable)) throw problem;
      takeFiles(left);
      offerUndo(
        `The connection broke at ${file.name}, file ${index + 1} of ${chosen.length}. ` +
          `${left.length === 1 ? "It is" : `The last ${left.length} are`} still chosen: press Generate again.`,
        null,
      );
      return;
    }
  }
}

// One file that is no picture does not hold up the others; a broken connection does.
async function uploaded(file) {
  try {
    return await upload(file);
  } catch (problem) {
    if (problem instanceof Unreachable) throw problem;
    const named =
      problem instanceof Refused &&
      new Refused({ ...problem, message: `${file.name}: ${problem.message}` }, problem.status);
    say(named || problem);
    return null;
  }
}

async function startRounds(of) {
  const seed = form.get().seed.trim();
  let last = null;
  for (let at = 1; at <= of; at += 1) {
    try {
      const picture = last ? await uploadSaved(last.id) : form.get()["init_image.image"];
      const made = await draft(TAB, {
        "init_image.image": picture,
        ...(seed ? { seed: String((BigInt(seed) + BigInt(at - 1)) % (1n << 64n)) } : {}),
      });
      const id = await submit(made, `round ${at} of ${of}`);
      const done = id && at < of && (await job.whenEnded(id));
      last = done && done.phase === "done" && done.cells.find(Boolean);
      if (!last) return;
    } catch (problem) {
      if (problem instanceof Unreachable) offerUndo(`The connection broke: round ${at} of ${of} was not begun.`, null);
      else say(problem);
      return;
    }
  }
}
