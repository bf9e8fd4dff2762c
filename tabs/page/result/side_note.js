// What is worth knowing of the job that is shown: one line below the actions; where that is cut or there are several,
// a press shows all of it. It takes no room, so that nothing moves.

import { h, setText } from "../ui/dom.js";

/** @returns {{element: HTMLElement, draw: (lines: string[], isShown: boolean) => void}} */
export function makeSideNote() {
  const line = h("summary", {});
  const all = h("ul.side-list", { "aria-label": "Notes" });
  const element = h("details.side-note", { hidden: true }, line, all);
  let key = "";
  return {
    element,
    draw(lines, isShown) {
      element.hidden = !lines.length || !isShown;
      setText(line, lines.join(" "));
      const next = JSON.stringify(lines);
      if (next === key) return;
      key = next;
      element.open = false;
      all.replaceChildren(...lines.map((text) => h("li", {}, text)));
    },
  };
}
