// The right pane: frame, progress line, status, actions, strip of recent pictures. Every place is there
// from the beginning in its final size, so that nothing moves while a job runs.

import { engine, retry } from "../core/engine.js";
import { news } from "../core/image_news.js";
import { formTab, route } from "../core/route.js";
import { change, form } from "../form/form.js";
import { resultSize } from "../form/size.js";
import { backToEditor, followTabsAndJobs } from "../inpaint/view_toggle.js";
import { job } from "../jobs/job.js";
import { emptyView, isUnderWay } from "../jobs/job_view.js";
import { h } from "../ui/dom.js";
import { countEscape } from "../ui/layers.js";
import { alarm, announce } from "../ui/live.js";
import { offerUndo } from "../ui/undo_bar.js";
import { makeCompare } from "./compare.js";
import { makeImageGrid } from "./image_grid.js";
import { makeRecentStrip } from "./recent_strip.js";
import { shownRecipe } from "./records.js";
import { drawActions } from "./result_actions.js";
import { describe } from "./result_view.js";
import { makeSideNote } from "./side_note.js";

/** Fill the part and follow gradio's value. */
export function result_pane(element, props, watch) {
  let large = null;
  let hiddenIds = new Set();
  const imageGrid = makeImageGrid({
    onopen: (index) => {
      if (shownView().cells.length > 1) enlarge(large === null ? index : null);
    },
  });
  const notice = h("div.notice", {});
  const compare = makeCompare();
  imageGrid.element.append(notice, compare.element);
  const fill = h("div.progress-fill", {});
  const progress = h(
    "div.progress",
    { role: "progressbar", "aria-label": "Progress", "aria-valuemin": "0", "aria-valuemax": "100", hidden: true },
    fill,
  );
  const status = h("p.status", {});
  const sideNote = makeSideNote();
  const actions = h("div.actions", { role: "group", "aria-label": "Actions" });
  const measure = h("div.measure", { "aria-hidden": "true" });
  const recentStrip = makeRecentStrip({ onpick: pick });
  const root = h(
    "section.result-pane",
    { "aria-label": "Result", id: "the-result", tabindex: "-1" },
    measure,
    h("div.space", {}),
    imageGrid.element,
    h("div.status-row", {}, progress, status),
    actions,
    sideNote.element,
    h("div.space", {}),
    recentStrip.element,
  );
  element.replaceChildren(root);

  const leftS = steadyLeft();
  // Asked for only when it changes: asking the browser lays the whole page out.
  let room = new DOMRect();
  function draw() {
    let view = shownView();
    if (large !== null && !view.cells[large]) large = null;
    const said = describe(view, {
      engine: engine.get(),
      retry: retry.get(),
      form: form.get(),
      tab: formTab(),
      large,
      leftS: leftS(view),
    });
    if (said.isBad) view = { ...view, preview: null, behind: null };
    root.dataset.phase = view.phase;
    imageGrid.draw(view, { large, isDim: said.isDim, root, room });
    drawNotice(notice, said);
    compare.draw(beforeOf(view, large));
    progress.hidden = said.progress === null;
    fill.style.setProperty("--done", String(said.progress ?? 0));
    // New nodes, not new text: words that are centered would count as moved.
    if (status.textContent !== said.strong + said.rest)
      status.replaceChildren(h("strong", {}, said.strong), h("span", {}, said.rest));
    progress.setAttribute("aria-valuenow", String(Math.round(100 * (said.progress ?? 0))));
    progress.setAttribute("aria-valuetext", said.strong + said.rest);
    sideNote.draw([said.aside, ...new Set(view.notices ?? [])].filter(Boolean), progress.hidden);
    const back = !job.isActive() && backToEditor();
    drawActions(actions, back ? ["editor", ...said.actions] : said.actions, { view, large, back });
    tellListener(view, said);
  }

  // With nothing under way and nothing to show, the frame takes the shape that the form asks for.
  function shownView() {
    const view = job.view.get();
    // What was deleted has no place any more; what was never made keeps its own, and all do while a job runs.
    const isGone = (cell) => cell && hiddenIds.has(cell.id);
    const cells = job.isActive()
      ? view.cells.map((cell) => (isGone(cell) ? null : cell))
      : view.cells.filter((cell) => !isGone(cell));
    const isBare = view.phase === "idle" && !cells.some(Boolean);
    if (!isBare) return { ...view, cells, count: view.count - (view.cells.length - cells.length) };
    const { width, height } = resultSize(form.get(), formTab());
    const fits = width > 0 && height > 0 && width / height < 8 && height / width < 8;
    return { ...view, ...(fits ? { width, height } : {}), count: 1, cells: [], isEmptyHere: recentStrip.isEmpty() };
  }

  function enlarge(index) {
    const was = large;
    large = index;
    draw();
    imageGrid.focus(index === null ? (was ?? 0) : 0);
  }

  function pick(record) {
    if (job.isActive()) return false;
    showAgain([record]);
    return true;
  }

  // Pictures of one job, as they were when it had finished.
  function showAgain(records) {
    large = null;
    const { width, height, job_id: id } = records[0];
    const count = records.length;
    job.view.set({
      ...emptyView(),
      id,
      count,
      width,
      height,
      recipe: shownRecipe(records[0], count),
      seconds: records.reduce((sum, record) => sum + (record.seconds ?? 0), 0),
      cells: records.map((record) => ({ id: record.id, seed: record.seed, width, height, favorite: record.favorite })),
    });
  }

  imageGrid.element.addEventListener("keydown", (event) => {
    if (large === null) return;
    const last = shownView().cells.length - 1;
    const to = { ArrowRight: Math.min(last, large + 1), ArrowLeft: Math.max(0, large - 1) }[event.key];
    if (event.key === "Escape") {
      event.stopPropagation();
      countEscape();
      enlarge(null);
      return;
    }
    if (to === undefined) return;
    event.preventDefault();
    large = to;
    draw();
  });
  news.later(({ kind, ids, favorite }) => {
    if (kind === "removed") ids.forEach((id) => hiddenIds.add(id));
    if (kind === "restored") ids.forEach((id) => hiddenIds.delete(id));
    if (kind === "changed") markFavorite(ids, favorite);
    draw();
  });
  watch("value", () => job.receive(props.value));
  job.view.later(draw);
  for (const source of [engine, retry]) source.later(draw);
  route.later(draw);
  form.later(() => {
    if (job.view.get().phase === "idle") draw();
  });
  new ResizeObserver(() => {
    room = measure.getBoundingClientRect();
    draw();
  }).observe(measure);
  recentStrip.load().then((records) => {
    const isBare = job.view.get().phase === "idle" && !job.view.get().cells.length;
    if (records.length && isBare) showAgain(records.filter((record) => record.job_id === records[0].job_id).reverse());
    else draw();
  });
  followTabsAndJobs(root);
  job.restore();
  draw();
}

