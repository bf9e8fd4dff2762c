// The panes that all generating tabs share: which sections of the recipe the chosen tab shows, and in which order.
// Sections are elements of one part: each part of gradio's costs a cold page some milliseconds.

import { config } from "../core/config.js";
import { generates, route } from "../core/route.js";
import { h } from "../ui/dom.js";

// About what the slowest section takes to fill.
const SECTION_MS = 8;
// What no one sees yet waits until the page is there and can be pressed.
const SETTLE_MS = 1000;

/**
 * Functions that fill a section, by name; each is called once and then forgotten.
 * @type {Map<string, (element: HTMLElement) => void>}
 */
const unfilled = new Map();
/** @type {Map<string, HTMLElement>} */
const hosts = new Map();

/**
 * Fill the part: a place for each section; those of the chosen tab are filled at once, the others when there is time.
 * @param {HTMLElement} element
 * @param {Object<string, (element: HTMLElement) => void>} makers
 */
export function fillSections(element, makers) {
  for (const name of config.section_order) {
    hosts.set(name, h("div", { id: name.replaceAll("_", "-"), hidden: true }));
    unfilled.set(name, makers[name]);
  }
  element.replaceChildren(h("div.sections", {}, ...hosts.values()));
  route.watch(({ tab }) => {
    document.documentElement.classList.toggle("no-panes", !generates(tab));
    if (generates(tab)) show(config.sections[tab]);
  });
  setTimeout(() => {
    if (typeof window.requestIdleCallback === "function") requestIdleCallback(fillSome);
    else fillRest();
  }, SETTLE_MS);
}

/** Fill what fits into the idle time, the rest in the next: a press must not wait for all of them. */
function fillSome(deadline) {
  for (const name of [...unfilled.keys()]) {
    fill(name);
    if (deadline.timeRemaining() < SECTION_MS) break;
  }
  if (unfilled.size) requestIdleCallback(fillSome);
}

/** Fill what no tab has shown yet: whoever fills the form needs every section there. */
export function fillRest() {
  for (const name of [...unfilled.keys()]) fill(name);
}

function fill(name) {
  const make = unfilled.get(name);
  unfilled.delete(name);
  if (make) make(/** @type {HTMLElement} */ (hosts.get(name)));
}

// One pane has one order, and a tab may want another: then only what is out of place is moved.
function show(names) {
  names.forEach(fill);
  for (const [name, host] of hosts) host.hidden = !names.includes(name);
  names
    .map((name) => hosts.get(name))
    .forEach((host, index, all) => {
      const before = all[index - 1];
      if (before && before.compareDocumentPosition(host) & Node.DOCUMENT_POSITION_PRECEDING) before.after(host);
      host.classList.toggle("joined", isLine(host) && isLine(before));
    });
}

// A closed section keeps close to the one above it.
const isLine = (host) => Boolean(host?.querySelector("details.section, .switch:not(.inline)"));
