// Gradio's tab bar: joined to the address, and given what it lacks: arrow keys, one tab stop, panel names.

import { config } from "../core/config.js";
import { go, route, titleOf } from "../core/route.js";
import { allWithin } from "../ui/dom.js";

const SETTLE_MS = 120;
const MOST_CORRECTIONS = 6;
let corrections = 0;

const nameAt = (index) => config.tabs[index]?.id;
const buttons = () => allWithin(document, "#tabs > .tab-wrapper .tab-container:not(.visually-hidden) [role=tab]");

/** Watch gradio's tabs from now on; they may be drawn later than this. */
export function joinTabBar() {
  const observer = new MutationObserver(mend);
  const start = () => {
    const tabs = document.querySelector("#tabs");
    if (!tabs || !buttons().length) {
      requestAnimationFrame(start);
      return;
    }
    const [bar] = allWithin(tabs, ".tab-wrapper");
    observer.observe(bar, {
      subtree: true,
      childList: true,
      attributes: true,
      attributeFilter: ["aria-selected"],
    });
    bar.setAttribute("role", "navigation");
    bar.setAttribute("aria-label", "Tabs");
    tabs.addEventListener("keydown", steer);
    tabs.addEventListener("click", follow);
    route.watch(select);
    mend();
  };
  start();
}

// While it starts, gradio may go back to its own first tab.
function insist() {
  if (corrections >= MOST_CORRECTIONS) return;
  corrections += 1;
  select(route.get());
}

function mend() {
  const chosen = buttons().findIndex((tab) => tab.getAttribute("aria-selected") === "true");
  if (nameAt(chosen) !== route.get().tab) setTimeout(insist, SETTLE_MS);
  buttons().forEach((tab, index) => {
    const name = nameAt(index);
    const panel = document.querySelector(`#tab-${name}`);
    set(tab, "tabindex", tab.getAttribute("aria-selected") === "true" ? "0" : "-1");
    if (panel) {
      set(tab, "aria-controls", panel.id);
      set(panel, "aria-label", titleOf(name));
    }
  });
}

function set(element, name, value) {
  if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

// Only a person's click changes the address; our own clicks come from it.
function follow(event) {
  const index = buttons().indexOf(event.target.closest("[role=tab]"));
  if (index < 0 || !event.isTrusted) return;
  const { tab, id } = route.get();
  if (nameAt(index) !== tab || id) go(nameAt(index));
}

function select({ tab }) {
  const button = buttons()[config.tabs.findIndex(({ id }) => id === tab)];
  if (button && button.getAttribute("aria-selected") !== "true") button.click();
  // Where the bar scrolls sideways, the chosen tab is in view. Once a frame, when all is in its place anyway.
  const bar = button?.closest(".tab-wrapper");
  if (bar)
    requestAnimationFrame(() => {
      bar.scrollLeft = button.offsetLeft - (bar.clientWidth - button.offsetWidth) / 2;
    });
  document.title = `${titleOf(tab)} · Darkroom`;
}

function steer(event) {
  const all = buttons();
  const at = all.indexOf(event.target);
  const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: all.length - 1 }[event.key];
  if (at < 0 || to === undefined) return;
  event.preventDefault();
  const next = all[(to + all.length) % all.length];
  next.focus();
  go(nameAt(all.indexOf(next)));
}
