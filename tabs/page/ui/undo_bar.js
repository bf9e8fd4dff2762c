// One sentence at the foot of the page with Undo, for six seconds; waits while looked at or focused, but not for ever.
// It lies over pictures at most: never over the recent strip, the actions or Generate.

import { button, h, setText } from "./dom.js";

const SECONDS = 6;
/** The server keeps what was deleted for two minutes. */
const LONGEST_MS = 110_000;
const GAP_PX = 12;
const FOOT_PX = 20;
/** What it never covers. */
const KEPT_CLEAR = ".recent-strip, .film, .result-pane .status-row, #generate-bar";

/** @type {(() => void)|null} */
let undo = null;
let remaining = 0;
let ticking = 0;
let end = 0;
let isHeld = false;

const words = h("span.words", {});
const back = button({
  label: "Undo",
  kind: "link",
  onclick: () => {
    const act = undo;
    hide();
    act?.();
  },
});
const away = button({ label: "Close", icon: "close", words: false, onclick: hide });
const bar = h("div.undo-bar", { hidden: true, role: "group", "aria-label": "Undo" }, words, back, away);

/** Put the bar into the page; once. */
export function placeUndoBar(parent) {
  const hold = (isOn) => () => {
    isHeld = isOn;
  };
  // Looked at is what the pointer goes to: under one that rests the bar only came to stand.
  bar.addEventListener("pointermove", ({ movementX, movementY }) => {
    isHeld ||= movementX !== 0 || movementY !== 0;
  });
  bar.addEventListener("pointerleave", hold(false));
  bar.addEventListener("focusin", hold(true));
  bar.addEventListener("focusout", hold(false));
  addEventListener("resize", () => {
    if (!bar.hidden) settle();
  });
  parent.append(bar);
}

/**
 * Say what was done and offer to take it back. A new offer ends the one before.
 * @param {string} sentence
 * @param {(() => void)|null} act null: only say it
 */
export function offerUndo(sentence, act) {
  end = Date.now() + LONGEST_MS;
  show(sentence, act);
}

/** Say more of what the bar offers already: it then stands for all of it, no longer than for the first. */
export const extendUndo = (sentence, act) => show(sentence, act);

/** Whether the bar offers this now. */
export const isOffered = (act) => act !== null && undo === act;

function show(sentence, act) {
  undo = act;
  setText(words, sentence);
  back.hidden = act === null;
  bar.hidden = false;
  settle();
  remaining = SECONDS;
  clearInterval(ticking);
  ticking = window.setInterval(() => {
    if (!isHeld) remaining -= 1;
    if (remaining <= 0 || Date.now() >= end) hide();
  }, 1000);
}

// At the foot of the window, or above what stands there and is kept clear.
function settle() {
  bar.style.bottom = `${FOOT_PX}px`;
  for (let moves = 0; moves < 4; moves += 1) {
    const mine = bar.getBoundingClientRect();
    const inTheWay = [...document.querySelectorAll(KEPT_CLEAR)]
      .filter((one) => one.checkVisibility())
      .map((one) => one.getBoundingClientRect())
      .filter(
        (box) =>
          box.height > 0 &&
          box.top < mine.bottom + GAP_PX / 2 &&
          mine.top < box.bottom &&
          box.left < mine.right &&
          mine.left < box.right,
      );
    const top = Math.min(...inTheWay.map((box) => box.top));
    if (!Number.isFinite(top) || top < innerHeight / 3) return;
    bar.style.bottom = `${Math.round(innerHeight - top + GAP_PX)}px`;
  }
}

function hide() {
  clearInterval(ticking);
  bar.hidden = true;
  undo = null;
  isHeld = false;
}
