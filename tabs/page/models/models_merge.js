// Merge: a checkpoint made of others, or with LoRAs baked in. What is here is offered; the server judges the rest.

import { get, inWords, sentenceOf } from "../core/api.js";
import { familyLabel } from "../core/config.js";
import { go } from "../core/route.js";
import { keep, recall } from "../core/store.js";
import { begin } from "../jobs/model_tasks.js";
import { button, field, freshId, h, icon, sayAtField, setText } from "../ui/dom.js";
import { announce } from "../ui/live.js";
import { segmented } from "../ui/segmented.js";

const METHODS = [
  { value: "weighted", label: "Weighted" },
  { value: "add_difference", label: "Add difference" },
];
const PRECISIONS = [
  ["float16", "16-bit float"],
  ["bfloat16", "bfloat16"],
  ["float32", "32-bit float"],
];
const ABOUT = { weighted: "A × (1 − ratio) + B × ratio", add_difference: "A + (B − C) × ratio" };
const MOST_LORAS = 8;
const FRESH = { name: "", method: "weighted", a: "", b: "", c: "", ratio: "0.5", loras: [], dtype: "float16" };

/** @param {any} shop says whether this person manages the models */
export function makeMerge(shop) {
  let now = { ...FRESH, ...recall("merge", {}) };
  /** @type {{checkpoint: any[], lora: any[]}} */
  let models = { checkpoint: [], lora: [] };
  /** Fill each list anew. @type {(() => void)[]} */
  const fillers = [];
  const refusal = h("p.none", { hidden: true });
  const problem = h("p.problem", { hidden: true, role: "alert" });
  const method = segmented({ label: "Method", onchoose: (value) => set({ method: value }) });
  const about = h("p.hint", {});
  const name = text("name", "my-merge");
  const ratio = text("ratio", "0.5", "decimal");
  const [a, b, c] = ["a", "b", "c"].map((part) =>
    select(part, () => [["", "Choose a model"], ...models.checkpoint.map(optionOf)]),
  );
  const precision = select("dtype", () => PRECISIONS);
  const loras = h("div.merge-loras", {});
  const boxC = labeled("Model C", c);
  const form = h(
    "div.merge-form",
    {},
    labeled("Name", name),
    field("method", "Method", method.element).box,
    about,
    labeled("Model A", a),
    labeled("Model B", b),
    boxC,
    h("div.pair", {}, labeled("Ratio", ratio), labeled("Precision", precision)),
    h("h2", {}, "LoRAs to bake in"),
    loras,
    button({
      label: "Add a LoRA",
      icon: "plus",
      kind: "outlined",
      onclick: () => set({ loras: [...now.loras, { model: "", weight: "1" }].slice(0, MOST_LORAS) }),
    }),
    problem,
    h(
      "div.dialog-foot",
      {},
      h("p.hint", {}, "The result is a checkpoint in models/checkpoints/, with how it was made inside."),
      button({ label: "Merge", kind: "filled", onclick: submit }),
    ),
  );
  const element = h("div.models-merge", {}, refusal, form);

  function text(part, placeholder, inputmode = "") {
    return h("input", {
      type: "text",
      id: freshId(part),
      placeholder,
      inputmode: inputmode || null,
      autocomplete: "off",
      spellcheck: "false",
      value: now[part],
      oninput: (event) => set({ [part]: event.target.value }),
    });
  }

  function select(part, offers) {
    const made = h("select", { id: freshId(part), onchange: () => set({ [part]: made.value }) });
    fillers.push(() => fillOptions(made, offers(), now[part]));
    return made;
  }

  function set(patch) {
    now = { ...now, ...patch };
    keep("merge", now);
    problem.hidden = true;
    sayAtField(form, "", "");
    draw();
  }

  function draw() {
    refusal.hidden = shop.get().allowed || !shop.get().isKnown;
    form.hidden = !shop.get().allowed;
    setText(refusal, shop.get().refusal);
    method.offer(METHODS, now.method);
    setText(about, ABOUT[now.method]);
    boxC.hidden = now.method !== "add_difference";
    for (const fill of fillers) fill();
    const key = JSON.stringify([now.loras.map((one) => one.model), models.lora.length]);
    if (loras.dataset.key === key) return;
    loras.dataset.key = key;
    loras.replaceChildren(...now.loras.map(loraRow));
  }

  function loraRow(lora, index) {
    const patch = (change) => set({ loras: now.loras.map((one, at) => (at === index ? { ...one, ...change } : one)) });
    const list = h("select", { "aria-label": `LoRA ${index + 1}`, onchange: () => patch({ model: list.value }) });
    fillOptions(list, [["", "Choose a LoRA"], ...models.lora.map(optionOf)], lora.model);
    const weight = h("input", {
      type: "text",
      inputmode: "decimal",
      "aria-label": `Weight of LoRA ${index + 1}`,
      value: lora.weight,
      oninput: () => patch({ weight: weight.value }),
    });
    return h(
      "div.merge-lora",
      {},
      h("div.select", {}, list, icon("down")),
      weight,
      button({
        label: `Remove LoRA ${index + 1}`,
        icon: "trash",
        words: false,
        onclick: () => set({ loras: now.loras.filter((_, at) => at !== index) }),
      }),
    );
  }

  async function submit() {
    const number = (typed) => (typed.trim() === "" ? null : Number(typed.replace(",", ".")));
    /** @type {any} */
    const body = {
      name: now.name.trim(),
      method: now.method,
      a: now.a,
      ratio: number(now.ratio),
      dtype: now.dtype,
      loras: now.loras.filter((one) => one.model).map((one) => ({ model: one.model, weight: number(one.weight) })),
    };
    if (now.b) body.b = now.b;
    if (now.method === "add_difference" && now.c) body.c = now.c;
    const missing = missingIn(body);
    if (missing) {
      missing.control.focus();
      refuse(undefined, missing.text);
      return;
    }
    try {
      await begin("merge", body);
      announce(`Merging ${body.name}.`);
      go("models", "get");
    } catch (refused) {
      const { field: at = "" } = inWords(refused);
      refuse({ name, a, b, c, ratio, dtype: precision }[at], sentenceOf(refused));
    }
  }

  function missingIn(body) {
    if (!body.name) return { control: name, text: "Give the merge a name." };
    if (!body.a) return { control: a, text: "Choose model A." };
    if (!body.b && !body.loras.length) return { control: b, text: "Choose model B, or add a LoRA to bake in." };
    if (now.method === "add_difference" && !body.c) {
      return { control: c, text: "Choose model C: its difference to B is added." };
    }
    return null;
  }

  function refuse(control, text) {
    if (sayAtField(form, control?.id, text)) return;
    setText(problem, text);
    problem.hidden = false;
  }

  async function refresh() {
    const [checkpoints, found] = await Promise.all(
      ["checkpoint", "lora"].map((kind) => get(`/models?kind=${kind}`).catch(() => ({ models: [] }))),
    );
    models = {
      checkpoint: checkpoints.models.filter((one) => !one.problem),
      lora: found.models.filter((one) => !one.problem),
    };
    draw();
  }

  shop.watch(draw);
  return { element, refresh };
}

const optionOf = (model) => [model.name, `${model.title} · ${model.family_label || familyLabel(model.family)}`];

const labeled = (label, control) =>
  field(control.id, label, control.tagName === "SELECT" ? h("div.select", {}, control, icon("down")) : control, {
    labelFor: control.id,
  }).box;

function fillOptions(list, choices, chosen) {
  const all = choices.some(([value]) => value === chosen) ? choices : [...choices, [chosen, chosen]];
  const key = JSON.stringify(all);
  if (list.dataset.key !== key) {
    list.dataset.key = key;
    list.replaceChildren(...all.map(([value, label]) => h("option", { value }, label)));
  }
  list.value = chosen;
}
