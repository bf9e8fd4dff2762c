// Layers over the page: one at a time, focus goes in and comes back, Esc and a click outside close it.

import { isComposing } from "./shortcut.js";

/** @type {{close: () => void, element: HTMLElement} | null} */
let open = null;
let closedAt = -Infinity;

/** Whether a layer is open, or one was closed within the last half second (so Esc is not for the job). */
export function layerHasEscape() {
  return open !== null || performance.now() - closedAt < 500;
}

/** Count a view that is no layer (the lightbox, a large cell) as just closed. */
export function countEscape() {
  closedAt = performance.now();
}

/** Close what is open. */
export function closeLayer() {
  open?.close();
}

/**
 * Open a dialog element as the only layer.
 * @param {HTMLDialogElement} dialog
 * @param {{modal?: boolean, opener?: HTMLElement|null, onclose?: () => void, focus?: HTMLElement|null}} [how]
 */
export function openLayer(dialog, { modal = true, opener = null, onclose, focus = null } = {}) {
  closeLayer();
  const back = opener ?? /** @type {HTMLElement} */ (document.activeElement);
  if (modal) dialog.showModal();
  else dialog.show();
  opener?.setAttribute("aria-expanded", "true");
  const stop = new AbortController();
  // At once: a dialog's own event comes later, when another layer may be open already.
  const mine = {
    element: dialog,
    close: () => {
      if (dialog.open) dialog.close();
      ended();
    },
  };
  function ended() {
    if (stop.signal.aborted) return;
    stop.abort();
    if (open === mine) open = null;
    closedAt = performance.now();
    opener?.setAttribute("aria-expanded", "false");
    onclose?.();
    if (dialog.contains(document.activeElement) || document.activeElement === document.body) {
      back?.focus({ preventScroll: true });
    }
  }
  open = mine;
  // The browser may close it too. The event of a dialog that is open again tells of its time before.
  dialog.addEventListener(
    "close",
    () => {
      if (!dialog.open) ended();
    },
    { signal: stop.signal },
  );
  const outside = (event) => {
    const box = dialog.getBoundingClientRect();
    const isInside =
      event.clientX >= box.left &&
      event.clientX <= box.right &&
      event.clientY >= box.top &&
      event.clientY <= box.bottom;
    if (modal && event.target === dialog && !isInside) mine.close();
  };
  dialog.addEventListener("pointerdown", outside, { signal: stop.signal });
  // Also where the browser would not: a search field takes Esc for itself, a dialog that is not modal has none.
  addEventListener(
    "keydown",
    (event) => {
      if (event.key !== "Escape" || isComposing(event)) return;
      event.preventDefault();
      event.stopImmediatePropagation();
      mine.close();
    },
    { signal: stop.signal, capture: true },
  );
  focus?.focus({ preventScroll: true });
}
