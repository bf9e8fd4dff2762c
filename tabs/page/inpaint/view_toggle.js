// What the right pane shows on a tab with a canvas: the result, or the canvas over it. It never covers a running job.

import { route } from "../core/route.js";
import { observable } from "../core/store.js";
import { job } from "../jobs/job.js";

// "result" or "canvas".
const face = observable("result");

/** @type {Map<string, {element: HTMLElement, back: string}>} */
const canvases = new Map();

/**
 * A tab brings a canvas; it lies over the stage, in its full size, while the tab is chosen and nothing runs.
 * @param {string} tab
 * @param {HTMLElement} element
 * @param {string} back words of the action that returns to it from a result, like "Change the mask"
 */
export function placeCanvas(tab, element, back) {
  element.classList.add("workbench");
  element.hidden = true;
  canvases.set(tab, { element, back });
  document.querySelector(".stage")?.append(element);
  settle();
}

/** The words that lead back to the tab's canvas; null where it has none. */
export const backToCanvas = () => canvases.get(route.get().tab)?.back ?? null;

/** Show the canvas of the chosen tab, or the result. */
export function showFace(name) {
  face.set(name === "canvas" && backToCanvas() && !job.isActive() ? "canvas" : "result");
  for (const [tab, { element }] of canvases) element.hidden = face.get() !== "canvas" || tab !== route.get().tab;
}

function settle() {
  showFace(canvases.has(route.get().tab) ? "canvas" : "result");
}

/** Follow the tabs and the jobs from now on; once, when the stage is there. */
export function joinFaces(stage) {
  stage.append(...[...canvases.values()].map(({ element }) => element));
  let tab = null;
  route.watch((now) => {
    if (now.tab !== tab) {
      tab = now.tab;
      settle();
    }
  });
  job.view.later(() => {
    if (job.isActive() && face.get() === "canvas") showFace("result");
  });
}
