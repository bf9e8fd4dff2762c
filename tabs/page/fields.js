// The smaller fields of the recipe: sliders, lists, seed and pictures, size, More, Explain.

import { config, samplerLabel, schedulesFor } from "./config.js";
import { button, field, freshId, h, icon } from "./dom.js";
import { readRecipe } from "./drop.js";
import { change, form, number, presetOf, startValues } from "./form.js";
import { job } from "./job.js";
import { problemOf } from "./rules.js";
import { segmented } from "./segmented.js";
import { keep, recall } from "./store.js";
import { pixels } from "./words.js";

/** Show a field's problem once it was left or Generate asked for it; hide it as soon as it is gone. */
export function showProblem(name, input, place) {
  let isAsked = false;
  const draw = () => {
    const problem = isAsked ? problemOf(name) : null;
    place.hidden = !problem;
    input.toggleAttribute("data-bad", Boolean(problem));
    if (!problem) { input.removeAttribute("aria-invalid"); input.removeAttribute("aria-describedby"); return; }
    input.setAttribute("aria-invalid", "true");
    input.setAttribute("aria-describedby", place.id);
    place.replaceChildren(problem.text, ...problem.fixes.map((fix) =>
      button({ label: fix.label, kind: "fix", onclick: () => change(fix.patch) })));
  };
  const ask = () => { isAsked = true; draw(); };
  input.addEventListener("change", ask);
  input.addEventListener("problem", ask);
  form.watch(draw);
}

/** A text field bound to one value of the form. */
function textInput(name, given = {}) {
  const input = /** @type {HTMLInputElement} */ (h("input", {
    type: "text", id: freshId(name), autocomplete: "off", spellcheck: "false",
    oninput: () => change({ [name]: input.value }), ...given,
  }));
  form.watch((now) => { if (input.value !== now[name]) input.value = now[name] ?? ""; });
  return input;
}

/** A number to drag or to type; what is typed stays as it is. Double click takes the model's default. */
function slider(name, step) {
  const [low, high] = config.limits[name];
  const label = config.labels[name];
  const input = textInput(name, { inputmode: "decimal", class: "number" });
  const range = /** @type {HTMLInputElement} */ (h("input", {
    type: "range", min: low, max: high, step, "aria-label": `${label}, slider`,
    oninput: () => change({ [name]: String(Number(range.value)) }),
    ondblclick: () => change({ [name]: startValues(form.get().model)[name] }),
  }));
  const { box, problem } = field(name, label, range, { note: config.explain[name], aside: input, labelFor: input.id });
  form.watch((now) => {
    const value = number(now[name]);
    if (Number.isNaN(value)) return;
    range.value = String(value);
    range.style.setProperty("--fill", `${(100 * (Math.min(high, Math.max(low, value)) - low)) / (high - low)}%`);
  });
  showProblem(name, input, problem);
  return box;
}

/** Steps and guidance. */
export function number_fields(element) {
  element.replaceChildren(h("div.pair", {}, slider("steps", 1), slider("guidance", 0.5)));
}

function list(name, offers) {
  const select = /** @type {HTMLSelectElement} */ (h("select", { id: freshId(name), onchange: () => change({ [name]: select.value }) }));
  const { box } = field(name, config.labels[name], h("div.select", {}, select, icon("down")),
    { note: config.explain[name], labelFor: select.id });
  let key = "";
  form.watch((now) => {
    const choices = offers(now);
    if (!choices.some(([value]) => value === now[name])) choices.push([now[name], now[name]]);
    const next = JSON.stringify(choices);
    if (next !== key) {
      key = next;
      select.replaceChildren(...choices.map(([value, label]) => h("option", { value }, label)));
    }
    select.value = now[name];
  });
  return box;
}

/** Sampler and schedule; only pairs that make sense are offered. */
export function sampler_fields(element) {
  element.replaceChildren(h("div.pair", {},
    list("sampler", () => config.samplers.map(({ id }) => [id, samplerLabel(id)])),
    list("schedule", (now) => schedulesFor(now.sampler, now.model).map((id) => [id, config.schedules[id]]))));
}