// What one finished picture can be compared with.
function beforeOf({ phase, cells, recipe }, large) {
  const isOne = cells.length === 1 || large !== null;
  const isThere = ["done", "idle"].includes(phase) && cells[large ?? 0];
  return isOne && isThere && recipe?.before ? { sha256: recipe.before, resize: recipe.resize } : null;
}

function markFavorite(ids, favorite) {
  const view = job.view.get();
  job.view.set({
    ...view,
    cells: view.cells.map((cell) => (cell && ids.includes(cell.id) ? { ...cell, favorite } : cell)),
  });
}

function drawNotice(notice, said) {
  const key = JSON.stringify([said.headline, said.lines, said.chips, said.isBad]);
  if (notice.dataset.key === key) return;
  notice.dataset.key = key;
  notice.classList.toggle("bad", said.isBad);
  notice.hidden = !said.headline && !said.lines.length && !said.chips.length;
  const chips = said.chips.map((text) =>
    h(
      "button.chip",
      {
        type: "button",
        onclick: () => {
          const before = form.get();
          change({ prompt: text });
          offerUndo("The example is in the prompt.", () => form.set(before));
        },
      },
      text,
    ),
  );
  const words = h(
    "div.said",
    {},
    said.headline && h("h2.headline", {}, said.headline),
    ...said.lines.map((line) => h("p.line", {}, line)),
  );
  notice.replaceChildren(
    ...[words, chips.length > 0 && h("div.chips", { role: "group", "aria-label": "Examples" }, ...chips)].filter(
      Boolean,
    ),
  );
}

// What is left changes at most once a second.
function steadyLeft() {
  let shown = null;
  let at = 0;
  let job = null;
  return (view) => {
    const now = performance.now();
    if (view.id !== job) {
      job = view.id;
      shown = null;
    }
    if (view.left_s === null || view.left_s === undefined || view.phase !== "running") {
      shown = null;
      return null;
    }
    if (shown === null || now - at >= 1000) {
      shown = view.left_s;
      at = now;
    }
    return shown;
  };
}

let heard = "";

// A screen reader hears changes of state and every quarter of the way, not four steps a second.
function tellListener(view, said) {
  const quarter = view.phase === "running" ? Math.floor(4 * (said.progress ?? 0)) : 0;
  const key = `${view.id}/${view.phase}/${quarter}/${said.isOffline}`;
  if (key === heard || view.phase === "idle") return;
  heard = key;
  if (said.isBad) alarm(`${said.headline}. ${said.lines.join(" ")}`);
  else announce([`${said.strong}${said.rest}`, ...(isUnderWay(view) ? [] : (view.notices ?? []))].join(". "));
}
