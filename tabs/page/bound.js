// Controls bound to one value of the form: text, slider, list, choice, switch, and a field's problem.

import { config } from "./config.js";
import { button, field, freshId, h, icon } from "./dom.js";
import { change, form, number, startValues } from "./form.js";
import { problemOf } from "./rules.js";
import { segmented } from "./segmented.js";

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

/** A text field. */
export function textInput(name, given = {}) {
  const input = /** @type {HTMLInputElement} */ (h("input", {
    type: "text", id: freshId(name), autocomplete: "off", spellcheck: "false",
    oninput: () => change({ [name]: input.value }), ...given,
  }));
  form.watch((now) => { if (input.value !== now[name]) input.value = now[name] ?? ""; });
  return input;
}

/**
 * A number to drag or to type; what is typed stays as it is. Double click takes the default.
 * @param {string} name of the value; label, range and note are the configuration's
 * @param {number} step of dragging
 * @param {{from?: number, to?: number, label?: string, placeholder?: string}} [look] from, to: what dragging reaches,
 *   where that is less than what is allowed
 */
export function slider(name, step, look = {}) {
  const [low, high] = [look.from ?? config.limits[name][0], look.to ?? config.limits[name][1]];
  const label = look.label ?? config.labels[name];
  const input = textInput(name, { inputmode: "decimal", class: "number", placeholder: look.placeholder });
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

/** A list to choose from. offers: pairs of value and label for the values of the form. */
export function list(name, offers, label = config.labels[name]) {
  const select = /** @type {HTMLSelectElement} */ (h("select", { id: freshId(name), onchange: () => change({ [name]: select.value }) }));
  const { box } = field(name, label, h("div.select", {}, select, icon("down")),
    { note: config.explain[name], labelFor: select.id });
  let key = "";
  form.watch((now) => {
    const choices = [...offers(now)];
    if (!choices.some(([value]) => value === now[name])) choices.push([now[name], now[name]]);
    const next = JSON.stringify(choices);
    if (next !== key) {
      key = next;
      select.replaceChildren(...choices.map(([value, text]) => h("option", { value }, text)));
    }
    select.value = now[name];
  });
  return box;
}

/** Two to five choices side by side: pairs of value and label. */
export function choice(name, offers, label = config.labels[name]) {
  const group = segmented({ label, onchoose: (value) => change({ [name]: value }) });
  form.watch((now) => group.offer(offers.map(([value, text]) => ({ value, label: text })), now[name]));
  return field(name, label, group.element, { note: config.explain[name] }).box;
}

/** On or off. */
export function toggle(name, label) {
  const made = h("button.switch.inline", { type: "button", role: "switch", onclick: () => change({ [name]: !form.get()[name] }) },
    h("span", {}, label), h("span.track", { "aria-hidden": "true" }));
  form.watch((now) => made.setAttribute("aria-checked", String(Boolean(now[name]))));
  return h("div.field", { "data-field": name }, made, config.explain[name] && h("p.explain", {}, config.explain[name]));
}
