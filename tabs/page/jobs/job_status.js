// Questions about jobs that the event does not answer: what is unfinished, and whether we missed something.

import { get } from "../core/api.js";
import { windowName } from "../core/store.js";

const SHOWN = new Set(["generate", "upscale"]);
const LOOK_MS = 2500;
const MOST_LOOKS = 3;

let looks = 0;

/**
 * A window's unfinished jobs, oldest first; of those that make pictures, since others are shown where they were asked
 * for.
 */
export async function unfinishedOf(name) {
  const { jobs } = await get(`/jobs?session=${name}`);
  return jobs.filter((one) => SHOWN.has(one.type));
}

/** This window's, or none where nobody can be asked. */
export const unfinishedHere = () => unfinishedOf(windowName).catch(() => []);

/**
 * Whether this person has anything running or waiting: told after a while, since a window that has just been closed
 * counts as following for some seconds. Asked for some times only.
 */
export async function hasUnfollowedJobs() {
  if (looks >= MOST_LOOKS) return false;
  looks += 1;
  const { rows } = await get("/queue").catch(() => ({ rows: [] }));
  const hasJobs = rows.some(
    (row) => row.mine && SHOWN.has(row.type) && (row.state === "running" || row.state === "queued"),
  );
  if (hasJobs)
    await new Promise((resolve) => {
      setTimeout(resolve, LOOK_MS);
    });
  return hasJobs;
}

/** Whether a status of GET /jobs/{id} says what the view says already. */
export const isSame = ({ state, step }, { phase, index = 0 }) =>
  phase === "running" ? state === "running" && step === index : phase === "queued" && state === "queued";

/** A status of GET /jobs/{id} as a message of the event, but for the preview. */
export async function messageOf(status) {
  const { recipe } = status;
  const pictures = await Promise.all(
    status.image_ids.map((id) => get(`/images/${encodeURIComponent(id)}/record`).catch(() => null)),
  );
  const saved = pictures.flatMap((one, image) =>
    one
      ? [{ image, id: one.id, width: one.width, height: one.height, seed: one.seed ?? "", favorite: one.favorite }]
      : [],
  );
  const shown = recipe
    ? { ...recipe, model: recipe.model.name, seed: status.seed }
    : { prompt: status.title, count: 1 };
  const isRunning = status.state === "running";
  return {
    type: "job",
    job: status.id,
    state: status.state,
    recipe: shown,
    saved,
    notices: status.notices ?? [],
    position: status.position,
    ...(isRunning ? { image: status.image, index: status.step, total: status.total_steps, left_s: status.left_s } : {}),
    ...(status.error ?? {}),
  };
}
