// What can be completed while a prompt is typed. Arrows choose, Tab or Enter takes, Esc closes; nothing is ever put in by
// itself. Behind "<lora:" and the like the first name is chosen already; of tags none is, so that Enter stays Enter.

import { freshId, h } from "../ui/dom.js";
import { isComposing } from "../ui/shortcut.js";
import { completionsFor, onCompletions } from "./completions.js";

/**
 * @typedef {Object} Completion
 * @property {string} id
 * @property {string} label
 * @property {string} hint
 * @property {number} from where what is typed begins
 * @property {(rest: string) => [string, string]} take what stands instead, and behind it, given what stands behind
 * @property {any} [lora] the model that it names
 */

/**
 * @param {HTMLTextAreaElement} area
 * @param {(text: string) => void} put keeps another text of the area
 * @param {(model: any) => void} bring a LoRA was named: its trigger words may come along
 * @returns {HTMLElement} the list, to stand behind the area
 */
export function completion(area, put, bring) {
  const box = h("div.completion", {
    role: "listbox",
    id: freshId("completion"),
    "aria-label": "Names that fit",
    hidden: true,
  });
  /** @type {Completion[]} */
  let found = [];
  let at = 0;
  let before = ""; // what stood before the caret when they were found
  let dismissed = -1; // where the words begin whose completions were closed

  function close() {
    found = [];
    box.hidden = true;
    area.removeAttribute("aria-activedescendant");
  }

  const beforeCaret = () =>
    area.selectionStart === area.selectionEnd ? area.value.slice(0, area.selectionStart) : null;

  function look() {
    const text = beforeCaret();
    const fitting = text === null ? null : completionsFor(text);
    if (!fitting?.items.length || (!fitting.isNamed && fitting.items[0].from === dismissed)) {
      close();
      return;
    }
    const chosen = text === before ? found[at]?.id : null;
    before = text ?? "";
    found = fitting.items;
    dismissed = -1;
    at = Math.max(
      fitting.isNamed ? 0 : -1,
      found.findIndex(({ id }) => id === chosen),
    );
    draw();
  }

  function draw() {
    box.replaceChildren(
      ...found.map(({ label, hint }, index) =>
        h(
          "div.option",
          {
            role: "option",
            id: `${box.id}-${index}`,
            "aria-selected": String(index === at),
            // The area keeps the focus.
            onpointerdown: (event) => {
              event.preventDefault();
              take(index);
            },
          },
          label,
          h("span.hint", {}, hint),
        ),
      ),
    );
    box.style.top = `${area.offsetTop + area.offsetHeight + 4}px`;
    box.hidden = false;
    if (at < 0) area.removeAttribute("aria-activedescendant");
    else area.setAttribute("aria-activedescendant", `${box.id}-${at}`);
  }

  function take(index) {
    const { from, take: taken, lora } = found[index];
    if (beforeCaret() !== before) {
      close();
      return;
    }
    const [words, rest] = taken(area.value.slice(area.selectionStart));
    put(area.value.slice(0, from) + words + rest);
    area.setSelectionRange(from + words.length, from + words.length);
    close();
    if (lora) setTimeout(() => bring(lora));
  }

  area.setAttribute("aria-controls", box.id);
  area.setAttribute("aria-autocomplete", "list");
  area.addEventListener("input", look);
  area.addEventListener("blur", close);
  // The caret moves by keys, by a click, by undo.
  document.addEventListener("selectionchange", () => {
    if (!box.hidden) look();
  });
  area.addEventListener("keydown", (event) => {
    if (box.hidden || event.ctrlKey || event.metaKey || event.altKey || isComposing(event)) return;
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) {
      at = at < 0 && step < 0 ? found.length - 1 : (at + step + found.length) % found.length;
      draw();
    } else if (at >= 0 && (event.key === "Enter" || event.key === "Tab")) take(at);
    else if (event.key === "Escape") {
      dismissed = found[0].from;
      close();
    } else return;
    event.preventDefault();
    event.stopPropagation();
  });
  onCompletions(() => {
    if (document.activeElement === area) look();
  });
  return box;
}
