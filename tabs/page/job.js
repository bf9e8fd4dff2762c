// The one job this window shows, and its own that wait behind it. Hears of it through gradio's event
// (tabs/run_panel.py), starts further ones by the API. Draws nothing: `job.view` is what the stage shows.

import { get, online, post, Refused, request } from "./api.js";
import { watchEngine } from "./engine.js";
import { draft, form, number } from "./form.js";
import { observable, windowName } from "./store.js";
import { added, say } from "./pictures.js";
import { refuse } from "./rules.js";

const ACTIVE = new Set(["sending", "queued", "loading", "running"]);
const SILENT_MS = 6000;
const SETTLE_MS = 400;
const LOOK_MS = 2500;
const MOST_LOOKS = 3;

/** @returns {any} a view with nothing in it */
export const emptyView = () => ({ phase: "idle", id: null, recipe: null, count: 1, cells: [], preview: null, behind: null });

const view = observable(emptyView());
const waiting = observable(/** @type {string[]} */ ([]));
/** @type {() => void} */
let ask = () => {};
let pending = "";
let stream = "";
let heardAt = 0;
let cancelSoon = false;
let unheard = null; // a draft that was sent and not heard of: sent once more if the server doesn't know it
let looks = 0;
/** What the stage showed before a request that may be refused. */
let before = emptyView();

export const job = {
  view,
  waiting,
  isActive: () => ACTIVE.has(view.get().phase),
  lastSeed: () => view.get().cells.find(Boolean)?.seed ?? view.get().recipe?.seed ?? null,

  /** The Generate bar lends its event. */
  attach(trigger) { ask = () => trigger("submit"); },

  /** What the event sends: gradio calls this when the event fires. */
  request: () => pending,

  /** Make what the form says: now, or after what this window has under way. */
  async generate() {
    if (!job.isActive()) { start({ draft: draft() }, sending(form.get())); return; }
    try {
      const { id } = await post("/jobs", draft());
      if (job.isActive()) waiting.set([...waiting.get(), id]);
      else start({ follow: id }, sending(form.get()));
      watchEngine();
    } catch (problem) {
      if (problem instanceof Refused && !refuse(problem)) say(problem);
    }
  },

  /** After a load: this window's own job, or the person's newest that nobody looks at. */
  async resume() {
    const { jobs } = await get(`/jobs?window=${windowName}`).catch(() => ({ jobs: [] }));
    if (job.isActive()) return;
    const first = jobs.find((one) => one.state === "running") ?? jobs[0];
    waiting.set(jobs.filter((one) => one !== first).map((one) => one.id));
    start(first ? { follow: first.id } : {}, view.get());
  },

  /** End the job that is shown. */
  async cancel(id = view.get().id) {
    if (!id) { cancelSoon = view.get().phase === "sending"; return; }
    try {
      await request("DELETE", `/jobs/${encodeURIComponent(id)}`);
      waiting.set(waiting.get().filter((other) => other !== id));
    } catch (problem) { say(problem); }
  },

  /** Make the shown job again, or only its last so many pictures. */
  async again(change = {}) {
    const { recipe, seed } = await get(`/jobs/${encodeURIComponent(view.get().id)}`);
    const again = { ...recipe, seed, ...change };
    start({ draft: again }, sending({ ...again, width: String(again.width), height: String(again.height) }));
  },

  /** Follow a job of this person here. */
  take: (id) => start({ follow: id }, { ...emptyView(), phase: "sending", behind: shownUrl() }),

  /** One value of the event: the job so far. */
  receive(text) {
    if (!text) return;
    const told = JSON.parse(text);
    if (told.stream !== stream) return;
    heardAt = performance.now();
    if (told.type === "nothing") { nothing(); return; }
    unheard = null;
    if (told.type === "refused") { refused(told); return; }
    const now = view.get();
    const next = merge(now, told);
    view.set(next);
    if (next.phase !== now.phase) watchEngine();
    if (cancelSoon && next.id) { cancelSoon = false; job.cancel(next.id); }
    if (!ACTIVE.has(next.phase)) ended(next);
  },
};

