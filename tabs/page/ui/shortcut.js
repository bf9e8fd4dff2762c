// Which key was meant, on any keyboard: layouts without Latin letters go by the place of the key, and a character
// that needs AltGr (Ctrl+Alt on Windows) is that character, never a command.

import { textFieldOf } from "./text_fields.js";

const isMac = /Mac|iPhone|iPad/.test(navigator.platform);

/** How the key beside letters is called here. */
export const COMMAND = isMac ? "⌘" : "Ctrl";

/** Characters of the places that shortcuts use: plain, and with Shift. */
const PLACES = { Slash: "/?", BracketLeft: "[{", BracketRight: "]}", Minus: "-_", Equal: "=+" };
const NAMELESS = new Set(["Dead", "Process", "Unidentified"]);

/**
 * Whether the key belongs to an input method that composes a character. (Safari says the last one by its number alone.)
 */
export const isComposing = (event) =>
  event.isComposing || (event.keyCode === 229 && Boolean(textFieldOf(event.target)));

const hasAltGr = (event) => Boolean(event.getModifierState?.("AltGraph")) || (event.ctrlKey && event.altKey);

/** Whether Ctrl or ⌘ is held, and not as a part of AltGr. */
export const isCommand = (event) => (event.ctrlKey || event.metaKey) && !event.altKey && !hasAltGr(event);

/** The key as a Latin keyboard has it, letters in lower case: "z", "[", "?", "Enter". */
export function keyOf(event) {
  const { key } = event;
  // Letters like é and ü are Latin: their keyboards have the others too.
  const isKnown = /^[\x20-\x7e]+$/.test(key) || /\p{Script=Latin}/u.test(key);
  if (isKnown && !NAMELESS.has(key)) return key.length === 1 ? key.toLowerCase() : key;
  const { code } = event;
  if (/^(Key[A-Z]|Digit[0-9])$/.test(code)) return code.at(-1).toLowerCase();
  return PLACES[code]?.[event.shiftKey ? 1 : 0] ?? key;
}

/** The key of a shortcut without Ctrl; "" where it is a command, is being composed, or Alt makes it something else. */
export function plainKey(event) {
  if (isComposing(event) || isCommand(event) || event.metaKey) return "";
  if (!event.altKey && !hasAltGr(event)) return keyOf(event);
  return /^[!-/:-@[-`{-~]$/.test(event.key) ? event.key : "";
}
