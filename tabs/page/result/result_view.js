// From what is known of a job to what the result pane says: headline, lines, status, actions. No DOM, no state.

import { config, samplerLabel } from "../core/config.js";
import { modelTitle } from "../core/model_list.js";
import { bytes, duration, left, leftWords, pixels, place, short, some } from "../core/words.js";

const PICTURE_ACTIONS = ["use", "upscale", "send", "favorite", "download", "delete"];

/**
 * @typedef {Object} Said
 * @property {string} headline in the frame; empty when the picture speaks
 * @property {string[]} lines below it
 * @property {boolean} isBad a failure: a red bar beside headline and lines
 * @property {string[]} chips prompts to begin with
 * @property {string} strong status line, first words
 * @property {string} rest status line, what follows
 * @property {string} aside one line more below the actions: how the rest can be had
 * @property {string[]} actions names as in result/result_actions.js
 * @property {number|null} progress 0..1, or null when nothing is known
 * @property {boolean} isDim the picture in the frame is not the result
 * @property {boolean} isOffline there is no connection
 */

/**
 * @param {any} view as in jobs/job.js
 * @param {{engine: any, retry: any, form: any, tab: string, large: number|null, leftS: number|null}} around
 * @returns {Said}
 */
export function describe(view, around) {
  const said = {
    headline: "",
    lines: [],
    isBad: false,
    chips: [],
    strong: "",
    rest: "",
    aside: "",
    actions: [],
    progress: null,
    isDim: false,
    isOffline: false,
    ...(SAYERS[view.phase] ?? idle)(view, around),
  };
  const isActive = ["sending", "queued", "loading", "running"].includes(view.phase);
  if (isActive && around.engine?.state === "restarting") {
    Object.assign(said, {
      headline: "",
      lines: [],
      strong: "The engine stopped and is starting again",
      rest: ", about 8 s · your job will be tried once more",
    });
  }
  if (isActive && view.note) said.rest += ` · ${view.note}`;
  if (around.retry) {
    Object.assign(said, {
      isOffline: true,
      strong: "No connection to Darkroom",
      rest: ` · trying again in ${left(around.retry.seconds)} · your jobs go on`,
      actions: ["reconnect"],
    });
  }
  return said;
}

const SAYERS = { idle, sending, queued, loading, running, done, failed, cancelled, interrupted };

function idle(view, { form, large, engine, tab }) {
  if (view.cells.some(Boolean)) return done(view, { large });
  const rest = engine?.state === "starting" ? "The engine is starting. Generate works already." : "Ready";
  if (view.isEmptyHere && tab === "img2img") {
    return form["init_image.image"]
      ? { rest, lines: [pixels(view.width, view.height)] }
      : {
          headline: "Begin from a picture",
          rest,
          lines: ["Drop one here, or choose it in the recipe. Strength says how far the result may go from it."],
        };
  }
  if (view.isEmptyHere) {
    return {
      headline: "Nothing developed yet",
      rest,
      chips: form.model?.examples?.slice(0, 3) ?? [],
      lines: [
        "Describe a picture and press Generate. The starter model is built in, so nothing needs to be downloaded.",
      ],
    };
  }
  return { lines: [pixels(view.width || "?", view.height || "?")], rest };
}

function sending() {
  return { lines: ["Developing"], strong: "Waiting", rest: "", actions: ["cancel"] };
}

function queued(view) {
  const ahead = view.position ?? 0;
  if (ahead === 0) return sending();
  const wait = view.wait_s ? `About ${left(view.wait_s)} until it starts. ` : "";
  return {
    headline: `${place(ahead + 1)} in the queue`,
    lines: [`${wait}You can close this page: the picture will be in the gallery.`],
    strong: "Waiting",
    rest: ` · ${some(ahead, "job")} ahead of yours`,
    actions: ["cancel"],
    isDim: true,
  };
}

function loading(view, { form }) {
  const part = view.fraction;
  const known = part !== null && part !== undefined;
  const whole = form.model?.name === view.recipe.model ? form.model.size_bytes : 0;
  const read = whole ? `${bytes(whole * part)} of ${bytes(whole)} read` : "";
  const line = known ? read : "Reading the model file";
  return {
    headline: `Loading ${modelTitle(view.what ?? view.recipe.model)}`,
    lines: [line].filter(Boolean),
    strong: "Loading model",
    rest: known ? ` · ${Math.floor(part * 100)}%` : "",
    actions: ["cancel"],
    progress: known ? part : null,
    isDim: true,
  };
}

