// What the result pane knows of a job, as plain values: before the first message, and folded from messages.

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
export function merge(now, message) {
  const isSame = now.id === message.job;
  const { count } = message.recipe;
  const cells = isSame && now.cells.length === count ? [...now.cells] : Array(count).fill(null);
  for (const saved of message.saved) cells[saved.image] ??= saved;
  const earlier = isSame ? now.preview : null;
  const preview = message.preview ? { image: message.image, url: message.preview } : earlier;
  const made = cells.find(Boolean);
  // A recipe tells the size of its result; a task that is none can't: what it has made does.
  const { width, height } = message.recipe.width ? message.recipe : (made ?? now);
  return {
    ...message,
    phase: message.state,
    id: message.job,
    count,
    width,
    height,
    cells,
    preview,
    behind: preview || made ? null : now.behind,
  };
}
