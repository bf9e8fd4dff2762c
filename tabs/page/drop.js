// A picture dropped or pasted anywhere: its recipe is read by the server and fills the form.

import { Refused, request, Unreachable } from "./api.js";
import { h } from "./dom.js";
import { announce } from "./live.js";
import { say } from "./pictures.js";
import { fillForm } from "./recipe_fill.js";
import { offerUndo } from "./undo_bar.js";

const veil = h("div.veil", { hidden: true, "aria-hidden": "true" }, h("div.veil-words", {}, h("strong", {}, "Read its recipe"),
  h("span", {}, "Drop the picture: what it was made with fills the form.")));

/** Listen on the whole page. */
export function listenForPictures(parent) {
  parent.append(veil);
  let depth = 0;
  const carriesFile = (event) => [...event.dataTransfer?.types ?? []].includes("Files");
  const show = (isOn) => { veil.hidden = !isOn; if (!isOn) depth = 0; };
  addEventListener("dragenter", (event) => { if (carriesFile(event)) { depth += 1; show(true); } });
  addEventListener("dragleave", () => { depth -= 1; if (depth <= 0) show(false); });
  addEventListener("dragover", (event) => { if (carriesFile(event)) event.preventDefault(); });
  addEventListener("drop", (event) => {
    show(false);
    if (!carriesFile(event)) return;
    event.preventDefault();
    const file = event.dataTransfer?.files[0];
    if (file) readRecipe(file);
  });
  addEventListener("paste", (event) => {
    const file = [...event.clipboardData?.files ?? []].find((one) => one.type.startsWith("image/"));
    if (file) { event.preventDefault(); readRecipe(file); }
  });
}

/** Ask the server what a picture was made with, and fill the form with it. */
export async function readRecipe(file) {
  announce("Reading the picture.");
  try {
    const found = await request("POST", "/recipes/read", new Blob([file], { type: file.type || "application/octet-stream" }));
    if (!found.draft) { offerUndo(`${file.name} has no recipe inside.`, null); return; }
    const left = found.unknown.length ? ` Not used: ${found.unknown.slice(0, 4).join(", ")}${found.unknown.length > 4 ? " and more" : ""}.` : "";
    const notes = found.notices.length ? ` ${found.notices.join(" ")}` : "";
    await fillForm(found.draft, { words: `Settings of ${file.name} are in the form.${left}${notes}` });
  } catch (problem) {
    if (problem instanceof Refused) offerUndo(`${file.name}: ${problem.message} ${problem.hint}`.trim(), null);
    else if (!(problem instanceof Unreachable)) say(problem);
  }
}
