// What the result pane knows of a job, as plain values: before it is heard of, and folded from what is heard.

const ACTIVE = new Set(["sending", "queued", "loading", "running"]);

/** Whether a job in this phase is under way. */
export const isUnderWay = ({ phase }) => ACTIVE.has(phase);

/** @returns {any} a view with nothing in it */
export const emptyView = () => ({
  phase: "idle",
  id: null,
  recipe: null,
  count: 1,
  cells: [],
  preview: null,
  behind: null,
});

/** A job that is on its way: so many pictures of this size, over what is shown now. */
export function sendingView({ count, width, height }, now) {
  return {
    ...emptyView(),
    phase: "sending",
    count,
    width,
    height,
    cells: Array(count).fill(null),
    behind: shownUrl(now),
  };
}

/** What the frame shows, to stay behind the next job until its first preview. */
export function shownUrl(view) {
  const cell = view.cells.find(Boolean);
  return cell ? { id: cell.id } : (view.preview && { url: view.preview.url }) || view.behind;
}

/** Fold one message into the view; messages repeat everything but the preview. */
export function merge(now, told) {
  const isSame = now.id === told.job;
  const { count } = told.recipe;
  const cells = isSame && now.cells.length === count ? [...now.cells] : Array(count).fill(null);
  for (const saved of told.saved) cells[saved.image] ??= saved;
  const preview = told.preview ? { image: told.image, url: told.preview } : isSame ? now.preview : null;
  const made = cells.find(Boolean);
  // A recipe tells the size of its result; a task that is none can't: what it has made does.
  const { width, height } = told.recipe.width ? told.recipe : (made ?? now);
  return {
    ...told,
    phase: told.state,
    id: told.job,
    count,
    width,
    height,
    cells,
    preview,
    behind: preview || made ? null : now.behind,
  };
}
