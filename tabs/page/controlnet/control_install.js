// A preprocessor that is not installed: how large its files are, and for the owner of the machine a way to get them.

import { sentenceOf } from "../core/api.js";
import { preprocessors } from "../form/parts_list.js";
import { begin, tasksEnded, modelTasks, isActive, refreshModelTasks, progressWords } from "../jobs/model_tasks.js";
import { button, h, setText } from "../ui/dom.js";

/** @returns {{element: HTMLElement, draw: (facts: any) => void}} */
export function makeInstall() {
  const words = h("p.hint", { role: "status" });
  const get = button({ label: "Download", icon: "download", kind: "outlined", onclick: start });
  const element = h("div.install", { hidden: true }, words, get);
  let facts = null;
  let said = "";

  async function start() {
    said = "";
    try {
      for (const download of facts.downloads) await begin("download", download);
    } catch (refused) {
      said = sentenceOf(refused);
    }
    draw(facts);
  }

  function draw(now) {
    facts = now;
    element.hidden = !facts || facts.installed;
    if (element.hidden) return;
    const titles = facts.downloads.map(titleOf);
    const rows = modelTasks.get().filter((row) => titles.includes(row.prompt));
    const active = rows.filter(isActive);
    const failed = rows.find((row) => row.state === "failed" && !active.length);
    get.hidden = !facts.downloads.length || active.length > 0;
    setText(words, wordsFor(active[0], failed));
  }

  function wordsFor(active, failed) {
    if (active) return progressWords(active);
    if (said) return said;
    if (failed) return `${failed.message} ${failed.hint ?? ""}`.trim();
    if (facts.downloads.length) return `Not installed · ${facts.megabytes.toLocaleString()} MB`;
    return `Not installed. ${facts.hint}`;
  }

  modelTasks.later(() => draw(facts));
  tasksEnded.later(() => preprocessors.refresh(true));
  refreshModelTasks();
  return { element, draw };
}

const titleOf = ({ name, files }) => `Download ${name ?? files[0].split("/").pop()}`;
