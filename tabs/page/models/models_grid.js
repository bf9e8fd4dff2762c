// Every model of every kind as cards: search, kinds, and only as many cards in the page as can be seen.

import { get } from "../core/api.js";
import { engine } from "../core/engine.js";
import { learnTitles } from "../core/model_list.js";
import { route } from "../core/route.js";
import { bytes, grouped, some } from "../core/words.js";
import { form } from "../form/form.js";
import { button, focusedWithin, h, icon, setText, targetOf } from "../ui/dom.js";
import { rove, settleTabStop } from "../ui/roving.js";
import { segmented } from "../ui/segmented.js";
import { plainKey } from "../ui/shortcut.js";
import { KIND, KINDS, memoryWords, modelPicture } from "./model_card.js";

const PAGE = 120;
const TYPING_MS = 200;
const MIN_CARD_PX = 180;
const ROW_PX = 236;
const SPARE_ROWS = 2;

/** @param {{onopen: (model: any, card: HTMLElement) => void, onload: () => void}} handlers */
export function makeGrid({ onopen, onload }) {
  const search = h("input", {
    type: "search",
    placeholder: "Search models",
    "aria-label": "Search models",
    autocomplete: "off",
    spellcheck: "false",
  });
  const total = h("p.total", {});
  const kinds = segmented({
    label: "Kind",
    onchoose: (value) => {
      kind = value;
      reload();
    },
  });
  kinds.element.classList.add("chips");
  const cards = h("div.cards", { role: "group", "aria-label": "Models" });
  const none = h("p.none", { hidden: true });
  const element = h(
    "div.models-list",
    {},
    h("div.toolbar", {}, h("div.search", {}, icon("search"), search), total),
    kinds.element,
    cards,
    none,
  );
  rove(cards, ".card", { twoWay: true });
  let kind = "";
  let asked = 0;
  let count = 0;
  let problem = "";
  /** @type {any[]} what is known of the list, by place */
  let rows = [];
  /** @type {Set<number>} */
  let pages = new Set();

  let typing = 0;
  search.addEventListener("input", () => {
    clearTimeout(typing);
    typing = window.setTimeout(reload, TYPING_MS);
  });

  /** Ask again from the start; what is shown stays until the answer is there. */
  async function reload() {
    const mine = ++asked;
    pages = new Set();
    await page(0, mine, true);
  }

  async function page(number, mine, isFirst = false) {
    if (pages.has(number)) return;
    pages.add(number);
    const query = new URLSearchParams({ limit: String(PAGE), offset: String(number * PAGE) });
    if (kind) query.set("kind", kind);
    if (search.value.trim()) query.set("search", search.value.trim());
    const found = await get(`/library?${query}`).catch((refused) => ({ refused }));
    if (mine !== asked) return;
    problem = found.refused?.message ?? "";
    if (isFirst) rows = [];
    if (found.models) {
      learnTitles(found.models);
      found.models.forEach((model, at) => {
        rows[number * PAGE + at] = model;
      });
      count = found.total;
      offerKinds(found.kinds);
      onload();
    }
    cards.dataset.key = "";
    draw();
  }

  function offerKinds(counts) {
    const present = Object.entries(KINDS).filter(([name]) => counts[name] || name === kind);
    kinds.offer(
      [
        { value: "", label: "All" },
        ...present.map(([value, label]) => ({ value, label: `${label} ${grouped(counts[value] ?? 0)}` })),
      ],
      kind,
    );
    kinds.element.hidden = present.length < 2;
  }

  const columns = () => Math.max(2, Math.floor(cards.clientWidth / MIN_CARD_PX));

  // Cards above and below what is seen are only a height: 5,000 models cost as much as fifty.
  function draw() {
    if (!element.isConnected || element.closest("[hidden]") || route.get().tab !== "models") return;
    const across = columns();
    const all = Math.ceil(count / across);
    const top = cards.getBoundingClientRect().top;
    const first = Math.min(all, Math.max(0, Math.floor(-top / ROW_PX) - SPARE_ROWS));
    const last = Math.min(all, Math.ceil((innerHeight - top) / ROW_PX) + SPARE_ROWS);
    for (let at = Math.floor((first * across) / PAGE); at * PAGE < Math.min(count, last * across); at += 1)
      page(at, asked);
    cards.style.setProperty("--columns", String(across));
    cards.style.paddingTop = `${first * ROW_PX}px`;
    cards.style.paddingBottom = `${Math.max(0, all - Math.max(first, last)) * ROW_PX}px`;
    setText(total, count ? some(count, "model") : "");
    sayNone();
    const shown = Array.from(
      { length: Math.max(0, Math.min(count, last * across) - first * across) },
      (_, at) => rows[first * across + at],
    );
    const key = JSON.stringify([
      first,
      shown.map((model) => model && [model.kind, model.name, model.short_hash, memoryWords(model)]),
      form.get().model?.name,
    ]);
    if (cards.dataset.key === key) return;
    cards.dataset.key = key;
    const focused = focusedWithin(cards)?.dataset.key;
    cards.replaceChildren(
      ...shown.map((model) =>
        model ? card(model) : h("span.card", { "aria-hidden": "true" }, h("span.card-picture", {})),
      ),
    );
    const made = /** @type {HTMLElement[]} */ ([...cards.querySelectorAll("button.card")]);
    settleTabStop(
      made,
      Math.max(
        0,
        made.findIndex((one) => one.dataset.key === focused),
      ),
    );
    if (focused) made.find((one) => one.dataset.key === focused)?.focus({ preventScroll: true });
  }

  function sayNone() {
    none.hidden = count > 0;
    if (count) return;
    const wanted = search.value.trim();
    if (problem) setText(none, problem);
    else if (!wanted && !kind)
      setText(none, "No model in models/. Put a .safetensors file there, or look under Get more.");
    else
      none.replaceChildren(
        wanted ? `No model matches “${wanted}”. ` : "None of this kind. ",
        button({
          label: "Show all",
          kind: "link",
          onclick: () => {
            search.value = "";
            kind = "";
            reload();
            search.focus();
          },
        }),
      );
  }

  function card(model) {
    const isChosen = model.kind === "checkpoint" && model.name === form.get().model?.name;
    const line = [
      kind ? "" : KIND[model.kind],
      model.family === "unknown" ? "" : model.family_label,
      bytes(model.size_bytes),
    ]
      .filter(Boolean)
      .join(" · ");
    const made = h(
      "button.card",
      {
        type: "button",
        "data-key": `${model.kind}/${model.name}`,
        "aria-pressed": String(isChosen),
        "aria-haspopup": "dialog",
        onclick: () => onopen(model, made),
      },
      modelPicture(model, "card-picture"),
      h("span.card-name", {}, model.title),
      h("span.hint", {}, line),
      h(model.problem ? "span.bad" : "span.hint", {}, lastLine(model)),
    );
    return made;
  }

  addEventListener("scroll", draw, { passive: true });
  new ResizeObserver(draw).observe(element);
  engine.later(draw);
  form.later(draw);
  addEventListener("keydown", (event) => {
    if (
      plainKey(event) !== "/" ||
      element.closest("[hidden]") ||
      route.get().tab !== "models" ||
      targetOf(event, "input, textarea, dialog")
    )
      return;
    event.preventDefault();
    search.focus();
  });
  return { element, reload };
}

function lastLine(model) {
  if (model.format === "pickle") return "Can run code: convert it";
  if (model.problem) return model.problem;
  return (
    memoryWords(model) ||
    model.trigger_words?.slice(0, 3).join(", ") ||
    (model.short_hash ? `Hash ${model.short_hash}` : "")
  );
}
