// What the engine is doing, asked every few seconds; the same question tells whether the server is there.

import { get, online } from "./api.js";
import { observable } from "./store.js";

const CALM_MS = 5000;
const BUSY_MS = 1500;
const BUSY = new Set(["starting", "loading", "working", "restarting"]);
const RETRY_MS = [1000, 2000, 4000, 8000];

/** {state, text, device, resident, fraction, versions, devices}; null until the first answer. */
export const engine = observable(/** @type {any} */ (null));

/** While there is no connection: {seconds} until the next try; else null. */
export const retry = observable(/** @type {{seconds: number}|null} */ (null));

let timer = 0;
let failures = 0;

/** Ask now, and from then on by itself. */
export async function watchEngine() {
  clearTimeout(timer);
  try {
    engine.set(await get("/engine"));
    failures = 0;
    retry.set(null);
    const pause = BUSY.has(engine.get().state) ? BUSY_MS : CALM_MS;
    timer = setTimeout(watchEngine, document.hidden ? CALM_MS * 3 : pause);
  } catch {
    if (online.get()) {
      timer = setTimeout(watchEngine, CALM_MS);
      return;
    }
    const pause = RETRY_MS[Math.min(failures, RETRY_MS.length - 1)];
    failures += 1;
    countDown(Math.round(pause / 1000));
  }
}

function countDown(seconds) {
  if (seconds <= 0) {
    watchEngine();
    return;
  }
  retry.set({ seconds });
  timer = setTimeout(() => countDown(seconds - 1), 1000);
}

document.addEventListener("visibilitychange", () => {
  if (!document.hidden) watchEngine();
});
addEventListener("online", () => watchEngine());
// Whoever finds the server gone first: start counting here.
online.later((isOnline) => {
  if (!isOnline && !retry.get()) {
    clearTimeout(timer);
    failures = 1;
    countDown(1);
  }
  if (isOnline && retry.get()) {
    failures = 0;
    retry.set(null);
  }
});
