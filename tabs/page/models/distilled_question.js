// Whether a model is the distilled one that its name hints at: asked once, at the chosen model, and remembered.

import { schedulesFor } from "../core/config.js";
import { loadOwnDefaults, ownDefaults, rememberDefaults, whenOwnDefaults } from "../core/model_defaults.js";
import { say } from "../core/toast.js";
import { change, form } from "../form/form.js";
import { button, h, setText } from "../ui/dom.js";
import { announce } from "../ui/live.js";

/** The settings of a method, as far as the model takes them. */
function settingsOf(model) {
  const { usual_steps: steps, usual_guidance: guidance, sampler, schedule } = model.distilled;
  const schedules = schedulesFor(sampler, model);
  if (!schedules.length) return { steps, guidance };
  return { steps, guidance, sampler, schedule: schedules.includes(schedule) ? schedule : "automatic" };
}

/** The question, a line below the chosen model; hidden where there is nothing to ask. */
export function distilledQuestion() {
  const words = h("span", {});
  const answer = (isDistilled) => async () => {
    const { model } = form.get();
    const settings = isDistilled ? settingsOf(model) : {};
    try {
      await rememberDefaults(model, { ...ownDefaults(model), ...settings, is_distilled: isDistilled });
    } catch (problem) {
      say(problem);
      return;
    }
    if (!isDistilled) return;
    const typed = Object.entries(settings).map(([name, value]) => [name, String(value)]);
    change(Object.fromEntries(typed));
    announce(`The settings are those of ${model.title}, and remembered.`);
  };
  const line = h(
    "p.hint.distilled",
    { hidden: true },
    words,
    " ",
    button({ label: "Use these", kind: "link", onclick: answer(true) }),
    " ",
    button({ label: "No", kind: "link", onclick: answer(false) }),
  );
  let asked = "";
  const draw = () => {
    const { model } = form.get();
    const wants = model?.problem ? null : model?.distilled;
    const own = wants ? ownDefaults(model) : null;
    line.hidden = true;
    if (!wants) return;
    if (!own && asked !== model.name) {
      asked = model.name;
      loadOwnDefaults();
    }
    if (own && own.is_distilled === undefined && !isUsual(model, wants)) {
      setText(words, `This looks like a ${wants.method} model: ${wants.summary}.`);
      line.hidden = false;
    }
  };
  form.watch(draw);
  whenOwnDefaults(draw);
  return line;
}

// Its own defaults are those of the method already, as SD 3.5 large turbo's.
const isUsual = ({ defaults }, { steps: [least, most], guidance: [, high] }) =>
  defaults.steps >= least && defaults.steps <= most && defaults.guidance <= high;
