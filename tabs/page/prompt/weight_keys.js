// Ctrl ↑ and ↓ in a prompt: the weight of the selection, or of the word at the caret, as "(word:1.1)".

import { isCommand, isComposing } from "../ui/shortcut.js";

const LEAST = 0;
const MOST = 10;
const WEIGHTED = /\(([^()]*):\s*([+-]?(?:\d+\.?\d*|\.\d+))\s*\)/g;

/**
 * @param {string} text
 * @param {number} from start of the selection
 * @param {number} to its end
 * @param {number} by what is added to the weight
 * @returns {{text: string, from: number, to: number}|null} null where there is no word
 */
function weigh(text, from, to, by) {
  for (const match of text.matchAll(WEIGHTED)) {
    const end = match.index + match[0].length;
    if (match.index <= from && to <= end) return replaced(text, match.index, end, match[1], Number(match[2]), by);
  }
  const [start, end] = from === to ? wordAt(text, from) : trimmed(text, from, to);
  return start === end ? null : replaced(text, start, end, text.slice(start, end), 1, by);
}

// Keys leave 0 to 10 only where the weight is beyond already.
function replaced(text, start, end, inner, was, by) {
  const weight = Math.round(Math.min(Math.max(MOST, was), Math.max(Math.min(LEAST, was), was + by)) * 100) / 100;
  const made = weight === 1 ? inner : `(${inner}:${weight})`;
  const from = start + (weight === 1 ? 0 : 1);
  return { text: text.slice(0, start) + made + text.slice(end), from, to: from + inner.length };
}

function wordAt(text, caret) {
  const before = text.slice(0, caret).match(/[\p{L}\p{N}'’-]*$/u)?.[0].length ?? 0;
  const after = text.slice(caret).match(/^[\p{L}\p{N}'’-]*/u)?.[0].length ?? 0;
  return [caret - before, caret + after];
}

function trimmed(text, from, to) {
  const chosen = text.slice(from, to);
  return [from + chosen.length - chosen.trimStart().length, to - chosen.length + chosen.trimEnd().length];
}

/** Listen in a text area; the browser's own undo keeps working. */
export function listenForWeights(area) {
  area.addEventListener("keydown", (event) => {
    if (!isCommand(event) || isComposing(event)) return;
    const sign = { ArrowUp: 1, ArrowDown: -1 }[event.key];
    if (!sign) return;
    const done = weigh(area.value, area.selectionStart, area.selectionEnd, sign * (event.shiftKey ? 0.05 : 0.1));
    event.preventDefault();
    if (!done) return;
    area.select();
    document.execCommand("insertText", false, done.text);
    area.setSelectionRange(done.from, done.to);
  });
}
