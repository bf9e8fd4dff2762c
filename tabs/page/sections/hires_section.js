// The hires pass: the same picture again, larger, by the same loop. Closed, and off, until someone wants it.

import { config, samplersFor, schedulesFor } from "../core/config.js";
import { formTab } from "../core/route.js";
import { pixels, short } from "../core/words.js";
import { entry, list, slider, toggle } from "../form/bound.js";
import { change, form, number, partOf, startValues, typed } from "../form/form.js";
import { upscalers } from "../form/parts_list.js";
import { joinRecipe } from "../form/recipe_parts.js";
import { judgeText, ranged } from "../form/rules.js";
import { section } from "../form/section.js";
import { sizeOf } from "../form/size.js";
import { hiresSize } from "../form/size_rule.js";
import { unitsOf } from "../form/units.js";
import { methodRows } from "../guidance/guidance_section.js";
import { methodsOf, methodsRule, PART, rowsOf } from "../guidance/guidance_units.js";
import { h } from "../ui/dom.js";

const OWN = ["scale", "upscaler", "steps", "strength", "sampler", "schedule", "guidance", "prompt", "negative_prompt"];
const METHODS = "hires.guidance_methods"; // a list where the pass has its own, else empty
const FIELDS = ["hires", ...OWN.map((name) => `hires.${name}`), METHODS];

/** Fill the part. */
export function hires_section(element) {
  element.replaceChildren(section({ name: "hires", title: config.labels.hires, fields: FIELDS, summary, body }));
  joinRecipe("hires_section", {
    write,
    read,
    rules: {
      "hires.scale": (values) => judge(values, "scale"),
      "hires.strength": (values) => judge(values, "strength"),
      "hires.prompt": (values) => (values.hires ? judgeText("hires.prompt", values["hires.prompt"]) : null),
      "hires.steps": (values) => (values["hires.steps"].trim() ? judge(values, "steps", true) : null),
      "hires.guidance": (values) => ((values["hires.guidance"] ?? "").trim() ? judge(values, "guidance") : null),
      [METHODS]: (values) => (values.hires ? methodsRule(METHODS, values) : null),
    },
  });
}

const judge = (values, name, whole = false) =>
  values.hires ? ranged(`hires.${name}`, values[`hires.${name}`], whole) : null;

/** "2×, 1536 × 1024". */
function summary(values) {
  if (!values.hires) return "";
  const by = number(values["hires.scale"]);
  const { width, height } = hiresSize(sizeOf(values, formTab()), by);
  return Number.isNaN(width * height) ? "on" : `${short(by)}×, ${pixels(width, height)}`;
}

function body() {
  upscalers.refresh();
  const way = list("hires.upscaler", () => {
    const { items } = upscalers.state.get();
    return items.length ? items.map((one) => [one.name, one.label]) : [["latent", "Latent"]];
  });
  upscalers.state.later(() => way.dispatchEvent(new Event("offer")));
  const sampler = list("hires.sampler", (now) => [["", "As above"], ...samplersFor(now.model)]);
  const schedule = list("hires.schedule", (now) => [
    ["", "As above"],
    ...schedulesFor(now["hires.sampler"] || now.sampler, now.model).map((id) => [id, config.schedules[id]]),
  ]);
  const rest = h(
    "div.stack",
    {},
    h("div.pair", {}, way, slider("hires.scale", 0.25, { from: 1, to: 4 })),
    h(
      "div.pair",
      {},
      slider("hires.strength", 0.05),
      slider("hires.steps", 1, { placeholder: "As above", above: "steps" }),
    ),
    h("div.pair", {}, sampler, schedule),
    slider("hires.guidance", 0.5, { placeholder: "As above", above: "guidance" }),
    ...guidance(),
    ...["prompt", "negative_prompt"].map((name) => entry(`hires.${name}`, { placeholder: "As above" })),
  );
  form.watch((now) => {
    rest.hidden = !now.hires;
  });
  return [toggle("hires", "Paint once more, larger"), rest];
}

// Guidance methods of the second pass alone, at first those of the first.
function guidance() {
  const isOwn = toggle(METHODS, "Guidance methods of its own", {
    get: (now) => now[METHODS],
    set: (on) => change({ [METHODS]: on ? [...unitsOf(PART)] : "" }),
    standard: () => "",
    judge: () => null,
    field: "hires.own_guidance",
  });
  const rows = methodRows(METHODS);
  form.watch((now) => {
    rows.hidden = !now[METHODS];
  });
  return [isOwn, rows];
}

function write(draft, values) {
  if (!values.hires) return;
  draft.hires = partOf("hires", values);
  if (values[METHODS]) draft.hires.guidance_methods = methodsOf(METHODS, values);
}

function read({ hires }, patch) {
  patch.hires = Boolean(hires);
  patch[METHODS] = hires?.guidance_methods ? rowsOf(hires.guidance_methods) : "";
  const fresh = startValues(form.get().model);
  for (const name of OWN) {
    const value = hires?.[name] ?? fresh[`hires.${name}`];
    patch[`hires.${name}`] = typed(value?.name ?? value);
  }
}
