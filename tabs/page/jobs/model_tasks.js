// Downloads, conversions and merges of this person: how one begins, and how far all are, asked while any is under way.

import { get, post } from "../core/api.js";
import { watchEngine } from "../core/engine.js";
import { observable } from "../core/store.js";
import { bytesOf, leftWords } from "../core/words.js";

const LOOK_MS = 1000;
const TYPES = new Set(["download", "convert", "merge"]);

/** Rows of GET /api/v1/queue: what runs, waits, and has ended today. */
export const modelTasks = observable(/** @type {any[]} */ ([]));

/** Raised when one has ended: lists of models are old then. */
export const tasksEnded = observable(0);

/** Whether a row of the queue is one. */
export const isModelTask = (row) => TYPES.has(row.type);

/** Whether it runs or waits. */
export const isActive = (row) => row.state === "running" || row.state === "queued";

let timer = 0;
/** Those begun here that were not seen to end. @type {Set<string>} */
const open = new Set();

/** Ask now, and again while something is under way. */
export async function refreshModelTasks() {
  clearTimeout(timer);
  const answer = await get("/queue").catch(() => null);
  if (answer) {
    const rows = answer.rows.filter((row) => row.mine && isModelTask(row));
    modelTasks.set(rows);
    const ended = rows.filter((row) => !isActive(row) && open.delete(row.job_id));
    for (const row of rows.filter(isActive)) open.add(row.job_id);
    if (ended.length) tasksEnded.set(tasksEnded.get() + 1);
  }
  if (modelTasks.get().some(isActive)) timer = window.setTimeout(refreshModelTasks, LOOK_MS);
}

/**
 * Begin one; raises what the server refuses.
 * @param {"download"|"convert"|"merge"} type
 * @param {any} body
 */
export async function begin(type, body) {
  const { id } = await post(`/jobs/${type}`, body);
  open.add(id);
  refreshModelTasks();
  watchEngine();
  return id;
}

/** "2.1 of 6.9 GB · 4 min left". */
export function progressWords(row) {
  if (row.state === "queued") return row.position ? "Waiting for another one" : "Waiting";
  let part = row.progress ? `${Math.round(100 * row.progress)}%` : "Beginning";
  if (row.total_bytes) part = bytesOf(row.done_bytes ?? 0, row.total_bytes);
  return [part, leftWords(row.left_s)].filter(Boolean).join(" · ");
}
