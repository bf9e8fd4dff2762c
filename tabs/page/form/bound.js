// Controls bound to one value of the form, or of something in it: text, slider, list, choice, switch; and their
// problems.

import { config } from "../core/config.js";
import { button, field, freshId, h, icon } from "../ui/dom.js";
import { segmented } from "../ui/segmented.js";
import { change, filledIn, form, number, startValues } from "./form.js";
import { placeSpot, problemOf, refusalOf } from "./rules.js";

/**
 * Where a value lives and what is wrong with it.
 * @typedef {Object} Via
 * @property {(values: any) => any} get from the form's values; undefined where it is gone
 * @property {(value: any) => void} set
 * @property {() => any} standard what a double click takes
 * @property {() => import("./rules.js").Problem|null} judge
 * @property {string} field name of its box
 */

/** A value of the form itself. @returns {Via} */
const plain = (name) => ({
  get: (values) => values[name],
  set: (value) => change({ [name]: value }),
  standard: () => startValues(form.get().model)[name],
  judge: () => problemOf(name),
  field: name,
});

/** Show a field's problem once it was left or Generate asked for it; hide it as soon as it is gone. */
export function showProblem(name, input, place, via = plain(name)) {
  let isAsked = false;
  const draw = () => {
    const problem = refusalOf(via.field) ?? (isAsked ? via.judge() : null);
    place.hidden = !problem;
    input.toggleAttribute("data-bad", Boolean(problem));
    if (!problem) {
      input.removeAttribute("aria-invalid");
      input.removeAttribute("aria-describedby");
      return;
    }
    input.setAttribute("aria-invalid", "true");
    input.setAttribute("aria-describedby", place.id);
    place.replaceChildren(
      problem.text,
      ...problem.fixes.map((fix) => button({ label: fix.label, kind: "fix", onclick: () => change(fix.patch) })),
    );
  };
  const ask = () => {
    isAsked = true;
    draw();
  };
  placeSpot(via.field, { input, place, ask, value: () => via.get(form.get()) || filledIn() });
  input.addEventListener("change", ask);
  input.addEventListener("problem", ask);
  form.watch(draw);
}

/** A text field. */
export function textInput(name, given = {}, via = plain(name)) {
  const input = h("input", {
    type: "text",
    id: freshId(name),
    autocomplete: "off",
    spellcheck: "false",
    oninput: () => via.set(input.value),
    ...given,
  });
  form.watch((now) => {
    const value = via.get(now) ?? "";
    if (input.value !== value) input.value = value;
  });
  return input;
}

/** A labeled text field with its note; what stands in it while it is empty says what counts then. */
export function entry(name, given) {
  const input = textInput(name, given);
  const { box, problem } = field(name, config.labels[name], input, { note: config.explain[name], labelFor: input.id });
  showProblem(name, input, problem);
  return box;
}

/**
 * A number to drag or to type; what is typed stays as it is. Double click takes the default.
 * @param {string} name of the value; label, range and note are the configuration's
 * @param {number} step of dragging
 * @param {{from?: number, to?: number, label?: string, placeholder?: string, above?: string}} [look] from, to: what
 *   dragging reaches, where that is less than what is allowed; above: the value that counts where none is typed
 */
export function slider(name, step, look = {}, via = plain(name)) {
  const [low, high] = [look.from ?? config.limits[name][0], look.to ?? config.limits[name][1]];
  const label = look.label ?? config.labels[name];
  const input = textInput(name, { inputmode: "decimal", class: "number", placeholder: look.placeholder }, via);
  const range = h("input", {
    type: "range",
    min: low,
    max: high,
    step,
    "aria-label": `${label}, slider`,
    oninput: () => via.set(String(Number(range.value))),
    ondblclick: () => via.set(via.standard()),
  });
  const { box, problem } = field(via.field, label, range, {
    note: config.explain[name],
    aside: input,
    labelFor: input.id,
  });
  form.watch((now) => {
    const typed = via.get(now) ?? "";
    const value = number(typed === "" && look.above ? now[look.above] : typed);
    if (Number.isNaN(value)) return;
    range.value = String(value);
    range.style.setProperty("--fill", `${(100 * (Math.min(high, Math.max(low, value)) - low)) / (high - low)}%`);
  });
  showProblem(name, input, problem, via);
  return box;
}

/** A list to choose from. offers: pairs of value and label for the values of the form. */
export function list(name, offers, label = config.labels[name], via = plain(name)) {
  const select = h("select", { id: freshId(name), onchange: () => via.set(select.value) });
  const { box, problem } = field(via.field, label, h("div.select", {}, select, icon("down")), {
    note: config.explain[name],
    labelFor: select.id,
  });
  let key = "";
  const draw = () => {
    const chosen = via.get(form.get()) ?? "";
    const choices = [...offers(form.get())];
    if (!choices.some(([value]) => value === chosen)) choices.push([chosen, chosen]);
    const next = JSON.stringify(choices);
    if (next !== key) {
      key = next;
      select.replaceChildren(...choices.map(([value, text]) => h("option", { value }, text)));
    }
    select.value = chosen;
  };
  form.watch(draw);
  box.addEventListener("offer", draw);
  showProblem(name, select, problem, via);
  return box;
}

/** Two to five choices side by side: pairs of value and label. */
export function choice(name, offers, label = config.labels[name], via = plain(name)) {
  const group = segmented({ label, onchoose: via.set });
  form.watch((now) =>
    group.offer(
      offers.map(([value, text]) => ({ value, label: text })),
      via.get(now),
    ),
  );
  const { box, problem } = field(via.field, label, group.element, { note: config.explain[name] });
  showProblem(name, group.element, problem, via);
  return box;
}

/** On or off. */
export function toggle(name, label, via = plain(name)) {
  const made = h(
    "button.switch.inline",
    { type: "button", role: "switch", onclick: () => via.set(!via.get(form.get())) },
    h("span", {}, label),
    h("span.track", { "aria-hidden": "true" }),
  );
  form.watch((now) => made.setAttribute("aria-checked", String(Boolean(via.get(now)))));
  const problem = h("p.problem", { hidden: true, id: freshId("problem") });
  showProblem(name, made, problem, via);
  return h(
    "div.field",
    { "data-field": via.field },
    made,
    problem,
    config.explain[name] && h("p.explain", {}, config.explain[name]),
  );
}
