// One download, conversion or merge as a line: what it is, how far, and a way to end it.

import { get, request } from "../core/api.js";
import { say } from "../core/toast.js";
import { duration } from "../core/words.js";
import { isActive, refreshModelTasks, progressWords } from "../jobs/model_tasks.js";
import { button, h, icon, setText } from "../ui/dom.js";

const ENDED = { done: "Done", cancelled: "Cancelled", interrupted: "Interrupted", failed: "Failed" };

/** @returns {{element: HTMLElement, draw: (row: any) => void}} */
export function makeTaskRow(first) {
  const name = h("span.model-task-name", {});
  const words = h("span.hint", {});
  const bar = h("span.queue-progress", { "aria-hidden": "true" });
  let notices = null; // null: not asked for yet
  const stop = button({ label: "Cancel", icon: "close", words: false, onclick: () => cancel(first.job_id) });
  const element = h(
    "li.model-task",
    {},
    icon(first.type === "download" ? "download" : "file"),
    h("span.model-task-words", {}, name, words, bar),
    stop,
  );
  return {
    element,
    draw(row) {
      const active = isActive(row);
      setText(name, row.prompt);
      words.className = row.state === "failed" ? "bad" : "hint";
      setText(words, [active ? progressWords(row) : endWords(row), ...(notices ?? [])].join(" "));
      if (!active && notices === null) {
        notices = [];
        get(`/jobs/${encodeURIComponent(row.job_id)}`).then(
          (status) => {
            notices = status.notices;
            this.draw(row);
          },
          () => {},
        );
      }
      stop.hidden = !active;
      bar.hidden = !active || row.state !== "running";
      bar.style.setProperty("--done", String(row.progress));
    },
  };
}

function endWords(row) {
  if (row.message) return `${row.message} ${row.hint ?? ""}`.trim();
  const took = row.state === "done" && row.seconds ? ` in ${duration(row.seconds)}` : "";
  return ENDED[row.state] + took;
}

async function cancel(id) {
  try {
    await request("DELETE", `/jobs/${encodeURIComponent(id)}`);
  } catch (problem) {
    say(problem);
  }
  refreshModelTasks();
}
