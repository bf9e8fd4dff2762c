// The canvas of regions, in the shape of the picture to come: boxes are drawn, moved and resized on it by mouse, pen,
// finger and keyboard. What is dragged is put into the form when it is let go.

import { config } from "../core/config.js";
import { formTab, route } from "../core/route.js";
import { onBackground, uploadUrl } from "../core/uploads.js";
import { form } from "../form/form.js";
import { canFollow, extended, gainOf, keepsSize, resultSize } from "../form/size.js";
import { freshId, h, setText, targetOf } from "../ui/dom.js";
import { announce } from "../ui/live.js";
import { isCommand, isComposing, keyOf } from "../ui/shortcut.js";
import { boxWords, drawn, linesOf, moved, resized, STEP } from "./boxes.js";
import { boundsOf } from "./region_mask.js";
import { freshRegion, numberOf, PART, placeRegions, regionOf, regionsOf, travel } from "./region_units.js";

const MOVES = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] };
const CORNER = /** @type {import("./boxes.js").Handle} */ ({ x: 1, y: 1 });
const HANDLES = [-1, 0, 1].flatMap((y) => [-1, 0, 1].map((x) => ({ x, y }))).filter(({ x, y }) => x || y);
const FITS = { crop: "cover", fill: "contain" };
/** So far a pointer may tremble while it presses. */
const STILL_PX = 4;

/**
 * @param {{onremove: (id: string) => void, onopen: (id: string) => void, ondraw: (id: string) => void}} handlers
 *   onopen: its prompt is wanted; ondraw: it is a new one
 * @returns {{element: HTMLElement, focus: (id: string) => void}}
 */
