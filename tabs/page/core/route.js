// The address: #/txt2img, #/gallery, #/gallery/<id>. Gradio's tabs follow it, and it follows them.

import { config } from "./config.js";
import { observable } from "./store.js";

/** Where the page is: {tab, id}. Right from `startRoute` on. */
export const route = observable({ tab: "", id: null });

/** Tabs of the page in their order: {id, label}. */
const known = (tab) => config.tabs.some(({ id }) => id === tab);

function read() {
  const [, tab = "", id = null] = location.hash.split("/");
  return { tab: known(tab) ? tab : config.tabs[0].id, id: id && decodeURIComponent(id) };
}

/** Begin where the address says; once, when the configuration is there. */
export function startRoute() {
  route.set(read());
  addEventListener("hashchange", arrive);
  addEventListener("popstate", arrive);
}

/**
 * Go somewhere; Back returns.
 * @param {string} tab
 * @param {string|null} [id] of what its tab shows
 */
export function go(tab, id = null, { replace = false } = {}) {
  const hash = `#/${tab}${id === null ? "" : `/${encodeURIComponent(id)}`}`;
  if (hash === location.hash) return;
  if (replace) history.replaceState(history.state, "", hash);
  else history.pushState(history.state, "", hash);
  arrive();
}

function arrive() {
  const next = read();
  const now = route.get();
  if (next.tab !== now.tab || next.id !== now.id) route.set(next);
}

/** The tab's name, for the one h1. */
export const titleOf = (tab) => config.tabs.find(({ id }) => id === tab).label;

/** Whether a tab makes pictures. */
export const generates = (tab) => tab in config.sections;

/** The tab whose form counts: the chosen one, or the first where that makes no pictures. */
export const formTab = () => (generates(route.get().tab) ? route.get().tab : config.tabs[0].id);