function running(view, { leftS }) {
  const { image, index, total, count } = view;
  const progress = (image * total + index) / (count * total);
  const hasPreview = view.preview || view.cells.some(Boolean);
  const lines = hasPreview ? [] : ["Developing"];
  if (index >= total) {
    return { lines, strong: "Finishing", rest: ` · picture ${image + 1} of ${count}`, actions: ["cancel"], progress };
  }
  const parts = [leftWords(leftS ?? view.left_s), count > 1 && `picture ${image + 1} of ${count}`].filter(Boolean);
  return {
    lines,
    strong: `Step ${index} of ${total}`,
    rest: parts.map((part) => ` · ${part}`).join(""),
    actions: ["cancel"],
    progress,
  };
}

function done(view, { large }) {
  const saved = view.cells.filter(Boolean);
  const isLarge = large !== null && large !== undefined;
  const single = view.count === 1 ? saved[0] : null;
  const one = isLarge ? view.cells[large] : single;
  const missing = view.count - saved.length;
  const actions = [...(missing ? ["missing"] : []), ...PICTURE_ACTIONS];
  const facts = view.recipe ? recipeWords(view.recipe) : "";
  const took = view.seconds ? ` in ${duration(view.seconds)}` : "";
  if (!saved.length) return { rest: "Ready", lines: [pixels(view.width, view.height)] };
  const seed = one?.seed ? ` · seed ${one.seed}` : "";
  if (one && view.count === 1) return { strong: "Done", rest: `${took} · ${facts}${seed}`, actions };
  if (one) return { strong: `Picture ${large + 1} of ${view.count}`, rest: ` · ${facts}${seed}`, actions };
  if (missing) {
    return {
      strong: `${saved.length} of ${some(view.count, "picture")}`,
      rest: `${took} · ${missing} failed`,
      actions,
    };
  }
  return { strong: some(view.count, "picture"), rest: `${took} · ${facts}`, actions };
}

/** "Starter · Euler a · 20 steps · guidance 7". */
function recipeWords(recipe) {
  if (!recipe.model) return recipe.prompt;
  return [
    modelTitle(recipe.model?.name ?? recipe.model),
    samplerLabel(recipe.sampler),
    some(recipe.steps, "step"),
    `guidance ${short(recipe.guidance)}`,
  ].join(" · ");
}

function failed(view) {
  const saved = view.cells.filter(Boolean).length;
  const at = view.index ? ` at step ${view.index} of ${view.total}` : "";
  const isKept = config.unsaved_codes.includes(view.code);
  if (saved) {
    return {
      strong: `${saved} of ${some(view.count, "picture")}`,
      rest: ` · ${view.count - saved} failed: ${lower(view.message)}`,
      aside: view.hint ?? "",
      actions: [isKept ? "save" : "missing", ...PICTURE_ACTIONS],
    };
  }
  const again = isKept ? "save" : "again";
  return {
    headline: sentenceHead(view.message),
    lines: [sentenceTail(view.message), view.hint].filter(Boolean),
    isBad: true,
    strong: "Failed",
    rest: `${at} · your other jobs go on`,
    actions: ["fix", view.id ? again : "", "copy"].filter(Boolean),
  };
}

function cancelled(view) {
  const saved = view.cells.filter(Boolean).length;
  const at = view.index ? ` at step ${view.index} of ${view.total}` : " before it started";
  const hasPreview = view.preview && !view.cells[view.preview.image];
  return {
    strong: "Cancelled",
    rest: at,
    isDim: true,
    lines: !view.preview && !saved && !view.behind ? [pixels(view.width, view.height)] : [],
    actions: ["again", ...(hasPreview ? ["keep"] : []), ...(saved ? PICTURE_ACTIONS : [])],
  };
}

function interrupted(view) {
  const at = view.index ? ` at step ${view.index} of ${view.total}` : "";
  return {
    headline: "The program ended under this job",
    isBad: true,
    lines: ["Nothing that was saved is lost."],
    strong: "Interrupted",
    rest: `: Darkroom was restarted${at}`,
    actions: ["again"],
  };
}

// A message of several sentences: the first is the headline, without its full stop.
const sentenceHead = (text) => text.split(/(?<=[.!?])\s/)[0].replace(/\.$/, "");
const sentenceTail = (text) =>
  text
    .split(/(?<=[.!?])\s/)
    .slice(1)
    .join(" ");
const lower = (text) => sentenceHead(text ?? "").replace(/^(The|No) /, (word) => word.toLowerCase());
