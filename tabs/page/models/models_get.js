// Get more: downloads under way, a short list of models worth having, and any repository of the hub by name.

import { inWords } from "../core/api.js";
import { familyLabel } from "../core/config.js";
import { bytes } from "../core/words.js";
import { begin, modelTasks, isActive, refreshModelTasks, progressWords } from "../jobs/model_tasks.js";
import { allWithin, button, h, setText } from "../ui/dom.js";
import { KIND } from "./model_card.js";
import { makeRepository } from "./models_repository.js";
import { makeTaskRow } from "./task_row.js";

const SHOWN_ENDED = 5;

/** @param {any} shop what GET /api/v1/catalog said */
export function makeGet(shop) {
  const refusal = h("p.none", { hidden: true });
  const room = h("p.hint", {});
  const list = h("ul.model-tasks", {});
  const under = h("section.models-part", { "aria-label": "Downloads" }, h("h2", {}, "Under way and done today"), list);
  const offers = h("div.offers", {});
  const problem = h("p.problem", { hidden: true, role: "alert" });
  const repository = makeRepository((body) => start(body));
  const all = h(
    "div.models-parts",
    {},
    under,
    h(
      "section.models-part",
      { "aria-label": "Models worth having" },
      h("h2", {}, "Openly available models"),
      h(
        "p.hint",
        {},
        "From huggingface.co, with the license and size of each. Nothing is sent but the name of what is asked for.",
      ),
      room,
      problem,
      offers,
    ),
    repository.element,
  );
  const element = h("div.models-get", {}, refusal, all);
  /** @type {Map<string, ReturnType<typeof makeTaskRow>>} */
  const known = new Map();

  async function start(body) {
    problem.hidden = true;
    try {
      await begin("download", body);
    } catch (refused) {
      const { message, hint = "" } = inWords(refused);
      setText(problem, `${message} ${hint}`.trim());
      problem.hidden = false;
      problem.scrollIntoView({ block: "nearest" });
    }
  }

  function drawShop(found) {
    if (!found.isKnown) return;
    refusal.hidden = found.allowed;
    all.hidden = !found.allowed;
    setText(refusal, found.refusal);
    const free = found.free_bytes === null ? "" : `${bytes(found.free_bytes)} are free.`;
    const where = `They go into ${found.folder}. ${free}`;
    setText(room, found.offline ? "This machine is set to stay offline (HF_HUB_OFFLINE)." : where);
    drawOffers();
  }

  function drawOffers() {
    const found = shop.get().catalog_models;
    const rows = modelTasks.get().filter((row) => row.type === "download" && isActive(row));
    const key = JSON.stringify([found, rows.map((row) => [row.prompt, progressWords(row)])]);
    if (offers.dataset.key === key) return;
    offers.dataset.key = key;
    const focused = /** @type {HTMLElement|null|undefined} */ (document.activeElement?.closest(".offer"))?.dataset.id;
    offers.replaceChildren(
      ...found.map((one) =>
        offer(
          one,
          rows.find((row) => row.prompt === one.queue_title),
        ),
      ),
    );
    if (focused) allWithin(offers, `[data-id="${focused}"] button`)[0]?.focus({ preventScroll: true });
  }

  function offer(one, row) {
    const family = one.family_label || familyLabel(one.family);
    const line = [KIND[one.kind], family, bytes(one.size_bytes)].filter(Boolean).join(" · ");
    const state = one.installed || row ? h("span.hint.offer-state", {}) : downloadButton(one);
    if (one.installed) setText(state, "Here");
    else if (row) setText(state, progressWords(row));
    return h(
      "div.offer",
      { "data-id": one.id },
      h(
        "div.offer-words",
        {},
        h("span.offer-name", {}, one.title),
        h("span", {}, one.about),
        h("span.hint", {}, line),
        h("span.hint", {}, `${one.license}. ${one.terms}`),
        !one.runs && h("span.hint", {}, `Darkroom does not run ${family} yet.`),
        one.gated && h("span.hint", {}, accountWords(one)),
      ),
      state,
    );
  }

  const accountWords = (one) =>
    `Needs an account: accept its license at huggingface.co/${one.download.source}, ` +
    "then start Darkroom with HF_TOKEN set.";

  const downloadButton = (one) =>
    button({
      label: `Download ${one.title}`,
      icon: "download",
      words: false,
      kind: "outlined",
      onclick: () => start(one.download),
    });

  function drawTasks(rows) {
    const active = rows.filter(isActive);
    const shown = [...active, ...rows.filter((row) => !isActive(row)).slice(0, SHOWN_ENDED)];
    under.hidden = !shown.length;
    for (const id of [...known.keys()]) if (!shown.some((row) => row.job_id === id)) known.delete(id);
    list.replaceChildren(
      ...shown.map((row) => {
        const line = known.get(row.job_id) ?? makeTaskRow(row);
        known.set(row.job_id, line);
        line.draw(row);
        return line.element;
      }),
    );
    drawOffers();
  }

  shop.watch(drawShop);
  modelTasks.watch(drawTasks);
  refreshModelTasks();
  return { element };
}
