// The smaller fields of the recipe: sliders, lists, seed and pictures, size, More, Explain.

import { config, samplerOf, samplersFor, schedulesFor } from "../core/config.js";
import { formTab, route } from "../core/route.js";
import { keep, recall } from "../core/store.js";
import { pixels } from "../core/words.js";
import { choice, list, showProblem, slider, textInput } from "../form/bound.js";
import { change, form, presetOf } from "../form/form.js";
import { joinRecipe } from "../form/recipe_parts.js";
import { section } from "../form/section.js";
import { canFollow, followKey, follows, keepsSize, sizeNote, sizeOf } from "../form/size.js";
import { job } from "../jobs/job.js";
import { openUpscale } from "../result/upscale.js";
import { SECOND_PROMPTS, secondPrompts, secondPromptsPart, secondPromptsSummary } from "../sections/second_prompts.js";
import { tilingField, tilingPart, tilingSummary } from "../sections/tiling_field.js";
import { sizeConditioning, sizeConditioningPart } from "../sections/size_conditioning.js";
import { sizeConditioningSummary } from "../sections/size_conditioning.js";
import { vaeField, vaePart, vaeSummary } from "../sections/vae_field.js";
import { button, field, h, setText } from "../ui/dom.js";
import { segmented } from "../ui/segmented.js";
import { readRecipe } from "./drop_overlay.js";

const RESIZES = [
  ["crop", "Crop"],
  ["fill", "Fill"],
  ["stretch", "Stretch"],
  ["latent", "Latent"],
];

/** Steps and guidance. */
export function number_fields(element) {
  element.replaceChildren(h("div.pair", {}, slider("steps", 1), slider("guidance", 0.5)));
}

/** Sampler and schedule; only pairs that make sense are offered. */
export function sampler_fields(element) {
  // What only those ask for who compare with another program.
  const difference = h("p.explain", {});
  form.watch(({ sampler }) => setText(difference, samplerOf(sampler)?.difference ?? ""));
  element.replaceChildren(
    h(
      "div.pair",
      {},
      list("sampler", (now) => samplersFor(now.model)),
      list("schedule", (now) => schedulesFor(now.sampler, now.model).map((id) => [id, config.schedules[id]])),
    ),
    difference,
  );
}

/** Seed (empty is random) and how many pictures. */
export function seed_fields(element) {
  const seed = textInput("seed", { inputmode: "numeric", placeholder: "Random" });
  const reuse = button({
    label: "Use the last seed",
    icon: "again",
    words: false,
    kind: "inside",
    onclick: () => {
      const last = job.lastSeed();
      if (last) change({ seed: last });
    },
  });
  const clear = button({
    label: "Clear the seed: random",
    icon: "close",
    words: false,
    kind: "inside",
    onclick: () => {
      change({ seed: "" });
      seed.focus();
    },
  });
  const { box, problem } = field("seed", config.labels.seed, h("div.with-buttons", {}, seed, reuse, clear), {
    note: config.explain.seed,
    labelFor: seed.id,
  });
  showProblem("seed", seed, problem);
  form.watch((now) => {
    clear.hidden = now.seed === "";
    reuse.hidden = now.seed !== "";
  });

  const counts = segmented({ label: config.labels.count, onchoose: (count) => change({ count }) });
  form.watch((now) => {
    const all = config.counts.includes(now.count) ? config.counts : [...config.counts.slice(0, 3), now.count];
    counts.offer(
      all.map((value) => ({ value, label: String(value) })),
      now.count,
    );
  });
  const pictures = field("count", config.labels.count, counts.element, { note: config.explain.count });
  showProblem("count", counts.element, pictures.problem);
  element.replaceChildren(h("div.pair", {}, box, pictures.box));
}

/**
 * Square, Tall, Wide of the model's family, or Custom: width, height and a button that swaps them. Where a tab
 * begins from a picture, first of all the picture's own.
 */
