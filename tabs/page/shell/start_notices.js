// What was wrong with the data folder at the start, and what to do: said over the page until it is closed.
// Only who sits at the machine is told (GET /engine); a closed sentence stays closed in this browser window.

import { engine } from "../core/engine.js";
import { keep, recall } from "../core/store.js";
import { button, h, setText } from "../ui/dom.js";

const CLOSED = "closedNotices";

/** Put the notice into the page; once. */
export function placeStartNotices(parent) {
  const words = h("span.words", {});
  const away = button({ label: "Close", icon: "close", words: false, onclick: close });
  const box = h("div.start-notice", { hidden: true, role: "status" }, words, away);
  parent.append(box);
  let shown = "";

  function draw() {
    const closed = recall(CLOSED, [], "sessionStorage");
    shown = (engine.get()?.notices ?? []).find((sentence) => !closed.includes(sentence)) ?? "";
    box.hidden = !shown;
    setText(words, shown);
  }

  function close() {
    keep(CLOSED, [...recall(CLOSED, [], "sessionStorage"), shown], "sessionStorage");
    draw();
  }

  engine.watch(draw);
}
