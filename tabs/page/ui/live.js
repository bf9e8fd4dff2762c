// The two live regions: what a screen reader hears. The visible status line is not live.

import { h, setText } from "./dom.js";

const polite = h("div.unseen", { role: "status", id: "heard" });
const urgent = h("div.unseen", { role: "alert", id: "alerted" });

/** Put both into the page; once. */
export function placeLiveRegions(parent) {
  parent.append(polite, urgent);
}

/** Say something when there is a pause. */
export function announce(text) {
  setText(polite, text);
}

/** Say that something failed, at once. */
export function alarm(text) {
  setText(urgent, text);
}
