// When the event fails or falls silent, the API is asked what became of the job. Its answers have words, so that what
// stands in the way (a password, a size, a proxy, a restart) can be read.

import { get, inWords, online, post, Unreachable } from "../core/api.js";
import { windowName } from "../core/store.js";
import { isSame, messageOf, unfinishedOf } from "./job_status.js";
import { isUnderWay } from "./job_view.js";
import { unconfirmed } from "./unconfirmed_draft.js";

const SILENT_MS = 6000;
/** For the first message of an event. */
const FIRST_MESSAGE_MS = 3000;
const AGAIN_MS = 2000;

/**
 * @param {import("./job.js").JobStore} store
 * @param {{followedId: () => string|null, applyMessage: (message: any) => void, takeBack: () => void,
 *   showRefusal: (refusal: any) => void, follow: (id: string) => void, followAgain: () => void}} act of jobs/job.js
 */
export function makeRecovery(store, act) {
  let isLooking = false;
  let askedAt = 0;

  /** Whether something was requested that has not ended. */
  const isOpen = () => isUnderWay(store.view.get()) && store.requestText !== "";
  /** Whether the event has answered the last request. */
  const isHeard = () => store.heardStream === store.stream;

  async function askDirectly() {
    if (isLooking || !isOpen()) return;
    isLooking = true;
    const { stream } = store;
    try {
      const id = act.followedId();
      if (id) await lookAt(id, stream);
      else await findOrSend(stream);
    } catch (problem) {
      // Without a connection the status line says so, and all of this is done again when it is back.
      if (stream === store.stream && !(problem instanceof Unreachable)) act.showRefusal(inWords(problem));
    } finally {
      isLooking = false;
      askedAt = performance.now();
    }
  }

  // By the event again, which has previews; while it is silent, from here.
  async function lookAt(id, stream) {
    const status = await get(`/jobs/${encodeURIComponent(id)}`);
    if (stream !== store.stream || isSame(status, store.view.get())) return;
    if (isHeard()) {
      act.followAgain();
      return;
    }
    const message = await messageOf(status);
    if (stream === store.stream && !isHeard()) act.applyMessage(message);
  }

  async function findOrSend(stream) {
    const sent = store.cancelOnArrival ? null : unconfirmed.get();
    // Jobs of this window that are not the one that was sent.
    const known = new Set([...store.waiting.get(), store.viewBefore.id]);
    const unfinished = await unfinishedOf(windowName);
    const found = unfinished.filter((one) => !known.has(one.id)).at(-1);
    if (stream !== store.stream) return;
    let id = found?.id ?? null;
    if (!id && sent) id = (await post("/jobs", sent.draft, sent.key)).id;
    if (stream !== store.stream) return;
    if (id) act.follow(id);
    else act.takeBack();
  }

  // Gradio hides from a page that an event was refused on its way; the browser knows.
  const isRefused = ({ name, responseStatus }) =>
    name.includes("/gradio_api/queue/join") && (responseStatus === 0 || responseStatus >= 400);
  new PerformanceObserver((list) => {
    if (/** @type {PerformanceResourceTiming[]} */ (list.getEntries()).some(isRefused)) askDirectly();
  }).observe({ type: "resource" });

  return {
    askDirectly,
    /** The connection is back. */
    afterBreak() {
      if (!isOpen()) return;
      if (act.followedId()) act.followAgain();
      else askDirectly();
    },
    /** Ask whether the event has been silent for long; called every second. */
    nudge() {
      const now = performance.now();
      const patience = isHeard() ? SILENT_MS : FIRST_MESSAGE_MS;
      if (online.get() && now - store.heardAt >= patience && now - askedAt >= AGAIN_MS) askDirectly();
    },
  };
}
