// What the right pane shows on a tab with a mask editor: the result, or the editor over it. It never covers a running
// job.

import { route } from "../core/route.js";
import { observable } from "../core/store.js";
import { job } from "../jobs/job.js";

// "result" or "editor".
const view = observable("result");

/** @type {Map<string, {element: HTMLElement, back: string}>} */
const editors = new Map();

/**
 * A tab has an editor; it lies over the result pane, in its full size, while the tab is chosen and nothing runs.
 * @param {string} tab
 * @param {HTMLElement} element
 * @param {string} back words of the action that returns to it from a result, like "Change the mask"
 */
export function placeEditor(tab, element, back) {
  element.classList.add("workspace-layer");
  element.hidden = true;
  editors.set(tab, { element, back });
  document.querySelector(".result-pane")?.append(element);
  settle();
}

/** The words that lead back to the tab's editor; null where it has none. */
export const backToEditor = () => editors.get(route.get().tab)?.back ?? null;

/** Show the editor of the chosen tab, or the result. */
export function showView(name) {
  view.set(name === "editor" && backToEditor() && !job.isActive() ? "editor" : "result");
  for (const [tab, { element }] of editors) element.hidden = view.get() !== "editor" || tab !== route.get().tab;
}

function settle() {
  showView(editors.has(route.get().tab) ? "editor" : "result");
}

/** Follow the tabs and the jobs from now on; once, when the result pane is there. */
export function followTabsAndJobs(pane) {
  pane.append(...[...editors.values()].map(({ element }) => element));
  let tab = null;
  route.watch((now) => {
    if (now.tab !== tab) {
      tab = now.tab;
      settle();
    }
  });
  job.view.later(() => {
    if (job.isActive() && view.get() === "editor") showView("result");
  });
}
