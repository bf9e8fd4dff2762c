// From mouse, pen and fingers to strokes, panning and pinching. One finger or pen paints; two fingers pan and
// zoom; two that only tap undo. While a pen is down, fingers are a palm.

const TAP_MS = 350;
const TAP_PX = 12;
/** A second finger this soon means a pinch: the stroke that the first one began is taken back. */
const SECOND_MS = 300;

/**
 * @param {HTMLElement} element
 * @param {{begin: (event: PointerEvent) => void, move: (events: PointerEvent[]) => void, end: () => void,
 *   cancel: () => void, pan: (dx: number, dy: number) => void, zoom: (factor: number, x: number, y: number) => void,
 *   undo: () => void, hover: (event: PointerEvent|null) => void, isPanning: () => boolean,
 *   isInUse: () => boolean}} handlers
 */
export function listenForStrokes(element, handlers) {
  /** @type {Map<number, {x: number, y: number}>} */
  const fingers = new Map();
  let doing = ""; // "", "paint", "pan", "pinch"
  let painter = -1;
  let isPen = false;
  let began = 0;
  let travelled = 0;
  let mostFingers = 0;

  const place = (event) => {
    const box = element.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  };

  function down(event) {
    if (event.pointerType === "mouse" && event.button > 1) return;
    if (event.pointerType === "touch" && isPen) return;
    // A mouse brings the focus by itself, without its ring.
    if (event.pointerType !== "mouse") element.focus(/** @type {any} */ ({ preventScroll: true, focusVisible: false }));
    element.setPointerCapture(event.pointerId);
    if (event.pointerType === "pen" && doing) stop();
    isPen = event.pointerType === "pen";
    fingers.set(event.pointerId, place(event));
    mostFingers = Math.max(mostFingers, fingers.size);
    if (fingers.size === 2) startPinch();
    else if (fingers.size === 1) start(event);
  }

  function start(event) {
    began = performance.now();
    travelled = 0;
    mostFingers = 1;
    painter = event.pointerId;
    doing = handlers.isPanning() || event.button === 1 ? "pan" : "paint";
    if (doing === "paint") handlers.begin(event);
  }

  function startPinch() {
    if (doing === "paint") {
      if (performance.now() - began < SECOND_MS) handlers.cancel();
      else handlers.end();
    }
    doing = "pinch";
  }

  // A pen takes over from a palm that came first.
  function stop() {
    if (doing === "paint") handlers.cancel();
    fingers.clear();
    doing = "";
  }

  function move(event) {
    const before = fingers.get(event.pointerId);
    if (!before) {
      if (event.pointerType !== "touch") handlers.hover(event);
      return;
    }
    const now = place(event);
    travelled += Math.hypot(now.x - before.x, now.y - before.y);
    if (doing === "pinch") pinch(event.pointerId, before, now);
    fingers.set(event.pointerId, now);
    if (doing === "pan") handlers.pan(now.x - before.x, now.y - before.y);
    if (doing === "paint" && event.pointerId === painter) {
      const all = event.getCoalescedEvents?.() ?? [];
      handlers.move(all.length ? all : [event]);
    }
    if (event.pointerType !== "touch") handlers.hover(event);
  }

  function pinch(id, before, now) {
    const [, other] = [...fingers].find(([one]) => one !== id) ?? [];
    if (!other) return;
    const span = (one) => Math.max(1, Math.hypot(one.x - other.x, one.y - other.y));
    const middle = { x: (now.x + other.x) / 2, y: (now.y + other.y) / 2 };
    handlers.pan((now.x - before.x) / 2, (now.y - before.y) / 2);
    handlers.zoom(span(now) / span(before), middle.x, middle.y);
  }

  function up(event) {
    if (!fingers.delete(event.pointerId)) return;
    if (doing === "paint" && event.pointerId === painter) {
      if (event.type === "pointercancel") handlers.cancel();
      else handlers.end();
      doing = "";
    }
    if (fingers.size) return;
    const isTap = doing === "pinch" && mostFingers === 2 && performance.now() - began < TAP_MS && travelled < TAP_PX;
    doing = "";
    isPen = false;
    if (isTap && event.type === "pointerup") handlers.undo();
  }

  element.addEventListener("pointerdown", down);
  element.addEventListener("pointermove", move);
  element.addEventListener("pointerup", up);
  element.addEventListener("pointercancel", up);
  element.addEventListener("mousedown", (event) => {
    if (event.button === 1) event.preventDefault();
  });
  element.addEventListener("pointerleave", () => handlers.hover(null));
  // Pinching a trackpad comes as a wheel with Ctrl. A plain wheel scrolls the page until the editor is in use.
  element.addEventListener(
    "wheel",
    (event) => {
      if (!event.ctrlKey && !event.metaKey && !handlers.isInUse()) return;
      event.preventDefault();
      const { x, y } = place(event);
      const perPixel = event.ctrlKey ? 0.01 : 0.002;
      const rate = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 0.05 : perPixel;
      handlers.zoom(Math.exp(-event.deltaY * rate), x, y);
    },
    { passive: false },
  );
}
