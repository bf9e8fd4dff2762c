// What is remembered about a checkpoint, in its details: a person's own defaults, and what it predicts.

import { modelPath, request } from "../core/api.js";
import { config, samplerLabel } from "../core/config.js";
import { forgetDefaults, ownDefaults, rememberDefaults } from "../core/model_defaults.js";
import { renewModel } from "../core/model_list.js";
import { formTab } from "../core/route.js";
import { change, form, number, startValues, takeDefaults } from "../form/form.js";
import { follows } from "../form/size.js";
import { button, h, icon } from "../ui/dom.js";
import { announce } from "../ui/live.js";

const PREDICTIONS = {
  epsilon: "Noise (epsilon)",
  v_prediction: "Velocity (v)",
  v_zero_snr: "Velocity (v), zero SNR",
};

/** What the form holds that is not as the model itself has it. */
function differing(model, now) {
  const usual = startValues(model, {});
  const found = /** @type {Object<string, any>} */ ({});
  for (const name of ["sampler", "schedule", "vae", "negative_prompt"])
    if (now[name] !== usual[name]) found[name] = now[name];
  for (const name of ["steps", "guidance", "clip_skip"])
    if (number(now[name]) !== number(usual[name])) found[name] = number(now[name]);
  const isOther = now.width !== usual.width || now.height !== usual.height;
  if (isOther && !follows(now, formTab()))
    Object.assign(found, { width: number(now.width), height: number(now.height) });
  // A schedule belongs to its sampler.
  if (found.sampler) found.schedule = now.schedule;
  return found;
}

/** "Euler a · 30 steps · guidance 6", of what is remembered. */
function defaultsLine(own) {
  const { labels, schedules } = config;
  return [
    own.sampler && samplerLabel(own.sampler),
    own.schedule && own.schedule !== "automatic" && (schedules[own.schedule] ?? own.schedule),
    own.steps && `${own.steps} steps`,
    own.guidance !== undefined && own.guidance !== null && `guidance ${own.guidance}`,
    own.width && own.height && `${own.width} × ${own.height}`,
    own.clip_skip && `${labels.clip_skip.toLowerCase()} ${own.clip_skip}`,
    own.vae && `VAE ${own.vae}`,
    own.negative_prompt && `negative prompt “${own.negative_prompt.slice(0, 80)}”`,
    own.trigger_words?.length && `trigger words ${own.trigger_words.join(", ")}`,
  ]
    .filter(Boolean)
    .join(" · ");
}

/**
 * The rows of a checkpoint's details.
 * @param {any} model
 * @param {{isMine: boolean, act: (work: () => Promise<void>) => () => Promise<boolean>, redraw: () => void}} how isMine:
 *   this person manages the models; act: says what is refused
 * @returns {[string, Node|string][]}
 */
export function settingRows(model, { isMine, act, redraw }) {
  const own = ownDefaults(model) ?? {};
  const line = defaultsLine(own);
  const isChosen = form.get().model?.name === model.name;
  const remember = act(async () => {
    const { trigger_words: words, is_distilled: answer } = own;
    const kept = { ...(words && { trigger_words: words }), ...(answer !== undefined && { is_distilled: answer }) };
    await rememberDefaults(model, { ...kept, ...differing(model, form.get()) });
    announce(`Remembered for ${model.title}.`);
    redraw();
  });
  const forget = act(async () => {
    const before = startValues(model);
    await forgetDefaults(model);
    if (isChosen) takeDefaults(before);
    announce(`Forgotten for ${model.title}.`);
    redraw();
  });
  const presses = [
    isChosen && button({ label: line ? "Remember the form’s again" : "Remember the form’s", kind: "link", onclick: remember }),
    line && button({ label: "Forget", kind: "link", onclick: forget }),
  ].filter(Boolean);
  const rows = /** @type {[string, any][]} */ ([]);
  if (line || presses.length)
    rows.push(["Your settings", h("span.own-settings", {}, line || "As the model has them.", ...presses)]);
  if (model.predictions?.length && (isMine || model.prediction))
    rows.push(["Predicts", isMine ? predictionList(model, act, redraw) : PREDICTIONS[model.prediction]]);
  return rows;
}

function predictionList(model, act, redraw) {
  const list = h(
    "select",
    {
      "aria-label": `What ${model.title} predicts`,
      onchange: act(async () => {
        const path = `${modelPath(model.name)}/prediction`;
        if (list.value) await request("PUT", path, { prediction: list.value });
        else await request("DELETE", path);
        Object.assign(model, await renewModel(model.name));
        if (form.get().model?.name === model.name) change({ model });
        redraw();
      }),
    },
    h("option", { value: "" }, "As its files say"),
    ...model.predictions.map((one) => h("option", { value: one }, PREDICTIONS[one])),
  );
  list.value = model.prediction ?? "";
  return h("div.select", {}, list, icon("down"));
}

/** A checkpoint's trigger words as a person has them, behind a press: typed with commas, none are the file's own. */
export function wordsEditor(model, { act, redraw }) {
  const own = ownDefaults(model) ?? {};
  const place = h("span.words-editor", {});
  const edit = () => {
    const input = h("input", {
      type: "text",
      value: (own.trigger_words ?? model.trigger_words ?? []).join(", "),
      "aria-label": `Trigger words of ${model.title}`,
      autocomplete: "off",
      spellcheck: "false",
    });
    const save = act(async () => {
      const { trigger_words: _, ...others } = own;
      const words = input.value.split(",").map((word) => word.trim());
      const kept = words.filter(Boolean);
      await rememberDefaults(model, kept.length ? { ...others, trigger_words: kept } : others);
      redraw();
    });
    place.replaceChildren(input, button({ label: "Save", kind: "link", onclick: save }));
    input.focus();
  };
  const label = own.trigger_words ? "Change yours" : model.trigger_words?.length ? "Change" : "Add";
  place.append(button({ label, kind: "link", onclick: edit }));
  return place;
}
