// The row under the status line: what can be done now. Names come from result/result_view.js.

import { post, Refused } from "../core/api.js";
import { watchEngine } from "../core/engine.js";
import { say } from "../core/toast.js";
import { change, form } from "../form/form.js";
import { showView } from "../inpaint/view_toggle.js";
import { job } from "../jobs/job.js";
import { generate } from "../sections/generate_bar.js";
import { button, focusedWithin, h } from "../ui/dom.js";
import { announce } from "../ui/live.js";
import { download, favorite, remove, useSettings } from "./image_actions.js";
import { openSendMenu, upscaleSaved } from "./send_to.js";

/**
 * @param {{view: any, large: number|null, back: string}} shown back: words that lead to the tab's canvas, or empty
 * @returns {Object<string, () => HTMLElement|null>} a maker for each name
 */
function makers({ view, large, back }) {
  const saved = large === null ? view.cells.filter(Boolean) : [view.cells[large]];
  const ids = saved.map((cell) => cell.id);
  const isFavorite = saved.length > 0 && saved.every((cell) => cell.favorite);
  const single = saved.length === 1 ? saved[0] : null;
  const fix = view.fix?.width && view.fix?.height ? view.fix : null;
  const careful = (act) => async () => {
    try {
      await act();
    } catch (problem) {
      say(problem);
    }
  };
  return {
    editor: () => button({ label: back, icon: "left", kind: "outlined", onclick: () => showView("editor") }),
    cancel: () =>
      button({ label: "Cancel", icon: "close", keys: "Esc", kind: "outlined", onclick: () => job.cancel() }),
    use: () =>
      button({
        label: "Use settings",
        icon: "use",
        onclick: () => useSettings(saved[0], large === null ? view.count : 1),
      }),
    upscale: () => single && button({ label: "Upscale", icon: "larger", onclick: () => upscaleSaved(single.id) }),
    send: () => single && sendButton(single.id),
    favorite: () =>
      button({
        label: "Favorite",
        icon: isFavorite ? "starred" : "star",
        pressed: isFavorite,
        kind: "plain.lean",
        onclick: () => favorite(ids, !isFavorite),
      }),
    download: () => button({ label: "Download", icon: "download", kind: "plain.lean", onclick: () => download(ids) }),
    delete: () => button({ label: "Delete", icon: "trash", kind: "plain.lean", onclick: () => remove(ids) }),
    again: () =>
      (view.recipe?.model || view.id) &&
      button({
        label: view.phase === "failed" ? "Try again" : "Run again",
        icon: "again",
        kind: "outlined",
        onclick: careful(() => (view.recipe?.model ? job.rerun() : job.rerunById())),
      }),
    missing: () => button({ label: missingWords(view), icon: "again", onclick: careful(tryMissing) }),
    save: () =>
      button({
        label: "Try again",
        icon: "again",
        kind: "outlined",
        onclick: careful(async () => {
          if (await saveKept(view.id)) job.attach(view.id);
          else if (view.cells.some(Boolean)) await tryMissing();
          else await (view.recipe?.model ? job.rerun() : job.rerunById());
        }),
      }),
    keep: () =>
      button({ label: "Keep this preview", icon: "download", kind: "outlined", onclick: () => keepPreview(view) }),
    copy: () => button({ label: "Copy details", icon: "copy", kind: "outlined", onclick: () => copyDetails(view) }),
    fix: () =>
      fix &&
      button({
        label: `Use ${fix.width} × ${fix.height}`,
        kind: "outlined.suggested",
        onclick: () => {
          change({
            preset: "custom",
            "init_image.follow": false,
            width: String(fix.width),
            height: String(fix.height),
          });
          generate();
        },
      }),
    reconnect: () => button({ label: "Try now", icon: "again", kind: "outlined", onclick: watchEngine }),
  };
}

/** Draw the row anew if it says something else than before. */
export function drawActions(row, names, shown) {
  const saved = shown.view.cells.filter(Boolean);
  const key = JSON.stringify([
    names,
    shown.back,
    shown.view.id,
    shown.large,
    saved.map((cell) => [cell.id, cell.favorite]),
    shown.view.fix,
  ]);
  if (row.dataset.key === key) return;
  const focused = focusedWithin(row)?.dataset.action;
  row.dataset.key = key;
  const make = makers(shown);
  const buttons = [];
  for (const name of names) {
    const made = make[name]?.();
    if (!made) continue;
    made.dataset.action = name;
    if (name === "favorite" && buttons.length) buttons.push(h("span.parting", { "aria-hidden": "true" }));
    buttons.push(made);
  }
  row.replaceChildren(...buttons);
  if (focused) (row.querySelector(`[data-action=${focused}]`) ?? row.querySelector("button"))?.focus();
}

function sendButton(id) {
  const made = button({ label: "Send to", icon: "send", onclick: () => openSendMenu(made, id) });
  made.setAttribute("aria-haspopup", "menu");
  return made;
}

const missingWords = (view) => {
  const missing = view.count - view.cells.filter(Boolean).length;
  return missing === 1 ? "Try the missing one" : `Try the missing ${missing}`;
};

// Pictures are made in order, so those that are missing stand together; each has the job's seed plus its number, which
// is its place among all of the job: deleted ones count.
function tryMissing() {
  const { cells, recipe } = job.view.get();
  const first = cells.indexOf(null);
  const seed = (BigInt(recipe.seed) + BigInt(first)) % (1n << 64n);
  return job.rerun({ count: cells.lastIndexOf(null) - first + 1, seed: String(seed) });
}

/** Save what a full disk refused. @returns {Promise<boolean>} whether it was still kept in memory */
async function saveKept(id) {
  try {
    await post(`/jobs/${encodeURIComponent(id)}/retry_save`);
    return true;
  } catch (problem) {
    if (problem instanceof Refused && problem.code === "not_found") return false;
    throw problem;
  }
}

function keepPreview(view) {
  const link = h("a", { href: view.preview.url, download: `darkroom-preview-${view.recipe.seed}.jpg` });
  document.body.append(link);
  link.click();
  link.remove();
}

async function copyDetails(view) {
  const { code, message, hint, id, index, total, recipe, attempt } = view;
  const text = JSON.stringify(
    { code, message, hint, job: id, step: index, total, attempt, recipe, form: recipe ? undefined : form.get() },
    null,
    2,
  );
  try {
    await navigator.clipboard.writeText(text);
    announce("Copied.");
  } catch {
    say(
      new Refused(
        {
          code: "clipboard",
          message: "The browser did not allow copying.",
          hint: "The log under the engine pill says more.",
        },
        0,
      ),
    );
  }
}