export function makeRegionCanvas({ onremove, onopen, ondraw }) {
  const start = onBackground(h("img.region-start", { alt: "", draggable: "false", hidden: true }));
  const draft = h("div.region-draft", { hidden: true, "aria-hidden": "true" });
  const keys = h("p.unseen", { id: freshId("region-keys") }, KEYS);
  const invite = h("p.region-invite", {});
  const canvas = h("div.region-canvas", { role: "group", "aria-label": "Regions on the picture" }, start, invite, draft);
  const hint = h("p.hint.region-hint", {});
  const element = h("div.region-place", {}, canvas, hint, keys);
  /** @type {Map<string, HTMLElement>} */
  const made = new Map();
  /** What the pointer does: a region and where it is meanwhile. */
  let doing = null;

  function makeBox(id) {
    return h(
      "div.region-box",
      {
        tabindex: "0",
        role: "button",
        "data-id": id,
        "aria-describedby": keys.id,
        "aria-keyshortcuts": "Delete Enter",
        onkeydown: (event) => steer(event, id),
      },
      h("span.region-veil", { "aria-hidden": "true" }),
      h("span.region-number", { "aria-hidden": "true" }),
      ...HANDLES.map(({ x, y }) => h("span.region-handle", { "data-x": x, "data-y": y, "aria-hidden": "true" })),
    );
  }

  const others = (id) =>
    regionsOf()
      .filter((one) => one.id !== id && !one.mask)
      .map(({ box }) => box);

  function put(id, box, key = "") {
    placeRegions(
      regionsOf().map((one) => (one.id === id ? { ...one, box } : one)),
      key,
    );
  }

  function steer(event, id) {
    if (event.altKey || isComposing(event) || event.ctrlKey || event.metaKey) return;
    const region = regionOf(id);
    const move = MOVES[event.key];
    if (event.key === "Delete" || event.key === "Backspace") onremove(id);
    else if (event.key === "Enter" || event.key === " ") onopen(id);
    else if (move && region?.mask) announce(`Region ${numberOf(id)} is painted: edit its mask.`);
    else if (move && region) {
      const [dx, dy] = move;
      const box = event.shiftKey ? resized(region.box, CORNER, dx, dy) : moved(region.box, dx, dy);
      put(id, box, `${id} ${event.shiftKey}`);
      announce(`Region ${numberOf(id)}: ${boxWords(box)}.`);
    } else return;
    event.preventDefault();
  }

  canvas.addEventListener("keydown", (event) => {
    const key = isCommand(event) && !isComposing(event) ? keyOf(event) : "";
    if (key !== "z" && key !== "y") return;
    event.preventDefault();
    const way = key === "y" || event.shiftKey ? "redo" : "undo";
    if (travel(way)) announce(way === "undo" ? "Undone." : "Done again.");
  });

  /** Where a pointer is, as a part of the picture. */
  function place(event) {
    const box = canvas.getBoundingClientRect();
    return { x: (event.clientX - box.left) / box.width, y: (event.clientY - box.top) / box.height };
  }

  canvas.addEventListener("pointerdown", (event) => {
    if (doing || (event.pointerType === "mouse" && event.button)) return;
    const id = targetOf(event, ".region-box")?.dataset.id ?? "";
    const handle = targetOf(event, ".region-handle")?.dataset;
    event.preventDefault();
    if (id) focus(id, false);
    if (id ? regionOf(id)?.mask : regionsOf().length >= config.limits[PART]) return;
    canvas.setPointerCapture(event.pointerId);
    const at = { ...place(event), clientX: event.clientX, clientY: event.clientY };
    const by = handle && { x: Number(handle.x), y: Number(handle.y) };
    doing = { pointer: event.pointerId, id, by, at, lines: linesOf(others(id)), box: null };
  });

  canvas.addEventListener("pointermove", (event) => {
    if (doing?.pointer !== event.pointerId) return;
    const { id, by, at, lines } = doing;
    const isStill = Math.hypot(event.clientX - at.clientX, event.clientY - at.clientY) < STILL_PX;
    if (isStill && !doing.box) return;
    const to = place(event);
    const [dx, dy] = [to.x - at.x, to.y - at.y];
    const before = regionOf(id)?.box;
    if (!before) doing.box = drawn(at, to, lines);
    else doing.box = by ? resized(before, by, dx, dy, lines) : moved(before, dx, dy, lines);
    draw();
  });

  for (const end of ["pointerup", "pointercancel"])
    canvas.addEventListener(end, (event) => {
      if (doing?.pointer !== /** @type {PointerEvent} */ (event).pointerId) return;
      const { id, box } = doing;
      doing = null;
      if (end === "pointerup" && box && id) put(id, box);
      else if (end === "pointerup" && box) {
        const region = freshRegion(box);
        placeRegions([...regionsOf(), region]);
        ondraw(region.id);
      } else draw();
    });

  function focus(id, isRinged = true) {
    made.get(id)?.focus(/** @type {any} */ ({ preventScroll: true, focusVisible: isRinged }));
  }

  function draw() {
    const now = form.get();
    const regions = regionsOf(now);
    drawGround(now);
    for (const [id, box] of made) {
      if (regions.some((one) => one.id === id)) continue;
      box.remove();
      made.delete(id);
    }
    regions.forEach((region, index) => {
      const box = made.get(region.id) ?? makeBox(region.id);
      // In the order of their numbers, for Tab; none that has the focus is moved.
      if (canvas.children[index + 3] !== box) canvas.insertBefore(box, canvas.children[index + 3] ?? null);
      made.set(region.id, box);
      drawRegion(box, region, index + 1);
    });
    draft.hidden = !doing || Boolean(doing.id) || !doing.box;
    if (!draft.hidden) settle(draft, doing.box);
    setText(invite, regions.length || doing ? "" : INVITE);
    setText(hint, wordsFor(regions));
  }

  function drawRegion(box, { id, prompt, mask, box: own }, number) {
    box.style.setProperty("--region", `var(--region-${number})`);
    box.dataset.number = String(number);
    setText(box.children[1], String(number));
    box.classList.toggle("painted", Boolean(mask));
    const shown = doing?.id === id && doing.box ? doing.box : own;
    const where = mask ? "painted" : boxWords(shown);
    box.setAttribute("aria-label", `Region ${number}: ${prompt.trim() || "no prompt"}; ${where}`);
    const veil = box.children[0];
    veil.style.maskImage = mask ? `url("${uploadUrl(mask.sha256)}")` : "";
    if (!mask) settle(box, shown);
    else
      boundsOf(mask).then(
        (bounds) => {
          if (regionOf(id)?.mask?.sha256 !== mask.sha256) return;
          settle(box, bounds);
          // The veil is as large as the canvas.
          Object.assign(veil.style, {
            left: `${(-100 * bounds.left) / bounds.width}%`,
            top: `${(-100 * bounds.top) / bounds.height}%`,
            width: `${100 / bounds.width}%`,
            height: `${100 / bounds.height}%`,
          });
        },
        () => settle(box, own), // Generate says that it is gone
      );
    if (!mask) veil.removeAttribute("style");
  }

  // The start picture as the result will show it.
  function drawGround(now) {
    const tab = formTab();
    const size = resultSize(now, tab);
    canvas.style.setProperty("--ratio", String(size.width / size.height || 1));
    const picture = canFollow(tab) ? now["init_image.image"] : null;
    start.hidden = !picture;
    if (!picture) return;
    if (start.getAttribute("src") !== uploadUrl(picture.sha256)) start.src = uploadUrl(picture.sha256);
    const isExtended = tab === "inpaint" && now["inpaint.mode"] === "extend";
    start.style.objectFit = isExtended || keepsSize(now, tab) ? "fill" : (FITS[now["init_image.resize"]] ?? "fill");
    const whole = isExtended ? extended(now) : null;
    const part = (side, length) => (whole ? gainOf(now, side) / whole[length] : 0);
    settle(start, {
      left: part("left", "width"),
      top: part("up", "height"),
      width: 1 - part("left", "width") - part("right", "width"),
      height: 1 - part("up", "height") - part("down", "height"),
    });
  }

  form.watch(draw);
  route.later(draw);
  return { element, focus };
}

const KEYS =
  "Arrow keys move it; with Shift they change its size. Delete removes it, Enter goes to its prompt, Control Z undoes.";

const INVITE = "Drag here to draw a region, or take a layout above.";

function wordsFor({ length }) {
  if (length >= config.limits[PART]) return `${length} regions are the most. Remove one to draw another.`;
  if (!length) return "";
  return matchMedia("(pointer: coarse)").matches
    ? "Drag a region to move it, its edges to resize it."
    : "Drag to move, edges to resize. Arrow keys move, Shift+arrows resize, Delete removes.";
}

function settle(place, { left, top, width, height }) {
  const percent = (part) => `${100 * part}%`;
  Object.assign(place.style, { left: percent(left), top: percent(top), width: percent(width), height: percent(height) });
  // Of two that overlap the smaller lies above, so that both can be reached.
  place.style.zIndex = String(Math.round(100 * (1 - width * height)));
}
