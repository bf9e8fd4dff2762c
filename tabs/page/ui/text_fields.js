// Text fields: which element is one, and text put into one so that the browser's own undo takes it out again.

const TYPED = new Set(["text", "search", "url", "email", "tel", "password", "number"]);
/** A browser takes seconds to lay out more than this as if it had been typed. */
const MOST_TYPED = 20_000;

/** @type {Element|null} */
let writing = null;
// To the browser what is written is typed, so it would tell of a change when the focus goes back.
addEventListener(
  "change",
  (event) => {
    if (writing) event.stopImmediatePropagation();
  },
  { capture: true },
);

/**
 * The field that an event's target is, if a person can type there.
 * @returns {HTMLInputElement|HTMLTextAreaElement|null}
 */
export function textFieldOf(target) {
  const field = /** @type {HTMLInputElement|HTMLTextAreaElement|null} */ (
    target instanceof Element ? target.closest("input, textarea") : null
  );
  if (!field || field.readOnly || field.disabled) return null;
  return field.tagName === "TEXTAREA" || TYPED.has(field.type) ? field : null;
}

/** Whether an input event comes from `writeText` and not from a person. */
export const isWritten = (event) => event.target === writing;

/**
 * Replace a field's text; Ctrl+Z in it brings back what was there, wherever the focus is now. A browser has one row of
 * steps for the whole page, so this is for words a person would miss, and not for numbers beside them.
 */
export function writeText(field, given) {
  const text = field.tagName === "TEXTAREA" ? given.replace(/\r\n?/g, "\n") : given.replace(/[\r\n]/g, "");
  if (field.value === text) return;
  const [from, to, put] = difference(field.value, text);
  const back = /** @type {HTMLElement} */ (document.activeElement);
  const isHere = back === field;
  if (put.length > MOST_TYPED || (!isHere && !lends(back, field))) {
    field.value = text;
    return;
  }
  const isRinged = back.matches(":focus-visible");
  writing = field;
  try {
    if (!isHere) field.focus({ preventScroll: true });
    if (document.activeElement === field) {
      field.setSelectionRange(from, to);
      document.execCommand(put ? "insertText" : "delete", false, put);
    }
    if (field.value !== text) field.value = text;
    if (!isHere) back.focus(/** @type {any} */ ({ preventScroll: true, focusVisible: isRinged }));
    if (!isHere && document.activeElement === field) field.blur();
  } finally {
    writing = null;
  }
}

// The focus is borrowed for a moment. Not from where someone types or drags, and not where it would call a keyboard up.
function lends(back, field) {
  return (
    field.isConnected &&
    field.checkVisibility() &&
    !textFieldOf(back) &&
    !back.matches("select, input") &&
    !matchMedia("(pointer: coarse)").matches
  );
}

// Where two texts differ: from, to in the first, and what stands there in the second. No character is cut in half.
function difference(before, after) {
  const isHalf = (text, at) => /[\uDC00-\uDFFF]/.test(text[at] ?? "");
  const most = Math.min(before.length, after.length);
  let start = 0;
  while (start < most && before[start] === after[start]) start += 1;
  if (isHalf(before, start) || isHalf(after, start)) start -= 1;
  let end = 0;
  while (end < most - start && before.at(-1 - end) === after.at(-1 - end)) end += 1;
  if (end && isHalf(before, before.length - end)) end -= 1;
  return [start, before.length - end, after.slice(start, after.length - end)];
}
