// Pictures whose file is missing: asked for again while they are seen, when the window is looked at again and now and
// then, so that "File missing" ends when the file is back. One small request each, and none while nothing is missing.

import { pictureUrl } from "./api.js";
import { route } from "./route.js";

const FIRST_MS = 4000;
const LAST_MS = 60_000;
/** Not all of a folder that is away at once. */
const MOST_AT_ONCE = 6;

/** What waits, by the element that says so. @type {Map<HTMLElement, {id: string, onback: () => void}>} */
const waiting = new Map();
let wait = FIRST_MS;
let timer = 0;

/** Call `onback` once a picture's file is back; asked only while the element is in the page. */
export function awaitPicture(element, id, onback) {
  if (waiting.get(element)?.id === id) return;
  wait = FIRST_MS;
  waiting.set(element, { id, onback });
  timer ||= window.setTimeout(look, wait);
}

/** It shows something else now. */
export const stopAwaiting = (element) => waiting.delete(element);

/** Load an image anew, from the same address. */
export function loadAgain(image) {
  const { src } = image;
  image.removeAttribute("src");
  image.src = src;
}

/**
 * Let a small image of a picture come back by itself; until then it leaves its place empty.
 * @param {() => string|undefined} idOf the picture that it shows
 */
export function comesBack(image, idOf) {
  image.addEventListener("load", () => {
    image.style.visibility = "";
  });
  image.addEventListener("error", () => {
    const id = idOf();
    if (!id) return;
    image.style.visibility = "hidden";
    awaitPicture(image, id, () => {
      if (idOf() === id) loadAgain(image);
    });
  });
  return image;
}

// The server answers that nothing changed (304) without reading the file.
async function isThere(id) {
  const answer = await fetch(pictureUrl(id), { cache: "no-store", headers: { "If-None-Match": `"${id}"` } }).catch(
    () => null,
  );
  return answer?.status === 304 || Boolean(answer?.ok);
}

async function look() {
  timer = 0;
  for (const element of [...waiting.keys()]) if (!element.isConnected) waiting.delete(element);
  const seen = document.hidden ? [] : [...waiting].filter(([element]) => isSeen(element)).slice(0, MOST_AT_ONCE);
  await Promise.all(
    seen.map(async ([element, one]) => {
      const isBack = await isThere(one.id);
      if (waiting.get(element) !== one) return;
      waiting.delete(element);
      if (isBack) one.onback();
      else waiting.set(element, one); // behind the others
    }),
  );
  wait = Math.min(LAST_MS, wait * 1.5);
  if (waiting.size) timer ||= window.setTimeout(look, wait);
}

function isSeen(element) {
  const box = element.getBoundingClientRect();
  return box.width > 0 && box.bottom > 0 && box.top < innerHeight;
}

function lookSoon() {
  if (!waiting.size || document.hidden) return;
  wait = FIRST_MS;
  clearTimeout(timer);
  look();
}
route.later(lookSoon);
for (const kind of ["focus", "online"]) addEventListener(kind, lookSoon);
document.addEventListener("visibilitychange", lookSoon);
