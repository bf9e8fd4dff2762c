// Keys of a mask editor. They act only while the editor or its toolbar has the focus.

import { targetOf } from "../ui/dom.js";
import { isCommand, isComposing, keyOf, plainKey } from "../ui/shortcut.js";

const MOVED = 48;
const PLAIN = {
  b: "brush",
  e: "eraser",
  i: "invert",
  "[": "smaller",
  "]": "larger",
  0: "fit",
  "+": "zoomIn",
  "=": "zoomIn",
  "-": "zoomOut",
};
const MOVES = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };

/**
 * @param {HTMLElement} element editor and toolbar
 * @param {HTMLElement} field what is painted on
 * @param {Object<string, (...given: any[]) => void>} act what each does
 */
export function editorKeys(element, field, act) {
  let isSpaceDown = false;
  const space = (isDown) => {
    isSpaceDown = isDown;
    field.classList.toggle("panning", isDown);
  };

  element.addEventListener("keydown", (event) => {
    if (isComposing(event) || targetOf(event, "dialog, input[type=text]")) return;
    const name = isCommand(event) ? commandOf(event) : PLAIN[plainKey(event)];
    if (name && act[name]) {
      event.preventDefault();
      act[name]();
    } else if (event.target === field) onField(event);
  });

  function onField(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === " ") {
      event.preventDefault();
      space(true);
    }
    const move = MOVES[event.key];
    if (move) {
      event.preventDefault();
      act.pan(move[0] * MOVED, move[1] * MOVED);
    }
  }
  field.addEventListener("keyup", (event) => {
    if (event.key === " ") space(false);
  });
  field.addEventListener("blur", () => space(false));
  return { isSpaceDown: () => isSpaceDown };
}

function commandOf(event) {
  const key = keyOf(event);
  if (key === "z") return event.shiftKey ? "redo" : "undo";
  return key === "y" ? "redo" : null;
}
