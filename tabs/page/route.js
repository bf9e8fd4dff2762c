// The address: #/txt2img, #/gallery, #/gallery/<id>. Gradio's tabs follow it, and it follows them.

import { observable } from "./store.js";

const TITLES = { txt2img: "Text to image", gallery: "Gallery" };

function read() {
  const [, tab = "", id = null] = location.hash.split("/");
  return { tab: tab in TITLES ? tab : "txt2img", id: id && decodeURIComponent(id) };
}

/** Where the page is: {tab, id}. */
export const route = observable(read());

/** Go somewhere; Back returns. */
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
export const titleOf = (tab) => TITLES[tab];

addEventListener("hashchange", arrive);
addEventListener("popstate", arrive);
