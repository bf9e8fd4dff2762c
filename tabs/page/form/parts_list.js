// Lists that a section of the recipe offers, asked for when it is first opened: other models, preprocessors, upscalers.

import { get } from "../core/api.js";
import { observable } from "../core/store.js";

const FRESH_MS = 20_000;

/** {items, isKnown}: what there is, once somebody asked. */
function offered(load) {
  const state = observable({ items: /** @type {any[]} */ ([]), isKnown: false });
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

export const controlModels = offered(modelsOf("controlnet", "t2i_adapter"));
export const loraModels = offered(modelsOf("lora"));
export const hypernetworks = offered(modelsOf("hypernetwork"));
export const embeddings = offered(modelsOf("embedding"));
export const vaes = offered(modelsOf("vae"));
export const referenceModels = offered(modelsOf("ip_adapter"));
export const preprocessors = offered(async () => (await get("/preprocessors")).preprocessors);
export const upscalers = offered(async () => (await get("/upscalers")).upscalers);
