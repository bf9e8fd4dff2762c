// Builds elements. A person's text only ever becomes a text node, never markup.

import { PATHS } from "./icons.js";

const SVG = "http://www.w3.org/2000/svg";

/**
 * The element that a tag names: an HTMLInputElement for "input.wide".
 * @template {string} Tag
 * @typedef {Tag extends `${infer Name extends keyof HTMLElementTagNameMap}.${string}` ? HTMLElementTagNameMap[Name]
 *   : Tag extends keyof HTMLElementTagNameMap ? HTMLElementTagNameMap[Tag] : HTMLElement} ElementOf
 */

/**
 * Make an element.
 * @template {string} Tag
 * @param {Tag} tag element name, with classes after dots: "button.ghost"
 * @param {Object<string, any>} [given] attributes; on… are listeners, null and false are left out
 * @param {...(Node|string|null|false|undefined)} children
 * @returns {ElementOf<Tag>}
 */
export function h(tag, given = {}, ...children) {
  const [name, ...classes] = tag.split(".");
  const element = document.createElement(name);
  if (classes.length) element.className = classes.join(" ");
  for (const [key, value] of Object.entries(given)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "value") /** @type {any} */ (element).value = value;
    else element.setAttribute(key, value === true ? "" : String(value));
  }
  put(element, ...children);
  return /** @type {ElementOf<Tag>} */ (element);
}

/** Append what is there of some nodes and texts. */
export function put(parent, ...children) {
  for (const child of children) {
    if (child !== null && child !== undefined && child !== false) parent.append(child);
  }
  return parent;
}

/** All elements below one that match. @returns {HTMLElement[]} */
export const allWithin = (root, selector) => [...root.querySelectorAll(selector)];

/** What an event's target is, or the nearest element around it that matches. @returns {HTMLElement|null} */
export function targetOf(event, selector) {
  return event.target instanceof Element ? event.target.closest(selector) : null;
}

/** The element below another one that has the focus. @returns {HTMLElement|null} */
export function focusedWithin(root) {
  const focused = document.activeElement;
  return focused instanceof HTMLElement && root.contains(focused) ? focused : null;
}

/** Replace the content, unless it is the same text already (which would wake screen readers). */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** A line drawing of 20 pixels; `ui/icons.js` has the names. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  for (const d of PATHS[name]) {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("d", d.replace(/^fill /, ""));
    if (d.startsWith("fill ")) path.setAttribute("class", "filled");
    svg.append(path);
  }
  return svg;
}

/**
 * A button with an icon, words, or both. Without visible words the label names it.
 * @param {{label: string, icon?: string, words?: boolean, keys?: string, kind?: string,
 *          onclick: (event: Event) => void, pressed?: boolean, quick?: boolean}} look
 *   quick: it may be clicked as fast as one likes; of others a double click counts once (ui/presses.js)
 */
export function button(look) {
  const words = look.words ?? true;
  const made = h(
    `button.${look.kind ?? "plain"}`,
    {
      type: "button",
      onclick: look.onclick,
      "aria-label": words ? null : look.label,
      title: words ? null : look.label,
      "aria-pressed": look.pressed,
      "data-quick": look.quick,
    },
    look.icon && icon(look.icon),
    words && h("span.words", {}, look.label),
    look.keys && h("kbd", { "aria-hidden": "true" }, look.keys),
  );
  if (!words) made.classList.add("icon-only");
  return made;
}

let counted = 0;

/** An id that no other element of the page has. */
export function freshId(name) {
  counted += 1;
  return `${name}-${counted}`;
}

/**
 * Say a problem at a dialog's own field, if it has it.
 * @returns {boolean} whether it has
 */
export function sayAtField(root, field, text) {
  for (const place of root.querySelectorAll("[data-field] > .problem")) place.hidden = true;
  const place = field && root.querySelector(`[data-field="${CSS.escape(field)}"] > .problem`);
  if (!place) return false;
  setText(place, text);
  place.hidden = false;
  place.parentElement.querySelector("input:not([hidden]), select, button")?.focus();
  return true;
}

/**
 * A field: label, control, an explaining note (with Explain on) and a place for its problem.
 * @param {string} name
 * @param {Node|string} label
 * @param {Node|string} control
 * @param {{note?: string, aside?: Node|null, labelFor?: string|null}} [look]
 */
export function field(name, label, control, { note = "", aside = null, labelFor = null } = {}) {
  const problem = h("p.problem", { hidden: true, id: freshId("problem") });
  const title = labelFor ? h("label", { for: labelFor }, label) : h("span.label", { id: freshId("label") }, label);
  const box = h(
    "div.field",
    { "data-field": name },
    h("div.field-head", {}, title, aside),
    control,
    problem,
    note && h("p.explain", {}, note),
  );
  return { box, title, problem };
}
