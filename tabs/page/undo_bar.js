// One sentence at the foot of the page with Undo, for ten seconds; waits while looked at or focused, but not for ever.

import { button, h, setText } from "./dom.js";

const SECONDS = 10;
/** The server keeps what was deleted for two minutes. */
const LONGEST_MS = 110_000;

/** @type {(() => void)|null} */
let undo = null;
let remaining = 0;
let ticking = 0;
let isHeld = false;

const words = h("span.words", {});
const back = button({ label: "Undo", kind: "link", onclick: () => { const act = undo; hide(); act?.(); } });
const away = button({ label: "Close", icon: "close", words: false, onclick: hide });
const bar = h("div.undo-bar", { hidden: true, role: "group", "aria-label": "Undo" }, words, back, away);

/** Put the bar into the page; once. */
export function placeUndoBar(parent) {
  const hold = (isOn) => () => { isHeld = isOn; };
  bar.addEventListener("pointerenter", hold(true));
  bar.addEventListener("pointerleave", hold(false));
  bar.addEventListener("focusin", hold(true));
  bar.addEventListener("focusout", hold(false));
  parent.append(bar);
}

/**
 * Say what was done and offer to take it back. A new offer ends the one before.
 * @param {string} sentence
 * @param {(() => void)|null} act null: only say it
 */
export function offerUndo(sentence, act) {
  undo = act;
  setText(words, sentence);
  back.hidden = act === null;
  bar.hidden = false;
  remaining = SECONDS;
  const end = Date.now() + LONGEST_MS;
  clearInterval(ticking);
  ticking = window.setInterval(() => {
    if (!isHeld) remaining -= 1;
    if (remaining <= 0 || Date.now() >= end) hide();
  }, 1000);
}

function hide() {
  clearInterval(ticking);
  bar.hidden = true;
  undo = null;
  isHeld = false;
}
