// A text area for a prompt: it grows with what is typed, Ctrl ↑ ↓ weighs words, and the browser's undo goes on working
// where the page writes into it.

import { route } from "../core/route.js";
import { form } from "../form/form.js";
import { freshId, h } from "../ui/dom.js";
import { isWritten, writeText } from "../ui/text_fields.js";
import { listenForWeights } from "./weight_keys.js";

/**
 * @param {{name: string, placeholder: string, rows: number, get: (values: any) => string|null|undefined,
 *   set: (text: string) => void}} look get: its text from the form's values; the style sheet says how far it grows
 */
export function promptArea({ name, placeholder, rows, get, set }) {
  const made = h("textarea", {
    id: freshId(name),
    name,
    placeholder,
    rows,
    spellcheck: "true",
    autocapitalize: "none",
    oninput: (event) => {
      if (!isWritten(event)) set(made.value);
    },
  });
  listenForWeights(made);
  const grow = () => {
    if (CSS.supports("field-sizing", "content")) return;
    made.style.height = "auto";
    made.style.height = `${made.scrollHeight}px`;
  };
  // While another tab or a closed section hides it, the browser would forget its undo: what is to stand there waits
  // until it is seen.
  const show = () => {
    if (made.isConnected && !made.checkVisibility()) return;
    writeText(made, get(form.get()) ?? "");
    grow();
  };
  form.watch(show);
  route.later(show);
  let isSeen = false;
  new ResizeObserver(() => {
    const was = isSeen;
    isSeen = made.checkVisibility();
    if (isSeen && !was) show();
  }).observe(made);
  return made;
}