function start(what, first) {
  before = job.isActive() ? before : view.get();
  stream = Math.random().toString(36).slice(2);
  pending = JSON.stringify({ stream, window: windowName, ...what });
  heardAt = performance.now();
  if (what.draft) unheard = what.draft;
  view.set(first);
  ask();
  setTimeout(watchEngine, SETTLE_MS);
}

function sending(values) {
  return {
    ...emptyView(), phase: "sending", count: values.count, width: number(values.width), height: number(values.height),
    cells: Array(values.count).fill(null), behind: shownUrl(),
  };
}

// What the frame shows now, to stay behind the next job until its first preview.
function shownUrl() {
  const now = view.get();
  const cell = now.cells.find(Boolean);
  return cell ? { id: cell.id } : now.preview && { url: now.preview.url } || now.behind;
}

/** Fold one message into the view; messages repeat everything but the preview. */
function merge(now, told) {
  const isSame = now.id === told.job;
  const count = told.recipe.count;
  const cells = isSame && now.cells.length === count ? [...now.cells] : Array(count).fill(null);
  for (const saved of told.saved) cells[saved.image] ??= saved;
  const preview = told.preview ? { image: told.image, url: told.preview } : isSame ? now.preview : null;
  return {
    ...told, phase: told.state, id: told.job, count, width: told.recipe.width, height: told.recipe.height,
    cells, preview, behind: preview || cells.some(Boolean) ? null : now.behind,
  };
}

// The server knows nothing to follow. A draft on its way was lost then: it is sent once more.
function nothing() {
  if (view.get().phase !== "sending") { lookAgain(); return; }
  const draftAgain = unheard;
  unheard = null;
  if (draftAgain) {
    start({ draft: draftAgain }, view.get());
    unheard = null;
  } else view.set(before);
}

// A window that has just been closed counts as following for some seconds. Its job is taken up then.
async function lookAgain() {
  if (looks >= MOST_LOOKS) return;
  looks += 1;
  const { rows } = await get("/queue").catch(() => ({ rows: [] }));
  const isMine = rows.some((row) => row.mine && (row.state === "running" || row.state === "queued"));
  if (isMine) setTimeout(() => { if (!job.isActive()) job.resume(); }, LOOK_MS);
}

function refused(told) {
  if (refuse(told)) view.set(before);
  else view.set({ ...view.get(), phase: "failed", id: null, code: told.code, message: told.message, hint: told.hint });
  goOn();
}

function ended(last) {
  const saved = last.cells.filter(Boolean);
  if (saved.length) added(saved.map((cell) => cell.id));
  goOn();
}

function goOn() {
  const [next, ...rest] = waiting.get();
  if (!next) return;
  waiting.set(rest);
  start({ follow: next }, { ...view.get(), phase: "sending", id: null, preview: null, behind: shownUrl(), cells: view.get().cells.map(() => null) });
}

/** After a break in the line, or when the event has said nothing for long: follow again from where we were. */
function followAgain() {
  const { id, cursor } = view.get();
  if (!job.isActive()) return;
  start(id ? { follow: id, cursor: cursor ?? 0 } : {}, view.get());
}

async function nudge() {
  if (!job.isActive() || !online.get() || performance.now() - heardAt < SILENT_MS) return;
  const { id, phase, index = 0 } = view.get();
  heardAt = performance.now();
  if (!id) { followAgain(); return; }
  const told = await get(`/jobs/${encodeURIComponent(id)}`).catch(() => null);
  const isElsewhere = told && (phase === "running" ? told.state !== "running" || told.step !== index : told.state !== "queued");
  if (isElsewhere) followAgain();
}

setInterval(nudge, 2000);
online.later((isOnline) => { if (isOnline) followAgain(); });
