// Queue n in the header, and the drawer behind it: now, waiting, finished today.

import { get, post, thumbnailUrl } from "../core/api.js";
import { engine } from "../core/engine.js";
import { news } from "../core/image_news.js";
import { go } from "../core/route.js";
import { say } from "../core/toast.js";
import { duration, left, leftWords } from "../core/words.js";
import { job } from "../jobs/job.js";
import { isModelTask, progressWords } from "../jobs/model_tasks.js";
import { allWithin, button, h, icon, setText } from "../ui/dom.js";
import { closeLayer, openLayer } from "../ui/layers.js";

const PUSHES_FROM = 1280;
const LOOK_MS = 2000;
const TOGETHER_MS = 60;

/** Make the button; the drawer goes into the element beside it. */
export function placeQueue(element) {
  const count = h("b", {}, "0");
  const opener = h(
    "button.pill.queue-button",
    { type: "button", "aria-expanded": "false", "aria-haspopup": "dialog", onclick: toggle },
    icon("queue"),
    h("span.pill-words", {}, "Queue"),
    count,
  );
  const body = h("div.drawer-body", {});
  const allMine = button({ label: "Cancel all mine", onclick: cancelAll });
  const drawer = h(
    "dialog.drawer",
    { "aria-label": "Queue" },
    h(
      "div.drawer-head",
      {},
      h("h2", {}, "Queue"),
      allMine,
      button({ label: "Close the queue", icon: "close", words: false, onclick: closeLayer }),
    ),
    body,
  );
  element.append(drawer);
  let rows = [];
  let timer = 0;

  async function look() {
    clearTimeout(timer);
    const answer = await get("/queue").catch(() => null);
    if (answer) rows = answer.rows;
    const active = rows.filter((row) => row.state === "running" || row.state === "queued").length;
    setText(count, String(active));
    opener.setAttribute("aria-label", `Queue, ${active}`);
    if (drawer.open) {
      draw();
      timer = window.setTimeout(look, LOOK_MS);
    }
  }

  function toggle() {
    if (drawer.open) {
      closeLayer();
      return;
    }
    const pushes = innerWidth >= PUSHES_FROM;
    openLayer(drawer, {
      modal: !pushes,
      opener,
      onclose: () => document.documentElement.classList.remove("pushed"),
      focus: allWithin(drawer, "button[aria-label]")[0],
    });
    document.documentElement.classList.toggle("pushed", pushes);
    draw();
    look();
  }

  function draw() {
    const now = rows.filter((row) => row.state === "running");
    const waiting = rows.filter((row) => row.state === "queued");
    const finished = rows.filter((row) => row.state !== "running" && row.state !== "queued");
    const key = JSON.stringify([rows, job.view.get().index]);
    if (body.dataset.key === key) return;
    body.dataset.key = key;
    allMine.hidden = !rows.some(isMineActive);
    const parts = [];
    const section = (title, members, make) => {
      if (members.length) parts.push(h("h3", {}, title), h("ul", {}, ...members.map(make)));
    };
    if (!now.length && !waiting.length) parts.push(h("p.none", {}, "Nothing is waiting."));
    section("Now", now, nowRow);
    section("Waiting", waiting, (row, index) => waitingRow(row, index, waiting));
    section("Finished today", finished, finishedRow);
    body.replaceChildren(...parts);
  }

  async function cancelAll() {
    await Promise.all(rows.filter(isMineActive).map((row) => job.cancel(row.job_id)));
    look();
  }

  function act(work) {
    return async () => {
      try {
        await work();
      } catch (problem) {
        say(problem);
      }
      look();
    };
  }

  function nowRow(row) {
    if (isModelTask(row)) return taskRow(row);
    const view = job.view.get();
    const isHere = row.job_id === view.id;
    if (!isHere || view.phase !== "running") {
      return item({
        thumb: h("span.thumb", {}, "…"),
        row,
        line: row.mine ? "Working" : about(row),
        aside: row.mine && cancelButton(row),
      });
    }
    const done = (view.image * view.total + view.index) / (view.count * view.total);
    const thumb = h("span.thumb", {}, view.preview ? h("img", { src: view.preview.url, alt: "" }) : "…");
    const made = item({
      thumb,
      row,
      line: [`Step ${view.index} of ${view.total}`, leftWords(view.left_s)].filter(Boolean).join(" · "),
      aside: cancelButton(row),
    });
    made
      .querySelector(".queue-words")
      ?.append(h("span.queue-progress", { "aria-hidden": "true", style: `--done:${done}` }));
    return made;
  }

  function taskRow(row) {
    const made = item({
      thumb: h("span.thumb", {}, icon(row.type === "download" ? "download" : "file")),
      row,
      line: progressWords(row),
      aside: cancelButton(row),
    });
    made
      .querySelector(".queue-words")
      ?.append(h("span.queue-progress", { "aria-hidden": "true", style: `--done:${row.progress}` }));
    return made;
  }

  function waitingRow(row, index, waiting) {
    const starts = row.starts_in_s === null ? "Waiting" : `Starts in about ${left(row.starts_in_s)}`;
    const isBehindOwn = row.mine && waiting.slice(0, index).some((other) => other.mine);
    const up =
      isBehindOwn &&
      button({
        label: "Move up",
        icon: "up",
        words: false,
        quick: true,
        onclick: act(() => post(`/jobs/${encodeURIComponent(row.job_id)}/move_up`)),
      });
    return item({
      thumb: h("span.thumb", {}, String(index + 1)),
      row,
      line: row.mine ? starts : about(row),
      aside: row.mine && h("span.asides", {}, up, cancelButton(row)),
    });
  }

  function finishedRow(row) {
    const id = row.image_ids?.[0];
    const isGood = row.state === "done";
    const words = { failed: "Failed", cancelled: "Cancelled", interrupted: "Interrupted" }[row.state];
    const took = row.seconds ? duration(row.seconds) : "Done";
    const open =
      id &&
      button({
        label: "Open in the gallery",
        icon: "go",
        words: false,
        onclick: () => {
          closeLayer();
          go("gallery", id);
        },
      });
    const mark = isGood ? "" : "!";
    const thumb = h("span.thumb", {}, id ? h("img", { src: thumbnailUrl(id), alt: "", loading: "lazy" }) : mark);
    return item({
      thumb,
      row,
      line: isGood ? took : (row.message ?? words),
      isBad: row.state === "failed" || row.state === "interrupted",
      aside: open,
    });
  }

  const cancelButton = (row) =>
    button({ label: "Cancel this job", icon: "close", words: false, onclick: act(() => job.cancel(row.job_id)) });

  /** Several things that happen at once are one look. */
  function lookSoon() {
    clearTimeout(timer);
    timer = window.setTimeout(look, TOGETHER_MS);
  }

  engine.later(lookSoon);
  news.later(lookSoon);
  job.waiting.later(lookSoon);
  let phase = "";
  job.view.later((view) => {
    if (view.phase !== phase) {
      phase = view.phase;
      lookSoon();
    } else if (drawer.open) draw();
  });
  lookSoon();
  return opener;
}

const isMineActive = (row) => row.mine && row.job_id && (row.state === "running" || row.state === "queued");
const about = (row) => (row.seconds ? `About ${left(row.seconds)}` : "");

function item({ thumb, row, line, aside, isBad = false }) {
  const name = row.mine ? row.prompt || "No prompt" : "Someone else’s job";
  return h(
    "li.queue-row",
    {},
    thumb,
    h("span.queue-words", {}, h("span.queue-name", {}, name), h(isBad ? "span.bad" : "span.hint", {}, line)),
    aside,
  );
}
