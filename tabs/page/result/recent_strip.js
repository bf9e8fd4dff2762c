// The last pictures under the result pane, in slots that stay where they are: a new picture moves no one.

import { get, thumbnailUrl } from "../core/api.js";
import { news } from "../core/image_news.js";
import { comesBack } from "../core/missing_images.js";
import { go } from "../core/route.js";
import { moment } from "../core/words.js";
import { h, targetOf } from "../ui/dom.js";
import { makeDraggable } from "../ui/drag.js";
import { rove, settleTabStop } from "../ui/roving.js";
import { titleOfPicture } from "./records.js";

const SLOTS = 12;
const SLOT_PX = 72;

/**
 * @param {{onpick: (record: any) => boolean}} handlers onpick: true if the result pane shows it, else the gallery
 *   does
 */
export function makeRecentStrip({ onpick }) {
  /** @type {any[]} */
  let records = [];
  const removed = new Set();
  const slots = Array.from({ length: SLOTS }, () => {
    const image = h("img", { alt: "", loading: "lazy", hidden: true });
    const slot = h("button.slot", { type: "button", disabled: true, "aria-label": "Empty" }, image);
    comesBack(image, () => slot.dataset.id);
    makeDraggable(slot, () => slot.dataset.id);
    return slot;
  });
  const element = h("div.recent-strip", { role: "group", "aria-label": "Recent pictures" }, ...slots);
  rove(element, ".slot:not([disabled])");

  function draw() {
    const shown = records.filter((record) => !removed.has(record.id));
    slots.forEach((slot, index) => {
      const record = shown[index];
      const image = /** @type {HTMLImageElement} */ (slot.firstChild);
      slot.disabled = !record;
      slot.dataset.id = record?.id ?? "";
      slot.setAttribute("aria-label", record ? `${titleOfPicture(record, 60)}, ${moment(record.created_at)}` : "Empty");
      image.hidden = !record;
      const url = record ? thumbnailUrl(record.id) : "";
      if (url && image.getAttribute("src") !== url) image.src = url;
    });
    settleTabStop(slots);
  }

  element.addEventListener("click", (event) => {
    const slot = targetOf(event, ".slot");
    const record = records.find((one) => one.id === slot?.dataset.id);
    if (record && !onpick(record)) go("gallery", record.id);
  });
  // Only so many slots as fit: the rest would be cut in half.
  new ResizeObserver(([entry]) => {
    const fit = Math.max(1, Math.floor((entry.contentRect.width + 8) / SLOT_PX));
    slots.forEach((slot, index) => {
      slot.hidden = index >= fit;
    });
  }).observe(element);

  async function load() {
    const page = await get(`/images?limit=${SLOTS}`).catch(() => null);
    if (page) records = page.images;
    draw();
    return records;
  }
  news.later(({ kind, ids }) => {
    if (kind === "removed") ids.forEach((id) => removed.add(id));
    if (kind === "restored") ids.forEach((id) => removed.delete(id));
    if (kind === "added" || kind === "restored") load();
    else draw();
  });
  return { element, load, isEmpty: () => records.length === removed.size };
}
