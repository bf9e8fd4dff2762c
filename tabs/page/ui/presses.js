// One press, one action: a key that is held repeats only what one expects to repeat, and a double click is one click.

// Moving, scrolling, sizes of the brush, zoom: these go on while the key is held.
const GOES_ON = new Set([
  "ArrowLeft",
  "ArrowRight",
  "ArrowUp",
  "ArrowDown",
  "PageUp",
  "PageDown",
  "Home",
  "End",
  "Tab",
  "[",
  "]",
  "+",
  "-",
  "=",
]);
const TEXT =
  "textarea, [contenteditable=true], " +
  "input:not([type=range], [type=checkbox], [type=radio], [type=file], [type=button])";
/** What may be clicked as fast as one likes: it moves, or is on or off. */
const QUICK =
  "[data-quick], [role=toolbar] button, [role=radio], [role=switch], [role=tab], [aria-pressed], summary, .slot";

// Typing goes on in a text field; what acts (Ctrl+Enter, Esc, Enter in one line) does not.
function goesOn(event) {
  if (GOES_ON.has(event.key)) return true;
  if (!(event.target instanceof Element) || !event.target.matches(TEXT)) return false;
  if (event.key === "Escape") return false;
  if (event.key === "Enter") return event.target.matches("textarea") && !event.ctrlKey && !event.metaKey;
  return true;
}

/** Watch over the page; once, before anything else listens. */
export function countPresses() {
  addEventListener(
    "keydown",
    (event) => {
      if (!event.repeat || event.isComposing || goesOn(event)) return;
      event.preventDefault();
      event.stopImmediatePropagation();
    },
    true,
  );
  addEventListener(
    "click",
    (event) => {
      const pressed = event.target instanceof Element && event.target.closest("button");
      if (!pressed || event.detail < 2 || pressed.matches(QUICK)) return;
      event.preventDefault();
      event.stopImmediatePropagation();
    },
    true,
  );
}
