// All models as cards: search, families, and only as many cards in the page as can be seen.

import { get } from "../core/api.js";
import { config, familyLabel } from "../core/config.js";
import { loadOwnDefaults } from "../core/model_defaults.js";
import { loadModels } from "../core/model_list.js";
import { say } from "../core/toast.js";
import { bytes, some } from "../core/words.js";
import { form } from "../form/form.js";
import { button, h, icon, setText } from "../ui/dom.js";
import { closeLayer, openLayer } from "../ui/layers.js";
import { rove, settleTabStop } from "../ui/roving.js";
import { segmented } from "../ui/segmented.js";
import { isComposing, plainKey } from "../ui/shortcut.js";
import { KIND, KINDS, memoryWords, modelPicture } from "./model_card.js";

const MIN_CARD_PX = 170;
const ROW_PX = 218;
const SPARE_ROWS = 2;

const loaders = { checkpoint: loadModels };
const loadOf = (kind) => loaders[kind] ?? (async () => (await get(`/models?kind=${kind}`)).models);

/**
 * @param {{onchoose: (model: any) => void, kind?: string, chosen?: () => string[], fits?: (model: any) => boolean}} handlers
 *   kind: of models, checkpoints if none is named; chosen: names of those that are; fits: which may be chosen
 */
export function makePicker({
  onchoose,
  kind = "checkpoint",
  chosen = () => [form.get().model?.name],
  fits = () => true,
}) {
  const heading = kind === "checkpoint" ? "Models" : KINDS[kind];
  let all = [];
  let found = [];
  let family = "all";
  const search = h("input", {
    type: "search",
    "aria-label": `Search ${heading}`,
    autocomplete: "off",
    spellcheck: "false",
    oninput: filter,
  });
  const families = segmented({
    label: "Family",
    onchoose: (value) => {
      family = value;
      filter();
    },
  });
  families.element.classList.add("chips");
  const cards = h("div.cards", { role: "group", "aria-label": heading });
  const none = h("p.none", { hidden: true });
  const scroller = h("div.picker-body", { tabindex: "-1", onscroll: draw }, cards, none);
  const foot = h(
    "p.picker-foot",
    {},
    `Models are read from ${config.folders.models_short}. New ones appear here by themselves.`,
  );
  const dialog = h(
    "dialog.picker",
    { "aria-label": heading },
    h(
      "div.picker-head",
      {},
      h("h2", {}, heading),
      button({ label: "Close", icon: "close", words: false, onclick: closeLayer }),
      h("div.search", {}, icon("search"), search),
      families.element,
    ),
    scroller,
    foot,
  );
  rove(cards, ".card", { twoWay: true });
  new ResizeObserver(draw).observe(scroller);

  async function open(opener) {
    openLayer(dialog, { opener, focus: search });
    search.value = "";
    try {
      const [models] = await Promise.all([loadOf(kind)(), kind === "checkpoint" && loadOwnDefaults()]);
      all = models.filter(fits);
    } catch (problem) {
      say(problem);
    }
    // What acts on a model is of use only where it is of the model's family.
    const own = form.get().model?.family;
    family = kind !== "checkpoint" && all.some((model) => model.family === own) ? own : "all";
    const [singular, plural] = kind === "checkpoint" ? ["model", "models"] : [KIND[kind], KINDS[kind]];
    search.placeholder = `Search ${some(all.length, singular, plural)}`;
    filter();
    const row = Math.floor(
      Math.max(
        0,
        found.findIndex((model) => chosen().includes(model.name)),
      ) / columns(),
    );
    scroller.scrollTop = Math.max(0, row - 1) * ROW_PX;
  }

  function filter() {
    const wanted = search.value.trim().toLowerCase();
    const present = new Map(
      all.map((model) => [
        model.family,
        model.family === "unknown" ? "Other" : model.family_label || familyLabel(model.family),
      ]),
    );
    families.offer(
      [
        { value: "all", label: "All" },
        ...[...present].sort(([one], [other]) => rank(one) - rank(other)).map(([value, label]) => ({ value, label })),
      ],
      family,
    );
    families.element.hidden = present.size < 2;
    found = all.filter((model) => {
      if (family !== "all" && model.family !== family) return false;
      const names = [model.title, model.name, model.alias, model.short_hash, ...(model.trigger_words ?? [])];
      return names
        .map((name) => name ?? "")
        .join(" ")
        .toLowerCase()
        .includes(wanted);
    });
    scroller.scrollTop = 0;
    none.hidden = found.length > 0;
    const kindName = kind === "checkpoint" ? "model" : KIND[kind];
    const putThere = "Put a .safetensors file there, or look under Models, Get more.";
    if (!all.length) setText(none, `No ${kindName} in models/. ${putThere}`);
    else if (!found.length)
      none.replaceChildren(
        `No model matches “${search.value.trim()}”. `,
        button({
          label: "Clear search",
          kind: "link",
          onclick: () => {
            search.value = "";
            family = "all";
            filter();
            search.focus();
          },
        }),
      );
    draw();
  }

  const columns = () => Math.max(2, Math.floor((scroller.clientWidth - 24) / MIN_CARD_PX));

  // Cards above and below what is seen are only a height: 5,000 models cost as much as fifty.
  function draw() {
    if (!dialog.open) return;
    const across = columns();
    const rows = Math.ceil(found.length / across);
    const first = Math.max(0, Math.floor(scroller.scrollTop / ROW_PX) - SPARE_ROWS);
    const last = Math.min(rows, Math.ceil((scroller.scrollTop + scroller.clientHeight) / ROW_PX) + SPARE_ROWS);
    cards.style.setProperty("--columns", String(across));
    cards.style.paddingTop = `${first * ROW_PX}px`;
    cards.style.paddingBottom = `${Math.max(0, rows - last) * ROW_PX}px`;
    const names = chosen();
    const shown = found.slice(first * across, last * across);
    const key = JSON.stringify([shown.map((model) => [model.name, memoryWords(model)]), names]);
    if (cards.dataset.key === key) return;
    cards.dataset.key = key;
    const focused = /** @type {HTMLElement|null} */ (document.activeElement)?.dataset?.name;
    cards.replaceChildren(...shown.map((model) => card(model, names.includes(model.name))));
    const made = /** @type {HTMLElement[]} */ ([...cards.children]);
    settleTabStop(
      made,
      Math.max(
        0,
        shown.findIndex((model) => (focused ? model.name === focused : names.includes(model.name))),
      ),
    );
    if (focused) made.find((one) => one.dataset.name === focused)?.focus({ preventScroll: true });
  }

  function card(model, isChosen) {
    const ready = memoryWords(model);
    return h(
      "button.card",
      {
        type: "button",
        "data-name": model.name,
        "aria-pressed": String(isChosen),
        onclick: () => {
          onchoose(model);
          closeLayer();
        },
      },
      modelPicture(model, "card-picture"),
      h("span.card-name", {}, model.title),
      model.problem
        ? h("span.bad", {}, model.problem)
        : h("span.hint", {}, `${model.family_label || familyLabel(model.family)} · ${bytes(model.size_bytes)}`),
      h("span.hint", {}, ready),
    );
  }

  dialog.addEventListener("keydown", (event) => {
    if (plainKey(event) === "/" && document.activeElement !== search) {
      event.preventDefault();
      search.focus();
    }
    if (event.key === "Enter" && !isComposing(event) && document.activeElement === search && found.length) {
      onchoose(found[0]);
      closeLayer();
    }
  });
  return { element: dialog, open };
}

/** Families in the order of the configuration, what is not known last. */
function rank(family) {
  const at = Object.keys(config.families).indexOf(family);
  if (at >= 0) return at;
  return family === "unknown" ? 1000 : 100;
}
