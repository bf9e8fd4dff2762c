// The chosen model: side picture, name, family, size, whether it is in memory. A click opens the picker.

import { config } from "../core/config.js";
import { engine } from "../core/engine.js";
import { wishFor } from "../core/model_list.js";
import { showProblem } from "../form/bound.js";
import { chooseModel, form } from "../form/form.js";
import { field, h, icon } from "../ui/dom.js";
import { distilledQuestion } from "./distilled_question.js";
import { modelLine, modelPicture } from "./model_card.js";
import { makePicker } from "./model_picker.js";

/** Fill the part. */
export function model_row(element) {
  const row = h("button.model-row", {
    type: "button",
    "aria-haspopup": "dialog",
    "aria-expanded": "false",
    onclick: () => picker.open(row),
  });
  const picker = makePicker({
    onchoose: (model) => {
      chooseModel(model);
      wishFor(model);
    },
  });
  const { box, problem } = field("model", config.labels.model, row, { note: config.explain.model });
  let key = "";
  const draw = () => {
    const { model } = form.get();
    const line = model ? modelLine(model) : "Put a .safetensors file into models/";
    const next = JSON.stringify([model?.name, line]);
    if (next === key) return;
    key = next;
    row.setAttribute("aria-label", `Model: ${model?.title ?? "none"}, ${line}. Choose another`);
    row.replaceChildren(
      ...[
        model && modelPicture(model, "model-picture"),
        h(
          "span.model-words",
          {},
          h("span.model-name", {}, model?.title ?? "No model"),
          h(model?.problem ? "span.bad" : "span.hint", {}, line),
        ),
        icon("down"),
      ].filter(Boolean),
    );
  };
  form.watch(draw);
  engine.later(draw);
  showProblem("model", row, problem);
  box.append(distilledQuestion());
  element.replaceChildren(box);
  element.closest(".gradio-container")?.append(picker.element);
}
