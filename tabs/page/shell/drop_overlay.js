// A picture dropped or pasted where no field takes it: the frame offers what can be done with it, in two halves.

import { Refused, request, Unreachable } from "../core/api.js";
import { formTab } from "../core/route.js";
import { say } from "../core/toast.js";
import { isText, takenFrom } from "../core/transfer.js";
import { needReadable, upload, uploadSaved } from "../core/uploads.js";
import { fillForm } from "../form/recipe_fill.js";
import { useSettings } from "../result/image_actions.js";
import { startFrom } from "../result/send_to.js";
import { allWithin, h, targetOf } from "../ui/dom.js";
import { draggedKind, MARK } from "../ui/drag.js";
import { closeLayer, openLayer } from "../ui/layers.js";
import { announce } from "../ui/live.js";
import { textFieldOf } from "../ui/text_fields.js";
import { offerUndo } from "../ui/undo_bar.js";

/** What is meant: a file, or the id of one of our pictures. @typedef {{file?: File, id?: string}} Given */

/** @type {Given} */
let given = {};

const half = (act, title, line) =>
  h(
    "button.half",
    {
      type: "button",
      "data-act": act,
      onclick: () => {
        closeLayer();
        choose(act, given);
      },
    },
    h("strong", {}, title),
    h("span", {}, line),
  );
const overlay = h(
  "dialog.drop-overlay",
  { "aria-label": "What to do with the picture" },
  half("read", "Read its recipe", "What it was made with fills the form."),
  half("start", "Start from it", "It becomes the start picture."),
);

/** Listen on the whole page. Whatever is dropped, the page stays: a browser would open it in its place. */
export function listenForPictures(parent) {
  parent.append(overlay);
  const root = document.documentElement;
  const isTaken = (event) => event.target.closest?.(`[${MARK}]`);
  // A selection that is moved within the page, by a slip of the hand, is nothing to speak of.
  let isFromHere = false;
  let leaving = 0;
  const leave = () => {
    clearTimeout(leaving);
    overlay.close();
    root.classList.remove("dragging");
  };
  addEventListener("dragstart", () => {
    isFromHere = true;
  });
  for (const kind of ["dragenter", "dragover", "drop"]) {
    addEventListener(
      kind,
      (/** @type {any} */ event) => {
        if (!isForField(event)) event.preventDefault();
      },
      { capture: true },
    );
  }
  addEventListener("dragover", (event) => {
    clearTimeout(leaving);
    root.classList.add("dragging");
    if (!draggedKind(event)) return;
    place();
    if (!overlay.open) overlay.show();
    for (const one of overlay.children) one.classList.toggle("over", one.contains(/** @type {Node} */ (event.target)));
  });
  // There is no event for "it left the window" but this, which also tells of every border inside.
  addEventListener("dragleave", () => {
    clearTimeout(leaving);
    leaving = window.setTimeout(leave, 80);
  });
  addEventListener("dragend", () => {
    isFromHere = false;
    leave();
  });
  addEventListener("drop", (event) => {
    const act = targetOf(event, ".half")?.dataset.act;
    const isOwn = isFromHere;
    isFromHere = false;
    leave();
    if (isTaken(event) || isForField(event)) return;
    const {
      id,
      files: [file],
      problem,
    } = takenFrom(event.dataTransfer);
    if (id || file) offer(id ? { id } : { file }, act);
    else if (!isOwn) refuse(problem);
  });
  addEventListener("paste", (event) => {
    const transfer = event.clipboardData;
    // Office programs and browsers put a picture of a text beside it.
    if (!transfer?.files.length || (textFieldOf(event.target) && transfer.getData("text/plain").trim())) return;
    event.preventDefault();
    const {
      files: [file],
      problem,
    } = takenFrom(transfer);
    if (file) offer({ file });
    else refuse(problem);
  });
}

// What a browser does well by itself: text into a text field, files into a file field.
function isForField({ target, dataTransfer }) {
  if (target instanceof HTMLInputElement && target.type === "file") return true;
  return Boolean(textFieldOf(target)) && isText(dataTransfer);
}

function refuse(problem) {
  offerUndo(problem, null);
  announce(problem);
}

// Over the frame, so that fields beside it can still be dropped on; over everything where there is no frame.
function place() {
  const box = document.querySelector("#result")?.getBoundingClientRect();
  const isSeen = box && box.width > 0;
  overlay.style.cssText = isSeen
    ? `left:${box.left}px;top:${box.top}px;width:${box.width}px;height:${Math.min(box.height, innerHeight - box.top)}px`
    : "";
}

/** Do what was chosen by the place of the drop; else ask. @param {Given} what */
/** @param {Given} what @param {string} [act] */
function offer(what, act) {
  given = what;
  if (act) {
    choose(act, what);
    return;
  }
  place();
  openLayer(overlay, { focus: allWithin(overlay, ".half")[0] });
}

/** @param {string} act @param {Given} given */
function choose(act, { file, id }) {
  if (act === "start") startFrom(formTab(), () => (id ? uploadSaved(id) : upload(/** @type {File} */ (file))));
  else if (id) useSaved(id);
  else readRecipe(file);
}

async function useSaved(id) {
  try {
    const record = await request("GET", `/images/${encodeURIComponent(id)}/record`);
    await useSettings(record);
  } catch (problem) {
    say(problem);
  }
}

/** Ask the server what a picture was made with, and fill the form with it. */
export async function readRecipe(file) {
  announce("Reading the picture.");
  try {
    await needReadable(file, file.name);
    const found = await request(
      "POST",
      "/recipes/read",
      new Blob([file], { type: file.type || "application/octet-stream" }),
    );
    if (!found.draft) {
      offerUndo(`${file.name} has no recipe inside.`, null);
      return;
    }
    const more = found.unknown.length > 4 ? " and more" : "";
    const left = found.unknown.length ? ` Not used: ${found.unknown.slice(0, 4).join(", ")}${more}.` : "";
    const notes = found.notices.length ? ` ${found.notices.join(" ")}` : "";
    await fillForm(found.draft, { words: `Settings of ${file.name} are in the form.${left}${notes}` });
  } catch (problem) {
    if (problem instanceof Refused) offerUndo(`${file.name}: ${problem.message} ${problem.hint}`.trim(), null);
    else if (!(problem instanceof Unreachable)) say(problem);
  }
}