export function size_field(element) {
  const choose = segmented({
    label: "Size",
    onchoose: (preset) => {
      const follow = canFollow(formTab()) ? followKey(formTab()) : null;
      if (follow && preset === "picture") {
        change({ [follow]: true });
        return;
      }
      const chosen = form.get().model?.sizes?.[preset];
      change({
        ...(follow && { [follow]: false, "mask.keep_size": false }),
        ...(chosen ? { preset, width: String(chosen[0]), height: String(chosen[1]) } : { preset: "custom" }),
      });
    },
  });
  const width = textInput("width", { inputmode: "numeric", "aria-label": config.labels.width });
  const height = textInput("height", { inputmode: "numeric", "aria-label": config.labels.height });
  const swap = button({
    label: "Swap width and height",
    icon: "swap",
    words: false,
    kind: "outlined",
    onclick: () => change({ width: form.get().height, height: form.get().width }),
  });
  const other = field("height", "", "");
  const custom = h("div.custom-size", {}, width, h("span", { "aria-hidden": "true" }, "×"), height, swap);
  const { box, title, problem } = field("width", "Size", h("div", {}, choose.element, custom), {
    note: config.explain.size,
  });
  const resize = choice("init_image.resize", RESIZES);
  const note = h("p.hint", {});
  box.append(other.problem, note);
  showProblem("width", width, problem);
  showProblem("height", height, other.problem);
  function draw() {
    const now = form.get();
    const tab = formTab();
    const presets = Object.keys(now.model?.sizes ?? {}).sort((a, b) => order(a) - order(b));
    const choices = [...presets, "custom"].map((value) => ({ value, label: value[0].toUpperCase() + value.slice(1) }));
    if (canFollow(tab)) choices.unshift({ value: "picture", label: "Picture" });
    const isPicture = canFollow(tab) && now[followKey(tab)];
    const isPreset = presets.includes(now.preset) && presetOf(now.model, now.width, now.height) === now.preset;
    const preset = isPreset ? now.preset : "custom";
    choose.offer(choices, isPicture ? "picture" : preset);
    custom.hidden = isPicture || isPreset;
    resize.hidden = !canFollow(tab) || isPicture;
    setText(note, sizeNote(now, tab));
    title.textContent = isPicture && !follows(now, tab) ? "Size, as the picture" : `Size, ${sizeWords(now, tab)}`;
  }
  form.watch(draw);
  route.later(draw);
  element.replaceChildren(h("div.stack", {}, box, resize));
}

function sizeWords(now, tab) {
  if (!follows(now, tab)) return pixels(now.width.trim() || "?", now.height.trim() || "?");
  const { width, height } = keepsSize(now, tab) ? now["init_image.image"] : sizeOf(now, tab);
  return pixels(width, height);
}

const order = (name) => ["square", "tall", "wide"].indexOf(name) + 1 || 9;

/** The closed section for what is rarely touched; its summary says what differs from the default. */
export function more_section(element) {
  element.replaceChildren(
    section({
      name: "more",
      title: "More",
      fields: ["clip_skip", "emphasis", "vae", "tiling", ...SECOND_PROMPTS],
      summary: (now) =>
        [
          vaeSummary(now),
          secondPromptsSummary(now),
          tilingSummary(now),
          sizeConditioningSummary(now),
          now.clip_skip !== "1" && `clip skip ${now.clip_skip}`,
          now.emphasis !== "original" && `emphasis ${config.emphases[now.emphasis]}`,
        ]
          .filter(Boolean)
          .join(", "),
      body: () => [
        vaeField(),
        slider("clip_skip", 1),
        list("emphasis", () => Object.entries(config.emphases)),
        tilingField(),
        secondPrompts(),
        sizeConditioning(),
        recipeReader(),
        h(
          "div.reader",
          {},
          button({ label: "Enlarge a picture", icon: "larger", kind: "outlined", onclick: () => openUpscale() }),
        ),
      ],
    }),
  );
  joinRecipe("more_section", vaePart, tilingPart, secondPromptsPart, sizeConditioningPart);
}

// The same as dropping a picture on the page, for fingers and keyboards.
function recipeReader() {
  const file = h("input", {
    type: "file",
    accept: "image/png, image/jpeg, image/webp, image/avif, image/gif",
    hidden: true,
    onchange: () => {
      if (file.files?.[0]) readRecipe(file.files[0]);
      file.value = "";
    },
  });
  return h(
    "div.reader",
    {},
    button({ label: "Read the recipe of a picture", icon: "file", kind: "outlined", onclick: () => file.click() }),
    file,
  );
}

/** Explain: on, each field carries one sentence below it. */
export function explain_switch(element) {
  const root = document.documentElement;
  const set = (isOn) => {
    root.classList.toggle("explains", isOn);
    toggle.setAttribute("aria-checked", String(isOn));
    keep("explain", isOn);
  };
  const toggle = h(
    "button.switch",
    { type: "button", role: "switch", onclick: () => set(toggle.getAttribute("aria-checked") !== "true") },
    h("span", {}, "Explain"),
    h("span.track", { "aria-hidden": "true" }),
  );
  set(recall("explain", false));
  element.replaceChildren(toggle);
}
