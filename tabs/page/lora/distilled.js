// What a distilled LoRA (LCM, Lightning …) was made for, as its name hints: one line, and a press that takes it over.

import { schedulesFor } from "../core/config.js";
import { change, form, number } from "../form/form.js";
import { loraModels } from "../form/parts_list.js";
import { button, h, setText } from "../ui/dom.js";
import { announce } from "../ui/live.js";
import { offerUndo } from "../ui/undo_bar.js";

const NAMES = ["steps", "guidance", "sampler", "schedule"];
const isWithin = (value, [least, most]) => number(value) >= least && number(value) <= most;

/** Whether the form is as a method wants it, as far as the chosen model can. @param {any} wants @param {any} now */
function isMet(wants, now) {
  if (!isWithin(now.steps, wants.steps) || !isWithin(now.guidance, wants.guidance)) return false;
  const schedules = schedulesFor(wants.sampler, now.model);
  const hasSampler = now.sampler === wants.sampler || !schedules.length;
  return hasSampler && (now.schedule === wants.schedule || !schedules.includes(wants.schedule));
}

/** The line of one LoRA; nothing while it is not distilled, or all is as it wants. @param {() => any} modelOf */
export function distilledLine(modelOf) {
  const words = h("span", {});
  const use = button({
    label: "Use these",
    kind: "link",
    onclick: () => {
      const model = modelOf();
      const now = form.get();
      const before = Object.fromEntries(NAMES.map((name) => [name, now[name]]));
      const { usual_steps: steps, usual_guidance: guidance, sampler, schedule } = model.distilled;
      change({ steps: String(steps), guidance: String(guidance), sampler, schedule });
      announce(`The settings are those of ${model.title}.`);
      offerUndo(`The settings are those of ${model.title}.`, () => change(before));
    },
  });
  const line = h("p.hint.distilled", { hidden: true }, words, " ", use);
  const draw = () => {
    const wants = modelOf()?.distilled;
    line.hidden = !wants || isMet(wants, form.get());
    if (wants) setText(words, `This LoRA is made for ${wants.summary}.`);
  };
  form.watch(draw);
  loraModels.state.later(draw);
  return line;
}
