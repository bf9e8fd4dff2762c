// The frame: one picture, or a contact sheet of n whose cells are all there from the first moment.

import { pictureUrl } from "../core/api.js";
import { awaitPicture, stopAwaiting } from "../core/missing_images.js";
import { cut } from "../core/words.js";
import { h, setText } from "../ui/dom.js";
import { makeDraggable } from "../ui/drag.js";
import { rove, settleTabStop } from "../ui/roving.js";

const GAP = 10;
/** A picture of few pixels is not blown up beyond what still looks painted. */
export const MOST_ENLARGED = 6;

/**
 * Columns for the largest cell.
 * @param {number} count
 * @param {number} ratio width / height of a cell
 */
function bestColumns(count, ratio, width, height) {
  let best = 1;
  let widest = 0;
  for (let columns = 1; columns <= count; columns += 1) {
    const rows = Math.ceil(count / columns);
    const cell = Math.min((width - GAP * (columns - 1)) / columns, ((height - GAP * (rows - 1)) / rows) * ratio);
    if (cell > widest + 0.5) {
      widest = cell;
      best = columns;
    }
  }
  return best;
}

/** @param {{onopen: (index: number) => void}} handlers */
export function makeImageGrid({ onopen }) {
  const behind = h("img.behind", { alt: "", hidden: true, decoding: "async" });
  const grid = h("div.image-grid", {});
  const element = h("div.frame", {}, behind, grid);
  /** @type {ReturnType<typeof makeCell>[]} */
  let cells = [];
  rove(grid, ".cell", { twoWay: true });

  return {
    element,
    /**
     * @param {any} view as in jobs/job.js
     * @param {{large: number|null, isDim: boolean, root: HTMLElement, room: DOMRect}} how
     *   root: carries the grid's numbers
     */
    draw(view, { large, isDim, root, room }) {
      const shown = large === null ? Math.max(1, view.cells.length) : 1;
      if (cells.length !== shown) {
        cells = Array.from({ length: shown }, (_, index) => makeCell(() => onopen(index)));
        grid.replaceChildren(...cells.map((cell) => cell.element));
        settleTabStop(cells.map((cell) => cell.element));
      }
      const ratio = view.width && view.height ? view.width / view.height : 1;
      const columns = bestColumns(shown, ratio, room.width, room.height);
      const rows = Math.ceil(shown / columns);
      const most = view.width ? `${view.width * MOST_ENLARGED}px` : "100cqw";
      for (const [name, value] of Object.entries({ columns, rows, ratio, most }))
        root.style.setProperty(`--${name}`, String(value));
      element.dataset.count = String(shown);
      const url = view.behind && (view.behind.url ?? pictureUrl(view.behind.id));
      behind.hidden = !url;
      if (url && behind.getAttribute("src") !== url) behind.setAttribute("src", url);
      element.classList.toggle("dim", isDim);
      cells.forEach((cell, position) => {
        const index = large ?? position;
        cell.draw({ picture: view.cells[index], view, index, isOnly: shown === 1, isLarge: large !== null });
      });
    },
    /** Put the focus on a cell, as after Esc from the large view. */
    focus(index) {
      cells[index]?.element.focus();
    },
  };
}

function makeCell(onopen) {
  const preview = h("img.preview", { alt: "", hidden: true });
  const picture = h("img.picture", { alt: "", decoding: "async" });
  const words = h("span.cell-words", {});
  const seed = h("span.seed", {});
  /** @type {string} */
  let shownId = "";
  const element = h(
    "button.cell",
    {
      type: "button",
      onclick: () => {
        if (picture.src) onopen();
      },
    },
    preview,
    picture,
    words,
    seed,
  );
  makeDraggable(element, () => shownId);
  let wanted = "";

  // Decoded before it is shown, so that nothing blinks; an older one that comes late is dropped.
  async function showPreview(url) {
    if (!url || preview.dataset.wanted === url) return;
    preview.dataset.wanted = url;
    const next = new Image();
    next.src = url;
    await next.decode().catch(() => null);
    if (preview.dataset.wanted !== url) return;
    preview.src = url;
    preview.hidden = false;
  }

  async function showPicture(id) {
    if (wanted === id) return;
    wanted = id;
    picture.classList.remove("shown");
    element.classList.remove("broken");
    stopAwaiting(element);
    if (!id) {
      picture.removeAttribute("src");
      return;
    }
    const next = new Image();
    next.src = pictureUrl(id);
    const isThere = await next.decode().then(
      () => true,
      () => false,
    );
    if (wanted !== id) return;
    element.classList.toggle("broken", !isThere);
    if (!isThere) {
      setText(words, "File missing");
      awaitPicture(element, id, () => {
        wanted = "";
        setText(words, "");
        showPicture(id);
      });
      return;
    }
    picture.src = next.src;
    picture.classList.add("shown");
  }

  return {
    element,
    draw({ picture: saved, view, index, isOnly, isLarge }) {
      const isActive = view.preview?.image === index && !saved;
      if (isActive) showPreview(view.preview.url);
      else if (!saved) {
        preview.hidden = true;
        preview.dataset.wanted = "";
      }
      shownId = saved?.id ?? "";
      showPicture(shownId);
      const prompt = cut(view.recipe?.prompt ?? "", 120);
      picture.alt = saved ? `Generated: ${prompt}` : "";
      setText(seed, saved && !isOnly ? saved.seed : "");
      const isDone = !["sending", "queued", "loading", "running"].includes(view.phase);
      if (!element.classList.contains("broken")) setText(words, wordsOf({ saved, isOnly, isActive, isDone, view }));
      const title = isOnly && !isLarge ? "Picture" : `Picture ${index + 1}`;
      const missing = `Picture ${index + 1}: ${words.textContent || "developing"}`;
      element.setAttribute("aria-label", saved ? `${title}, seed ${saved.seed}` : missing);
      element.disabled = !saved;
    },
  };
}

function wordsOf({ saved, isOnly, isActive, isDone, view }) {
  if (saved || isOnly || isActive) return "";
  if (!isDone) return "waiting";
  if (view.phase === "cancelled" || !view.message) return "Not made";
  return `Not made: ${view.message.split(".")[0].toLowerCase()}`;
}
