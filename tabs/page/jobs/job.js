// The one job this window shows, and its own that wait behind it. Gradio's event (tabs/run_panel.py) carries its
// messages; further jobs start by the API. Draws nothing: `job.view` is what the result pane shows.

import { get, inWords, online, post, request } from "../core/api.js";
import { watchEngine } from "../core/engine.js";
import { added } from "../core/image_news.js";
import { observable, windowName } from "../core/store.js";
import { say } from "../core/toast.js";
import { refuse } from "../form/rules.js";
import { offerUndo } from "../ui/undo_bar.js";
import { makeRecovery } from "./job_recovery.js";
import { hasUnfollowedJobs, unfinishedHere } from "./job_status.js";
import { emptyView, isUnderWay, merge, sendingView, shownUrl } from "./job_view.js";
import { unconfirmed } from "./unconfirmed_draft.js";

const SETTLE_MS = 400;
const LONGEST_UPLOAD_MS = 120_000;

/** @typedef {ReturnType<typeof createJobStore>} JobStore */

/** Everything that the page knows of its jobs between two messages. */
function createJobStore() {
  return {
    view: observable(emptyView()),
    /** Ids of this window's jobs behind the shown one. */
    waiting: observable(/** @type {string[]} */ ([])),
    /** Fires gradio's event; the Generate bar binds it. */
    trigger: () => {},
    /** By id of a job, what is said beside its state: its place in a series. @type {Map<string, string>} */
    notes: new Map(),
    /** What the event sends, as JSON text; empty before the first request. */
    requestText: "",
    /** Names the answers to the last request; answers to older ones carry another name. */
    stream: "",
    /** The stream of the last message. */
    heardStream: "",
    /** When the last message came, by performance.now(); in the future while uploads may take their time. */
    heardAt: 0,
    /** Cancel was pressed before the job had an id. */
    cancelOnArrival: false,
    /** What the result pane showed before a request that may be refused. */
    viewBefore: emptyView(),
  };
}

const store = createJobStore();
const { view, waiting } = store;

export const job = {
  view,
  waiting,
  isActive: () => isUnderWay(view.get()),
  /** Id of the newest image that the result pane shows. */
  lastImageId: () => view.get().cells.find(Boolean)?.id ?? null,
  lastSeed: () => view.get().cells.find(Boolean)?.seed ?? view.get().recipe?.seed ?? null,

  /** Bind the Generate bar's event. */
  bindTrigger(trigger) {
    store.trigger = () => trigger("submit");
  },

  /** What the event sends: gradio calls this when the event fires. */
  request: () => store.requestText,

  /**
   * Submit a draft, now or after what is under way; the wait for its uploads is shown as sending.
   * @param {() => Promise<any>} prepare gives the draft
   * @param {{width: number, height: number, count: number}} look of what comes
   * @returns {Promise<boolean>} whether it was submitted
   */
  async submit(prepare, look) {
    const isNow = !job.isActive();
    if (isNow) {
      store.viewBefore = view.get();
      // Nothing is requested yet.
      store.requestText = "";
      store.stream = "";
      store.heardAt = performance.now() + LONGEST_UPLOAD_MS;
      view.set(sendingView(look, store.viewBefore));
    }
    try {
      const draft = await prepare();
      if (!isNow) {
        job.enqueue((await post("/jobs", draft)).id, look);
        return true;
      }
      if (store.cancelOnArrival) {
        takeBack();
        return false;
      }
      send({ draft }, view.get());
      return true;
    } catch (problem) {
      if (isNow) takeBack();
      refuse(inWords(problem));
      return false;
    }
  },

  /** After a load: follow this window's own job, or the person's newest that no window follows. */
  async restore() {
    const sent = await unconfirmed.send();
    const jobs = await unfinishedHere();
    if (job.isActive()) return;
    const first = jobs.find((one) => one.state === "running") ?? jobs[0] ?? sent;
    waiting.set(jobs.filter((one) => one !== first).map((one) => one.id));
    send(first ? { follow: first.id } : {}, view.get());
  },

  /** End a job; without an id, the shown one. */
  async cancel(id = view.get().id) {
    if (!id) {
      store.cancelOnArrival = view.get().phase === "sending";
      return;
    }
    try {
      await request("DELETE", `/jobs/${encodeURIComponent(id)}`);
      waiting.set(waiting.get().filter((other) => other !== id));
    } catch (problem) {
      say(problem);
    }
  },

  /** Submit the shown job's recipe again, whole or with changes. */
  async rerun(change = {}) {
    const { recipe, seed } = await get(`/jobs/${encodeURIComponent(view.get().id)}`);
    const draft = { ...recipe, seed, ...change };
    send({ draft }, sendingView({ ...view.get(), count: draft.count }, view.get()));
  },

  /** Let the server run the shown job again as it was, where it has no recipe: an upscale. */
  async rerunById() {
    job.attach((await post(`/jobs/${encodeURIComponent(view.get().id)}/rerun`)).id);
  },

  /** Follow a job of this person here; one that is shown already keeps its cells. */
  attach(id) {
    const look = view.get().id === id ? view.get() : emptyView();
    send({ follow: id }, sendingView(look, view.get()));
  },

  /** Follow a job that was just queued: now, or when its turn comes. look: as of `submit`; note: "round 2 of 4". */
  enqueue(id, look, note = "") {
    store.notes.set(id, note);
    if (job.isActive()) waiting.set([...waiting.get(), id]);
    else send({ follow: id }, sendingView(look, view.get()));
    watchEngine();
  },

  /** The view of a job when it has ended; never, if it is not shown here any more. */
  whenEnded: (id) =>
    new Promise((resolve) => {
      const stop = view.later((now) => {
        if (now.id === id && !isUnderWay(now)) {
          stop();
          resolve(now);
        }
      });
    }),

  /** One value of the event: the job so far, as JSON text. */
  receive(text) {
    if (!text) return;
    const message = JSON.parse(text);
    // A request that could not even be parsed has no stream: its refusal is ours.
    const isUnnamedRefusal = message.stream === "" && message.type === "refused";
    if (message.stream !== store.stream && !isUnnamedRefusal) return;
    store.heardAt = performance.now();
    store.heardStream = store.stream;
    if (message.type === "nothing") {
      recoverFromNothing();
      return;
    }
    unconfirmed.set(null);
    if (message.type === "refused") showRefusal(message);
    else applyMessage(message);
  },
};

