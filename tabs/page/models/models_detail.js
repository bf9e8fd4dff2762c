// One model large: its picture, all that is known of it, and what can be done with it. A layer over the page.

import { get, modelPath, request, sentenceOf } from "../core/api.js";
import { engine } from "../core/engine.js";
import { loadOwnDefaults, ownDefaults } from "../core/model_defaults.js";
import { wishFor } from "../core/model_list.js";
import { bytes, moment } from "../core/words.js";
import { change, chooseModel, form } from "../form/form.js";
import { begin } from "../jobs/model_tasks.js";
import { isIn, withWord, withoutWord } from "../lora/triggers.js";
import { button, h, setText } from "../ui/dom.js";
import { closeLayer, openLayer } from "../ui/layers.js";
import { announce } from "../ui/live.js";
import { KIND, memoryWords, modelPicture } from "./model_card.js";
import { settingRows } from "./model_settings.js";
import { remember } from "./models_memory.js";

const PROMPTED = {
  lora: (name) => `<lora:${name}:1>`,
  hypernetwork: (name) => `<hypernet:${name}:1>`,
  embedding: (name) => name.split("/").pop(),
};

/** @param {any} shop says whether this person manages the models @param {() => void} onchange a model is gone */
export function makeDetail(shop, onchange) {
  const title = h("h2", {});
  const body = h("div.dialog-body", {});
  const problem = h("p.problem", { hidden: true, role: "alert" });
  const dialog = h(
    "dialog.dialog-box.model-dialog",
    { "aria-label": "Model" },
    h("div.picker-head", {}, title, button({ label: "Close", icon: "close", words: false, onclick: closeLayer })),
    body,
  );
  let model = null;

  async function open(row, opener) {
    model = row;
    (opener.closest(".gradio-container") ?? document.body).append(dialog);
    draw();
    openLayer(dialog, { opener });
    const [full] = await Promise.all([
      get(`${modelPath(row.name)}?kind=${row.kind}`).catch(() => null),
      row.kind === "checkpoint" && loadOwnDefaults(),
    ]);
    if (full && model === row) {
      model = { ...row, ...full };
      draw();
    }
  }

  function draw() {
    setText(title, model.title);
    problem.hidden = true;
    body.replaceChildren(
      ...[
        model.has_preview && modelPicture(model, "dialog-picture"),
        facts(model, settings()),
        actions(),
        problem,
      ].filter(Boolean),
    );
  }

  const settings = () => {
    if (model.kind !== "checkpoint" || model.problem) return [];
    return settingRows(model, { isMine: shop.get().allowed, act: say, redraw: draw });
  };

  function actions() {
    const isMine = shop.get().allowed;
    const inMemory = engine.get()?.models?.some((one) => one.name === model.name && one.kind === model.kind);
    const of = { name: model.name, kind: model.kind };
    const use = useAction();
    return h(
      "div.dialog-actions",
      {},
      use && button({ kind: "filled", ...use }),
      model.format === "pickle" &&
        isMine &&
        button({
          label: "Convert to safetensors",
          icon: "file",
          kind: "filled",
          onclick: act(() => begin("convert", { model: model.name, kind: model.kind })),
        }),
      !model.problem &&
        model.kind === "checkpoint" &&
        !inMemory &&
        button({ label: "Read into memory", kind: "outlined", onclick: act(() => remember("prefetch", of)) }),
      inMemory &&
        isMine &&
        button({ label: "Evict from memory", kind: "outlined", onclick: act(() => remember("evict", of)) }),
      isMine && deletion(),
    );
  }

  function useAction() {
    if (model.problem) return null;
    if (model.kind === "checkpoint") {
      return {
        label: "Use for pictures",
        onclick: () => {
          chooseModel(model);
          wishFor(model);
          closeLayer();
          announce(`${model.title} is chosen.`);
        },
      };
    }
    const words = PROMPTED[model.kind]?.(model.name);
    if (!words) return null;
    return {
      label: "Add to the prompt",
      onclick: () => {
        const { prompt } = form.get();
        change({ prompt: prompt.trim() ? `${prompt.trimEnd()}, ${words}` : words });
        closeLayer();
        announce(`${model.title} is in the prompt.`);
      },
    };
  }

  // What can't be undone is asked for in place, never by a browser's dialog.
  function deletion() {
    const place = h("span.deletion", {});
    const ask = () => {
      const keep = button({ label: "Keep it", kind: "outlined", onclick: rest });
      place.replaceChildren(
        h("span.hint", {}, `${bytes(model.size_bytes)} will be gone for good.`),
        button({ label: `Delete ${model.title}`, icon: "trash", kind: "outlined.danger", onclick: act(remove) }),
        keep,
      );
      keep.focus();
    };
    const rest = () => place.replaceChildren(button({ label: "Delete the file", icon: "trash", onclick: ask }));
    rest();
    return place;
  }

  async function remove() {
    await request("DELETE", `${modelPath(model.name)}?kind=${model.kind}`);
    announce(`${model.title} is deleted.`);
    onchange();
  }

  const say = (work) => async () => {
    try {
      await work();
      return true;
    } catch (refused) {
      setText(problem, sentenceOf(refused));
      problem.hidden = false;
      return false;
    }
  };
  const act = (work) => async () => {
    if (await say(work)()) closeLayer();
  };
  return { element: h("span", { hidden: true }), open };
}

function facts(model, settings) {
  const rows = [
    ["Kind", [KIND[model.kind], model.detail !== KIND[model.kind] && model.detail].filter(Boolean).join(" · ")],
    [
      "Family",
      [
        model.family_label,
        model.variant && model.variant !== "text" && model.kind === "checkpoint" ? model.variant : "",
      ]
        .filter(Boolean)
        .join(" · "),
    ],
    ["Size", bytes(model.size_bytes)],
    ["Memory", memoryWords(model)],
    ["Name in recipes", model.name],
    ["Alias", model.alias],
    ["Hash", model.short_hash ? h("span.mono", {}, model.short_hash) : "being computed"],
    ["Changed", model.modified ? moment(model.modified) : ""],
    ...settings,
    ["Trigger words", wordChips(ownDefaults(model)?.trigger_words ?? model.trigger_words ?? [], "prompt")],
    ["Negative", wordChips([model.advice?.negative_prompt].filter(Boolean), "negative_prompt")],
    ["Version", [model.about?.version, model.about?.base_model].filter(Boolean).join(" · ")],
    ["Author", model.about?.author],
    ["License", model.about?.license],
    ["Page", pageLink(model.about?.link)],
    ["About", model.description],
    ["Notes", model.notes],
    ["Left out", model.warnings?.join(" ")],
    ["Problem", model.problem && h("span.bad", {}, `${model.problem} ${model.hint}`)],
  ].filter(([, value]) => value);
  return h("dl.facts", {}, ...rows.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

// Words that a press puts into the prompt, or out of it.
function wordChips(words, into) {
  if (!words.length) return null;
  const chips = words.map((word) => {
    const chip = h(
      "button.chip",
      {
        type: "button",
        onclick: () => {
          const text = form.get()[into];
          change({ [into]: isIn(text, word) ? withoutWord(text, word) : withWord(text, word) });
          draw();
        },
      },
      word,
    );
    const draw = () => chip.setAttribute("aria-pressed", String(isIn(form.get()[into], word)));
    draw();
    return chip;
  });
  return h("span.word-chips", {}, ...chips);
}

// Only to a page of the web; it learns nothing of this one.
function pageLink(address) {
  if (!address?.startsWith("https://")) return null;
  return h("a", { href: address, target: "_blank", rel: "noopener noreferrer" }, new URL(address).host);
}
