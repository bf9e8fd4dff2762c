// The one job this window shows, and its own that wait behind it. Hears of it through gradio's event
// (tabs/run_panel.py), starts further ones by the API. Draws nothing: `job.view` is what the result pane shows.

import { get, inWords, online, post, request } from "../core/api.js";
import { watchEngine } from "../core/engine.js";
import { added } from "../core/image_news.js";
import { observable, windowName } from "../core/store.js";
import { say } from "../core/toast.js";
import { refuse } from "../form/rules.js";
import { offerUndo } from "../ui/undo_bar.js";
import { isLeftBehind, unfinishedHere } from "./job_looks.js";
import { makeRecovery } from "./job_recovery.js";
import { unheard } from "./job_unheard.js";
import { emptyView, isUnderWay, merge, sendingView, shownUrl } from "./job_view.js";

const SETTLE_MS = 400;
const LONGEST_BRINGING_MS = 120_000;

const view = observable(emptyView());
const waiting = observable(/** @type {string[]} */ ([]));
let ask = () => {};
const notes = new Map(); // by id of a job, what is said beside its state: its place in a series
let pending = "";
let stream = "";
let heardAt = 0;
let heardOf = ""; // the stream that was heard of last
let cancelSoon = false;
let before = emptyView(); // what the result pane showed before a request that may be refused

export const job = {
  view,
  waiting,
  isActive: () => isUnderWay(view.get()),
  /** Id of the newest picture that the result pane shows. */
  lastPicture: () => view.get().cells.find(Boolean)?.id ?? null,
  lastSeed: () => view.get().cells.find(Boolean)?.seed ?? view.get().recipe?.seed ?? null,

  /** The Generate bar lends its event. */
  attach(trigger) {
    ask = () => trigger("submit");
  },

  /** What the event sends: gradio calls this when the event fires. */
  request: () => pending,

  /**
   * Make a draft, now or after what is under way; the wait for its pictures is seen as sending.
   * @param {() => Promise<any>} prepare gives the draft
   * @param {{width: number, height: number, count: number}} look of what comes
   * @returns {Promise<boolean>} whether it went on its way
   */
  async make(prepare, look) {
    const isNow = !job.isActive();
    if (isNow) {
      before = view.get();
      stream = pending = ""; // nothing is asked yet
      heardAt = performance.now() + LONGEST_BRINGING_MS;
      view.set(sendingView(look, before));
    }
    try {
      const made = await prepare();
      if (!isNow) job.show((await post("/jobs", made)).id, look);
      else if (cancelSoon) {
        takeBack();
        return false;
      } else start({ draft: made }, view.get());
      return true;
    } catch (problem) {
      if (isNow) takeBack();
      refuse(inWords(problem));
      return false;
    }
  },

  /** After a load: this window's own job, or the person's newest that nobody looks at. */
  async resume() {
    const sent = await unheard.send();
    const jobs = await unfinishedHere();
    if (job.isActive()) return;
    const first = jobs.find((one) => one.state === "running") ?? jobs[0] ?? sent;
    waiting.set(jobs.filter((one) => one !== first).map((one) => one.id));
    start(first ? { follow: first.id } : {}, view.get());
  },

  /** End the job that is shown. */
  async cancel(id = view.get().id) {
    if (!id) {
      cancelSoon = view.get().phase === "sending";
      return;
    }
    try {
      await request("DELETE", `/jobs/${encodeURIComponent(id)}`);
      waiting.set(waiting.get().filter((other) => other !== id));
    } catch (problem) {
      say(problem);
    }
  },

  /** Make the shown job again, or only some of its pictures. */
  async again(change = {}) {
    const { recipe, seed } = await get(`/jobs/${encodeURIComponent(view.get().id)}`);
    const again = { ...recipe, seed, ...change };
    start({ draft: again }, sendingView({ ...view.get(), count: again.count }, view.get()));
  },

  /** Make it again as it was, where it has no recipe: an upscale. */
  async repeat() {
    job.take((await post(`/jobs/${encodeURIComponent(view.get().id)}/rerun`)).id);
  },

  /** Follow a job of this person here; one that is shown already keeps its places. */
  take(id) {
    start({ follow: id }, sendingView(view.get().id === id ? view.get() : emptyView(), view.get()));
  },

  /** Follow a job that was just queued: now, or when its turn comes. look: as of `make`; note: "round 2 of 4". */
  show(id, look, note = "") {
    notes.set(id, note);
    if (job.isActive()) waiting.set([...waiting.get(), id]);
    else start({ follow: id }, sendingView(look, view.get()));
    watchEngine();
  },

  /** The view of a job when it has ended; never, if it is not shown here any more. */
  ended: (id) =>
    new Promise((resolve) => {
      const stop = view.later((now) => {
        if (now.id === id && !isUnderWay(now)) {
          stop();
          resolve(now);
        }
      });
    }),

  /** One value of the event: the job so far. */
  receive(text) {
    if (!text) return;
    const told = JSON.parse(text);
    // Of what could not even be read no stream is known: it is ours.
    if (told.stream !== stream && !(told.stream === "" && told.type === "refused")) return;
    heardAt = performance.now();
    heardOf = stream;
    if (told.type === "nothing") {
      nothing();
      return;
    }
    unheard.set(null);
    if (told.type === "refused") {
      refused(told);
      return;
    }
    take(told);
  },
};

