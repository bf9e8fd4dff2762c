// Marks under the words of a text area, and a fine line where a chunk ends: a copy of its text that can't be seen lies
// over it. Nothing takes room, nothing takes a click.

import { h } from "../ui/dom.js";

const MOST_CHARACTERS = 20_000; // more is not copied

/**
 * @param {HTMLTextAreaElement} area
 * @returns {{element: HTMLElement, show: (notes: import("./lint.js").Note[], breaks: number[]) => void}} element: to
 *   stand behind the area in a box that is positioned
 */
export function marksOver(area) {
  const text = h("div.marked-text", {});
  const element = h("div.marks", { "aria-hidden": "true" }, text);
  let key = "";

  function place() {
    const look = getComputedStyle(area);
    Object.assign(element.style, {
      top: `${area.offsetTop}px`,
      height: `${area.offsetHeight}px`,
      width: `${area.clientWidth}px`,
      font: look.font,
      letterSpacing: look.letterSpacing,
      padding: look.padding,
    });
    text.style.transform = `translateY(${-area.scrollTop}px)`;
  }

  new ResizeObserver(place).observe(area);
  area.addEventListener("scroll", place, { passive: true });

  return {
    element,
    show(notes, breaks) {
      const whole = area.value;
      const isShown = whole.length <= MOST_CHARACTERS && (notes.length > 0 || breaks.length > 0);
      const next = isShown ? JSON.stringify([whole, notes.map(({ from, to, isMild }) => [from, to, isMild]), breaks]) : "";
      if (next !== key) text.replaceChildren(...(isShown ? piecesOf(whole, notes, breaks) : []));
      if (next) place(); // the area above may have grown
      key = next;
    },
  };
}

// The text, cut where a mark begins or ends and where a chunk does.
function piecesOf(whole, notes, breaks) {
  const cuts = [0, whole.length, ...breaks, ...notes.flatMap(({ from, to }) => [from, to])];
  const places = [...new Set(cuts)].filter((at) => at >= 0 && at <= whole.length).sort((a, b) => a - b);
  return places.slice(0, -1).flatMap((from, index) => {
    const words = whole.slice(from, places[index + 1]);
    const over = notes.filter((note) => note.from <= from && from < note.to);
    const kind = over.some(({ isMild }) => !isMild) ? "mark" : "mark.mild";
    return [breaks.includes(from) && h("span.chunk-end", {}), over.length ? h(kind, {}, words) : words].filter(Boolean);
  });
}
