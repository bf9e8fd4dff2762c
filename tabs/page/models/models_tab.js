// The Models tab: what is here and in memory, what can be got, merging, and wildcards. Built when it is first opened.

import { get } from "../core/api.js";
import { go, route } from "../core/route.js";
import { observable } from "../core/store.js";
import { tasksEnded, refreshModelTasks } from "../jobs/model_tasks.js";
import { h } from "../ui/dom.js";
import { segmented } from "../ui/segmented.js";
import { makeDetail } from "./models_detail.js";
import { makeGet } from "./models_get.js";
import { makeGrid } from "./models_grid.js";
import { makeMemory } from "./models_memory.js";
import { makeMerge } from "./models_merge.js";
import { makeWildcards } from "./models_wildcards.js";

const VIEWS = [
  { value: "here", label: "Here" },
  { value: "get", label: "Get more" },
  { value: "merge", label: "Merge" },
  { value: "wildcards", label: "Wildcards" },
];

/** What GET /api/v1/catalog says: catalog_models, and whether this person manages the models. */
const shop = observable(/** @type {any} */ ({ catalog_models: [], allowed: false, refusal: "", isKnown: false }));

async function loadShop() {
  const found = await get("/catalog").catch(() => null);
  if (found) shop.set({ ...found, isKnown: true });
}

/** Fill the part. */
export function models_tab(element) {
  const views = segmented({
    label: "Part of the model manager",
    onchoose: (view) => go("models", view === "here" ? null : view),
  });
  views.element.classList.add("models-views");
  const detail = makeDetail(shop, () => grid.reload());
  const memory = makeMemory(shop);
  const grid = makeGrid({ onopen: (model, card) => detail.open(model, card), onload: memory.draw });
  const merge = makeMerge(shop);
  const shelf = makeGet(shop);
  const wildcards = makeWildcards();
  const here = h("div.models-here", {}, memory.element, grid.element);
  const parts = { here, get: shelf.element, merge: merge.element, wildcards: wildcards.element };
  const root = h(
    "section.models",
    { "aria-label": "Models" },
    h("div.models-head", {}, views.element),
    ...Object.values(parts),
    detail.element,
  );
  element.replaceChildren(root);

  let shown = "";
  route.watch(({ tab, id }) => {
    if (tab !== "models") return;
    const view = id in parts ? id : "here";
    views.offer(VIEWS, view);
    for (const [name, part] of Object.entries(parts)) part.hidden = name !== view;
    if (view === shown) return;
    shown = view;
    if (view === "here") grid.reload();
    if (view === "merge") merge.refresh();
    if (view === "wildcards") wildcards.refresh();
    refreshModelTasks();
  });
  tasksEnded.later(() => {
    loadShop();
    grid.reload();
    merge.refresh();
  });
  loadShop();
}