function take(told) {
  const now = view.get();
  if (now.id === told.job && !isUnderWay(now)) return; // it has ended: whoever tells of it later is behind
  const next = { ...merge(now, told), note: notes.get(told.job) ?? "" };
  view.set(next);
  if (next.phase !== now.phase) watchEngine();
  if (cancelSoon && next.id) {
    cancelSoon = false;
    job.cancel(next.id);
  }
  if (!isUnderWay(next)) ended(next);
}

function start(what, first) {
  before = job.isActive() ? before : view.get();
  stream = Math.random().toString(36).slice(2);
  if (what.draft) unheard.set({ draft: what.draft, key: stream, at: Date.now() });
  pending = JSON.stringify({ stream, session: windowName, ...what, ...(what.draft ? { key: stream } : {}) });
  heardAt = performance.now();
  view.set(first);
  ask();
  setTimeout(watchEngine, SETTLE_MS);
}

// The server knows nothing to follow. A draft on its way was lost then: it is sent once more, by the API.
function nothing() {
  if (view.get().phase !== "sending") {
    isLeftBehind().then((isThere) => {
      if (isThere && !job.isActive()) job.resume();
    });
    return;
  }
  askDirectly();
}

// What was on its way is not made: the result pane shows what it did before.
function takeBack() {
  cancelSoon = false;
  unheard.set(null);
  view.set(before);
}

function refused(told) {
  takeBack();
  refuse(told);
  goOn();
}

function ended(last) {
  // The next job's state takes the place of this one's: what was to be known of it is said once more.
  if (waiting.get().length && last.notices?.length) offerUndo([...new Set(last.notices)].join(" "), null);
  const saved = last.cells.filter(Boolean);
  if (saved.length) added(saved.map((cell) => cell.id));
  goOn();
}

function goOn() {
  const [next, ...rest] = waiting.get();
  if (!next) return;
  waiting.set(rest);
  start(
    { follow: next },
    {
      ...view.get(),
      phase: "sending",
      id: null,
      preview: null,
      behind: shownUrl(view.get()),
      cells: view.get().cells.map(() => null),
    },
  );
}

/** Follow again from where we were. */
function followAgain() {
  const { id, cursor } = view.get();
  start({ follow: id ?? JSON.parse(pending).follow, cursor: cursor ?? 0 }, view.get());
}

const { askDirectly, afterBreak, nudge } = makeRecovery({
  view,
  stream: () => stream,
  isLost: () => job.isActive() && Boolean(pending),
  followed: () => view.get().id ?? JSON.parse(pending).follow,
  unheard: () => (cancelSoon ? null : unheard.get()),
  known: () => [...waiting.get(), before.id],
  heardAt: () => heardAt,
  isHeard: () => heardOf === stream,
  follow: (id) => {
    unheard.set(null);
    start({ follow: id }, view.get());
  },
  followAgain,
  take,
  takeBack,
  refused,
});
setInterval(nudge, 1000);
online.later((isOnline) => {
  if (isOnline) afterBreak();
});
