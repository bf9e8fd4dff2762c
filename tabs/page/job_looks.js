// Questions about jobs that the event does not answer: what is unfinished, and whether we missed something.

import { get } from "./api.js";
import { windowName } from "./store.js";

const SHOWN = new Set(["paint", "upscale"]);
const LOOK_MS = 2500;
const MOST_LOOKS = 3;

let looks = 0;

/** This window's unfinished jobs, oldest first; of those that make pictures, since others are shown where they were asked for. */
export async function unfinishedHere() {
  const { jobs } = await get(`/jobs?window=${windowName}`).catch(() => ({ jobs: [] }));
  return jobs.filter((one) => SHOWN.has(one.type));
}

/**
 * Whether this person has anything running or waiting: told after a while, since a window that has just been closed
 * counts as following for some seconds. Asked for some times only.
 */
export async function isLeftBehind() {
  if (looks >= MOST_LOOKS) return false;
  looks += 1;
  const { rows } = await get("/queue").catch(() => ({ rows: [] }));
  const isThere = rows.some((row) => row.mine && SHOWN.has(row.type) && (row.state === "running" || row.state === "queued"));
  if (isThere) await new Promise((resolve) => { setTimeout(resolve, LOOK_MS); });
  return isThere;
}

/** Whether the job is elsewhere than the view says; one that was never heard of counts as such. */
export async function isBehind({ id, phase, index = 0 }) {
  if (!id) return true;
  const told = await get(`/jobs/${encodeURIComponent(id)}`).catch(() => null);
  return Boolean(told) && (phase === "running" ? told.state !== "running" || told.step !== index : told.state !== "queued");
}
