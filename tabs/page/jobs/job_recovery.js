// When the event fails or falls silent, the API is asked what became of the job. Its answers have words, so that whatever
// stands in the way (a password, a size, a proxy, a restart) reaches the eye.

import { get, inWords, online, post, Unreachable } from "../core/api.js";
import { windowName } from "../core/store.js";
import { isSame, toldOf, unfinishedOf } from "./job_looks.js";

const SILENT_MS = 6000;
/** For the first word of an event. */
const UNHEARD_MS = 3000;
const AGAIN_MS = 2000;

/**
 * @param {{view: any, stream: () => string, isLost: () => boolean, isHeard: () => boolean, heardAt: () => number, followed: () => string|null,
 *   unheard: () => any, known: () => string[], follow: (id: string) => void, followAgain: () => void, take: (told: any) => void,
 *   takeBack: () => void, refused: (told: any) => void}} job the result pane's job (jobs/job.js). isLost: something is asked for; isHeard: the
 *   event has said something of it; followed: the job it is, if it is known; unheard: the draft that was sent and not heard of;
 *   known: jobs of this window that are not it
 */
export function makeRecovery(job) {
  let isLooking = false;
  let askedAt = 0;

  async function askDirectly() {
    if (isLooking || !job.isLost()) return;
    isLooking = true;
    const stream = job.stream();
    try {
      const id = job.followed();
      if (id) await lookAt(id, stream);
      else await findOrSend(stream);
    } catch (problem) {
      // Without a connection the status line says so, and all of this is done again when it is back.
      if (stream === job.stream() && !(problem instanceof Unreachable)) job.refused(inWords(problem));
    } finally {
      isLooking = false;
      askedAt = performance.now();
    }
  }

  // By the event again, which brings previews; while it is silent, from here.
  async function lookAt(id, stream) {
    const status = await get(`/jobs/${encodeURIComponent(id)}`);
    if (stream !== job.stream() || isSame(status, job.view.get())) return;
    if (job.isHeard()) {
      job.followAgain();
      return;
    }
    const told = await toldOf(status);
    if (stream === job.stream() && !job.isHeard()) job.take(told);
  }

  async function findOrSend(stream) {
    const sent = job.unheard();
    const known = new Set(job.known());
    const found = (await unfinishedOf(windowName)).filter((one) => !known.has(one.id)).at(-1);
    if (stream !== job.stream()) return;
    const id = found?.id ?? (sent ? (await post("/jobs", sent.draft, sent.key)).id : null);
    if (stream !== job.stream()) return;
    if (id) job.follow(id);
    else job.takeBack();
  }

  // Gradio tells a page nothing of an event that was refused on its way; the browser knows.
  const isRefused = ({ name, responseStatus }) =>
    name.includes("/gradio_api/queue/join") && (responseStatus === 0 || responseStatus >= 400);
  new PerformanceObserver((list) => {
    if (/** @type {PerformanceResourceTiming[]} */ (list.getEntries()).some(isRefused)) askDirectly();
  }).observe({ type: "resource" });

  return {
    askDirectly,
    /** The connection is back. */
    afterBreak() {
      if (!job.isLost()) return;
      if (job.followed()) job.followAgain();
      else askDirectly();
    },
    /** Look whether the event has said nothing for long; called every second. */
    nudge() {
      const now = performance.now();
      if (online.get() && now - job.heardAt() >= (job.isHeard() ? SILENT_MS : UNHEARD_MS) && now - askedAt >= AGAIN_MS)
        askDirectly();
    },
  };
}
