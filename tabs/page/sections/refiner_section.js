// The refiner: another model that takes over while the picture is made. Closed, and off; seen only where there is one.

import { config } from "../core/config.js";
import { learnTitles, modelTitle } from "../core/model_list.js";
import { short } from "../core/words.js";
import { showProblem, slider } from "../form/bound.js";
import { change, form, number, partOf, typed } from "../form/form.js";
import { joinRecipe } from "../form/recipe_parts.js";
import { ranged } from "../form/rules.js";
import { section } from "../form/section.js";
import { makePicker } from "../models/model_picker.js";
import { button, field, h, icon, setText } from "../ui/dom.js";

const MODEL = "refiner.model";
const AT = "refiner.at";
const latentsOf = (model) => config.latents[model?.family];

/** Fill the part. */
export function refiner_section(element) {
  const details = section({
    name: "refiner",
    title: config.labels.refiner,
    fields: ["refiner", MODEL, AT],
    summary: (now) => (now[MODEL] ? `${modelTitle(now[MODEL])} from ${short(number(now[AT]))}` : ""),
    body,
  });
  form.watch((now) => {
    const isOffered = config.refinable[latentsOf(now.model)];
    details.hidden = !isOffered && !now[MODEL] && !details.open;
  });
  element.replaceChildren(details);
  joinRecipe("refiner_section", {
    write: (draft, now) => {
      if (now[MODEL]) draft.refiner = { ...partOf("refiner", now), model: now[MODEL] };
    },
    read: ({ refiner }, patch) => {
      patch[MODEL] = refiner?.model?.name ?? refiner?.model ?? "";
      patch[AT] = typed(refiner?.at ?? config.defaults[AT]);
    },
    rules: { [MODEL]: () => null, [AT]: (now) => (now[MODEL] ? ranged(AT, now[AT]) : null) },
  });
}

function body() {
  const name = h("span.model-name", {});
  const row = h(
    "button.model-row.one-line",
    { type: "button", "aria-haspopup": "dialog", "aria-expanded": "false", onclick: () => picker.open(row) },
    name,
    icon("down"),
  );
  const picker = makePicker({
    chosen: () => [form.get()[MODEL]],
    fits: (model) => latentsOf(model) === latentsOf(form.get().model) && model.name !== form.get().model?.name,
    onchoose: (model) => {
      learnTitles([model]);
      change({ [MODEL]: model.name });
    },
  });
  document.querySelector(".gradio-container")?.append(picker.element);
  const none = button({
    label: "No refiner",
    icon: "close",
    words: false,
    kind: "inside",
    onclick: () => {
      change({ [MODEL]: "" });
      row.focus();
    },
  });
  const { box, problem } = field(MODEL, config.labels[MODEL], h("div.with-buttons", {}, row, none), {
    note: config.explain[MODEL],
  });
  const at = slider(AT, 0.05);
  form.watch((now) => {
    const title = now[MODEL] ? modelTitle(now[MODEL]) : "None";
    setText(name, title);
    row.setAttribute("aria-label", `${config.labels[MODEL]}: ${title}. Choose another`);
    none.hidden = at.hidden = !now[MODEL];
  });
  showProblem(MODEL, row, problem);
  return [box, at];
}