function applyMessage(message) {
  const now = view.get();
  if (now.id === message.job && !isUnderWay(now)) return; // it has ended: this message is older
  const next = { ...merge(now, message), note: store.notes.get(message.job) ?? "" };
  view.set(next);
  if (next.phase !== now.phase) watchEngine();
  if (store.cancelOnArrival && next.id) {
    store.cancelOnArrival = false;
    job.cancel(next.id);
  }
  if (!isUnderWay(next)) finish(next);
}

/**
 * Fire the event with a draft, with a job to follow, or with nothing.
 * @param {{draft?: any, follow?: string, cursor?: number}} what
 * @param {any} firstView shown until the first message
 */
function send(what, firstView) {
  if (!job.isActive()) store.viewBefore = view.get();
  store.stream = Math.random().toString(36).slice(2);
  /** @type {any} */
  const body = { stream: store.stream, session: windowName, ...what };
  if (what.draft) {
    unconfirmed.set({ draft: what.draft, key: store.stream, at: Date.now() });
    body.key = store.stream;
  }
  store.requestText = JSON.stringify(body);
  store.heardAt = performance.now();
  view.set(firstView);
  store.trigger();
  setTimeout(watchEngine, SETTLE_MS);
}

// The server knows nothing to follow. A draft on its way was lost then: it is sent once more, by the API.
function recoverFromNothing() {
  if (view.get().phase === "sending") {
    recovery.askDirectly();
    return;
  }
  hasUnfollowedJobs().then((hasJobs) => {
    if (hasJobs && !job.isActive()) job.restore();
  });
}

// The request came to nothing: the result pane shows what it did before.
function takeBack() {
  store.cancelOnArrival = false;
  unconfirmed.set(null);
  view.set(store.viewBefore);
}

function showRefusal(refusal) {
  takeBack();
  refuse(refusal);
  followNext();
}

function finish(last) {
  // The next job's state replaces this one's, so its notices are shown once more.
  if (waiting.get().length && last.notices?.length) offerUndo([...new Set(last.notices)].join(" "), null);
  const saved = last.cells.filter(Boolean);
  if (saved.length) added(saved.map((cell) => cell.id));
  followNext();
}

function followNext() {
  const [next, ...rest] = waiting.get();
  if (!next) return;
  waiting.set(rest);
  const now = view.get();
  send(
    { follow: next },
    {
      ...now,
      phase: "sending",
      id: null,
      preview: null,
      behind: shownUrl(now),
      cells: now.cells.map(() => null),
    },
  );
}

/** Id of the job that the last request is about, if it is known. */
const followedId = () => view.get().id ?? JSON.parse(store.requestText).follow;

const recovery = makeRecovery(store, {
  followedId,
  applyMessage,
  takeBack,
  showRefusal,
  follow(id) {
    unconfirmed.set(null);
    send({ follow: id }, view.get());
  },
  /** Follow again from the last message on. */
  followAgain: () => send({ follow: followedId(), cursor: view.get().cursor ?? 0 }, view.get()),
});
setInterval(recovery.nudge, 1000);
online.later((isOnline) => {
  if (isOnline) recovery.afterBreak();
});