/** Seed (empty is random) and how many pictures. */
export function seed_fields(element) {
  const seed = textInput("seed", { inputmode: "numeric", placeholder: "Random" });
  const reuse = button({ label: "Use the last seed", icon: "again", words: false, kind: "inside", onclick: () => {
    const last = job.lastSeed();
    if (last) change({ seed: last });
  } });
  const clear = button({ label: "Clear the seed: random", icon: "close", words: false, kind: "inside", onclick: () => {
    change({ seed: "" });
    seed.focus();
  } });
  const { box, problem } = field("seed", config.labels.seed, h("div.with-buttons", {}, seed, reuse, clear),
    { note: config.explain.seed, labelFor: seed.id });
  showProblem("seed", seed, problem);
  form.watch((now) => { clear.hidden = now.seed === ""; reuse.hidden = now.seed !== ""; });

  const counts = segmented({ label: config.labels.count, onchoose: (count) => change({ count }) });
  form.watch((now) => {
    const all = config.counts.includes(now.count) ? config.counts : [...config.counts.slice(0, 3), now.count];
    counts.offer(all.map((value) => ({ value, label: String(value) })), now.count);
  });
  const pictures = field("count", config.labels.count, counts.element, { note: config.explain.count });
  element.replaceChildren(h("div.pair", {}, box, pictures.box));
}

/** Square, Tall, Wide of the model's family, or Custom: width, height and a button that swaps them. */
export function size_field(element) {
  const choose = segmented({ label: "Size", onchoose: (preset) => {
    const chosen = form.get().model?.sizes?.[preset];
    change(chosen ? { preset, width: String(chosen[0]), height: String(chosen[1]) } : { preset: "custom" });
  } });
  const width = textInput("width", { inputmode: "numeric", "aria-label": config.labels.width });
  const height = textInput("height", { inputmode: "numeric", "aria-label": config.labels.height });
  const swap = button({ label: "Swap width and height", icon: "swap", words: false, kind: "outlined",
    onclick: () => change({ width: form.get().height, height: form.get().width }) });
  const other = field("height", "", "");
  const custom = h("div.custom-size", {}, width, h("span", { "aria-hidden": "true" }, "×"), height, swap);
  const { box, title, problem } = field("width", "Size", h("div", {}, choose.element, custom), { note: config.explain.size });
  box.append(other.problem);
  showProblem("width", width, problem);
  showProblem("height", height, other.problem);
  form.watch((now) => {
    const presets = Object.keys(now.model?.sizes ?? {}).sort((a, b) => order(a) - order(b));
    const choices = presets.map((value) => ({ value, label: value[0].toUpperCase() + value.slice(1) }));
    const isPreset = presets.includes(now.preset) && presetOf(now.model, now.width, now.height) === now.preset;
    choose.offer([...choices, { value: "custom", label: "Custom" }], isPreset ? now.preset : "custom");
    custom.hidden = isPreset;
    title.textContent = `Size, ${pixels(now.width.trim() || "?", now.height.trim() || "?")}`;
  });
  element.replaceChildren(box);
}

const order = (name) => ["square", "tall", "wide"].indexOf(name) + 1 || 9;

/** The closed section for what is rarely touched; its summary says what differs from the default. */
export function more_section(element) {
  const summary = h("span.summary", {});
  const sections = recall("sections", {});
  const details = /** @type {HTMLDetailsElement} */ (h("details.section", {
    open: Boolean(sections.more), ontoggle: () => keep("sections", { ...recall("sections", {}), more: details.open }),
  }, h("summary", {}, h("span", {}, "More"), summary, icon("right")), h("div.section-body", {}, slider("clip_skip", 1), recipeReader())));
  form.watch((now) => { summary.textContent = now.clip_skip === "1" ? "" : `clip skip ${now.clip_skip}`; });
  element.replaceChildren(details);
}

// The same as dropping a picture on the page, for fingers and keyboards.
function recipeReader() {
  const file = /** @type {HTMLInputElement} */ (h("input", { type: "file", accept: "image/png, image/jpeg, image/webp", hidden: true, onchange: () => {
    if (file.files?.[0]) readRecipe(file.files[0]);
    file.value = "";
  } }));
  return h("div.reader", {}, button({ label: "Read the recipe of a picture", icon: "file", kind: "outlined", onclick: () => file.click() }), file);
}

/** Explain: on, each field carries one sentence below it. */
export function explain_switch(element) {
  const root = document.documentElement;
  const set = (isOn) => {
    root.classList.toggle("explains", isOn);
    toggle.setAttribute("aria-checked", String(isOn));
    keep("explain", isOn);
  };
  const toggle = h("button.switch", { type: "button", role: "switch",
    onclick: () => set(toggle.getAttribute("aria-checked") !== "true") },
  h("span", {}, "Explain"), h("span.track", { "aria-hidden": "true" }));
  set(recall("explain", false));
  element.replaceChildren(toggle);
}
