// The section of LoRAs: rows with a weight each, a picker to add one. Hypernetworks stand below, where there are any.

import { config } from "../core/config.js";
import { showProblem, slider } from "../form/bound.js";
import { change, form } from "../form/form.js";
import { joinRecipe } from "../form/recipe_parts.js";
import { section } from "../form/section.js";
import { addUnit, removeUnit, unitsOf, unitVia } from "../form/units.js";
import { modelLine, modelPicture } from "../models/model_card.js";
import { makePicker } from "../models/model_picker.js";
import { button, field, h, setText } from "../ui/dom.js";
import { announce } from "../ui/live.js";
import { distilledLine } from "./distilled.js";
import { judgeNet, LISTS, netRule, netSummary, readNets, writeNets } from "./lora_units.js";
import { bringTriggers, triggerChip } from "./triggers.js";

const KIND_OF = { loras: "lora", hypernetworks: "hypernetwork" };
const MOST_WORDS = 12;

/** Fill the part. */
export function lora_section(element) {
  const container = element.closest(".gradio-container") ?? document.body;
  element.replaceChildren(
    section({
      name: "loras",
      title: config.labels.loras,
      fields: ["loras", "hypernetworks"],
      summary: netSummary,
      body: () => [part("loras", "Add a LoRA", container), part("hypernetworks", "Add a hypernetwork", container)],
    }),
  );
  joinRecipe("lora_section", {
    write: writeNets,
    read: readNets,
    rules: { loras: netRule("loras"), hypernetworks: netRule("hypernetworks") },
  });
}

function part(name, label, container) {
  const models = LISTS[name];
  models.refresh();
  const picker = makePicker({
    kind: KIND_OF[name],
    chosen: () => unitsOf(name).map((unit) => unit.model),
    onchoose: (model) => {
      addUnit(name, { model: model.name });
      const words = bringTriggers(model, form.get().prompt, (prompt) => change({ prompt }));
      announce(`${model.title} was added${words ? ` with ${words}` : ""}.`);
    },
  });
  container.append(picker.element);
  const add = button({ label, icon: "plus", kind: "outlined", onclick: () => picker.open(add) });
  const none = h("p.hint", {}, `Put a .safetensors file into models/${name}/; it appears here by itself.`);
  const units = h("div.units", {});
  const { box, problem } = field(name, "", h("div.stack", {}, units, none, add), { note: config.explain[name] });
  showProblem(name, add, problem, {
    get: () => "",
    set: () => {},
    standard: () => "",
    judge: () => netRule(name)(form.get()),
    field: name,
  });
  const made = [];
  const draw = () => {
    const count = unitsOf(name).length;
    while (made.length < count) {
      made.push(makeRow(name, made.length));
      units.append(made.at(-1));
    }
    made.forEach((row, index) => {
      row.hidden = index >= count;
    });
    const { items, isKnown } = models.state.get();
    none.hidden = !isKnown || items.length > 0;
    add.hidden = count >= config.limits[name] || (isKnown && !items.length);
    // Few people have hypernetworks: without any, nothing is said of them.
    box.hidden = name === "hypernetworks" && !count && !items.length;
  };
  form.watch(draw);
  models.state.later(draw);
  return box;
}

function makeRow(name, index) {
  const via = (value) => unitVia(name, index, value, (unit, which) => judgeNet(name, unit, which));
  const unit = () => unitsOf(name)[index];
  const title = h("h3", {});
  const line = h("p.hint", {});
  const thumbnail = h("span", {});
  const words = h("div.trigger-words", { role: "group", "aria-label": "Trigger words" });
  const remove = button({ label: "Remove", icon: "trash", words: false, onclick: () => removeUnit(name, index) });
  /** @type {HTMLElement[]} */
  const weights = [slider(`${name}.weight`, 0.05, { from: 0, to: 2, label: "Weight" }, via("weight"))];
  if (name === "loras") {
    const text = slider("loras.text_weight", 0.05, { from: 0, to: 2, placeholder: "As weight" }, via("text_weight"));
    weights.push(h("details.unit-more", {}, h("summary", {}, "Text encoder"), h("div.section-body", {}, text)));
  }
  let key = "";
  const draw = () => {
    const now = unit();
    if (!now) return;
    const model = LISTS[name].find(now.model);
    const wrong = judgeNet(name, now, "model");
    const next = JSON.stringify([now.model, model?.title, wrong?.text, form.get().prompt]);
    if (next === key) return;
    key = next;
    setText(title, model?.title ?? now.model.split("/").pop());
    remove.setAttribute("aria-label", `Remove ${title.textContent}`);
    line.className = wrong ? "bad" : "hint";
    setText(line, wrong?.text ?? (model ? modelLine(model) : ""));
    thumbnail.replaceChildren(...(model ? [modelPicture(model, "model-picture")] : []));
    const shown = (model?.trigger_words ?? []).slice(0, MOST_WORDS);
    words.replaceChildren(...shown.map((word) => triggerChip(model.name, word)));
    words.hidden = !words.childElementCount;
  };
  form.watch(draw);
  LISTS[name].state.later(draw);
  return h(
    "section.unit.net",
    { "aria-label": `${config.labels[name]} ${index + 1}` },
    h(
      "div.unit-head",
      { "data-field": via("model").field },
      h("span.net-name", {}, thumbnail, h("span.net-words", {}, title, line)),
      remove,
    ),
    words,
    distilledLine(() => LISTS[name].find(unit()?.model ?? "")),
    ...weights,
  );
}
