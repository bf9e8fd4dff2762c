// The picture in its new frame, to scale. Each side can be dragged, or moved by arrow keys.

import { config } from "../core/config.js";
import { onBackground, uploadUrl } from "../core/uploads.js";
import { form } from "../form/form.js";
import { extended, gainOf } from "../form/size.js";
import { innerSize } from "../form/size_rule.js";
import { h } from "../ui/dom.js";
import { gain, SIDES } from "./outpaint_section.js";

const MARGIN = 44;
const SIGN = { left: [-1, 0], right: [1, 0], up: [0, -1], down: [0, 1] };
const KEYS = { ArrowLeft: "left", ArrowRight: "right", ArrowUp: "up", ArrowDown: "down" };

/** @returns {{element: HTMLElement}} draws itself whenever the form changes */
export function extendFrame() {
  const image = onBackground(h("img", { alt: "The start picture", draggable: "false" }));
  const handles = Object.fromEntries(SIDES.map((side) => [side, handle(side)]));
  const frame = h("div.new-frame", {}, image, ...Object.values(handles));
  const element = h("div.extend-frame", {}, frame);
  /** Held while a side is dragged, so that the picture stays where it is. */
  let held = null;
  let shown = { scale: 1, x: 0, y: 0 };

  function handle(side) {
    const made = h("button.extend-handle", {
      type: "button",
      role: "slider",
      "data-side": side,
      "aria-label": `Extend ${side}, in pixels`,
      "aria-valuemin": "0",
      "aria-orientation": SIGN[side][0] ? "horizontal" : "vertical",
      onkeydown: (event) => steer(event, side),
    });
    let from = null;
    made.addEventListener("pointerdown", (event) => {
      made.setPointerCapture(event.pointerId);
      held = { ...shown };
      from = { at: along(side, event), gain: gainOf(form.get(), side) };
    });
    made.addEventListener("pointermove", (event) => {
      if (from) set(side, from.gain + (along(side, event) - from.at) / held.scale);
    });
    for (const end of ["pointerup", "pointercancel"])
      made.addEventListener(end, () => {
        from = null;
        held = null;
        draw();
      });
    return made;
  }

  const along = (side, event) => event.clientX * SIGN[side][0] + event.clientY * SIGN[side][1];

  function set(side, pixels) {
    const step = config.limits.side_multiple;
    const [, most] = config.limits[`init_image.outpaint.${side}`];
    gain(side, Math.min(most, Math.max(0, Math.round(pixels / step) * step)));
  }

  function steer(event, side) {
    const to = KEYS[event.key];
    if (!to) return;
    event.preventDefault();
    const isAlong = SIGN[to][0] === SIGN[side][0] && SIGN[to][1] === SIGN[side][1];
    const isBack = SIGN[to][0] === -SIGN[side][0] && SIGN[to][1] === -SIGN[side][1];
    const step = config.limits.side_multiple * (event.shiftKey ? 8 : 1);
    if (isAlong || isBack) set(side, gainOf(form.get(), side) + (isAlong ? step : -step));
  }

  function draw() {
    const now = form.get();
    const picture = now["init_image.image"];
    if (!picture || !element.clientWidth) return;
    if (image.getAttribute("src") !== uploadUrl(picture.sha256)) image.src = uploadUrl(picture.sha256);
    const [left, , up] = SIDES.map((side) => gainOf(now, side));
    const { width, height } = extended(now);
    const kept = innerSize(picture);
    const room = { width: element.clientWidth - 2 * MARGIN, height: element.clientHeight - 2 * MARGIN };
    const scale = held?.scale ?? Math.min(room.width / width, room.height / height, 4);
    // Where the picture's own corner lies.
    const x = held?.x ?? (element.clientWidth - width * scale) / 2 + left * scale;
    const y = held?.y ?? (element.clientHeight - height * scale) / 2 + up * scale;
    shown = { scale, x, y };
    Object.assign(frame.style, {
      translate: `${x - left * scale}px ${y - up * scale}px`,
      width: `${width * scale}px`,
      height: `${height * scale}px`,
    });
    Object.assign(image.style, {
      left: `${left * scale}px`,
      top: `${up * scale}px`,
      width: `${kept.width * scale}px`,
      height: `${kept.height * scale}px`,
    });
    for (const side of SIDES) {
      const gained = gainOf(now, side);
      handles[side].setAttribute("aria-valuenow", String(gained));
      handles[side].setAttribute("aria-valuetext", `${gained} px`);
      handles[side].dataset.words = gained ? `${gained}` : "";
    }
  }

  form.later(draw);
  new ResizeObserver(draw).observe(element);
  return { element };
}
