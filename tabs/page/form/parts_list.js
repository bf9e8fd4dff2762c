// Lists that a section of the recipe offers, asked for when it is first opened: other models, preprocessors, upscalers.

import { get } from "../core/api.js";
import { observable } from "../core/store.js";

const FRESH_MS = 20_000;

/** {items, isKnown}: what there is, once somebody asked. */
function offered(load) {
  const state = observable({ items: /** @type {any} */ ([]), isKnown: false });
  let askedAt = -Infinity;
  return {
    state,
    /** Ask the server, unless that was just done: what was put into a folder appears. now: ask all the same. */
    async refresh(now = false) {
      if (!now && performance.now() - askedAt < FRESH_MS) return;
      askedAt = performance.now();
      try {
        state.set({ items: await load(), isKnown: true });
      } catch {
        askedAt = -Infinity;
      }
    },
    find: (name) => state.get().items.find((one) => (one.name ?? one.id) === name),
  };
}

const modelsOf =
  (...kinds) =>
  async () => {
    const answers = await Promise.all(kinds.map((kind) => get(`/models?kind=${kind}`)));
    return answers.flatMap((answer) => answer.models);
  };

// A list that carries what else the server said of it.
const withAnswer = (answer, name) => Object.assign(answer[name], { answer });

const CATEGORIES = ["", "artist", "", "series", "character", "meta"]; // as boorus number them

// A tag as it is written in prompts, "long hair", and what it is found by.
function preparedTag([name, category, count, others]) {
  const words = name.replaceAll("_", " ");
  const names = [words, ...others.map((other) => other.replaceAll("_", " "))].map((one) => one.toLowerCase());
  return { name: words, hint: CATEGORIES[category] ?? "", count, names };
}

export const controlModels = offered(modelsOf("controlnet", "t2i_adapter"));
export const loraModels = offered(modelsOf("lora"));
export const hypernetworks = offered(modelsOf("hypernetwork"));
export const embeddings = offered(modelsOf("embedding"));
export const vaes = offered(modelsOf("vae"));
export const referenceModels = offered(modelsOf("ip_adapter"));
export const preprocessors = offered(async () => (await get("/preprocessors")).preprocessors);
export const promptTags = offered(async () => (await get("/prompts/tags")).tags.map(preparedTag));
export const wildcards = offered(async () => withAnswer(await get("/wildcards"), "wildcards"));
export const styles = offered(async () => withAnswer(await get("/styles"), "styles"));
export const upscalers = offered(async () => (await get("/upscalers")).upscalers);
