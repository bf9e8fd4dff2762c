// The models the server has, asked for when someone wants to choose; until then only the chosen one is known.

import { get, modelPath, post, Refused, Unreachable } from "./api.js";
import { config } from "./config.js";
import { engine, watchEngine } from "./engine.js";

/** @type {Map<string, any>} */
const known = new Map();
/** @type {Map<string, string>} titles that a list has shown, by name */
const titles = new Map();

/** Take over how models are called. */
export function learnTitles(models) {
  for (const { name, title } of models) titles.set(name, title);
}

/** All models as GET /api/v1/models gives them. */
export async function loadModels() {
  const { models } = await get("/models");
  known.clear();
  for (const model of models) known.set(model.name, model);
  return models;
}

/** A checkpoint's entry, if it is here. */
export async function findModel(name) {
  if (config.model?.name === name) return config.model;
  if (!known.has(name)) known.set(name, await get(`${modelPath(name)}?kind=checkpoint`));
  return known.get(name);
}

/** A checkpoint's entry after it was changed on the server. */
export async function renewModel(name) {
  const fresh = await get(`${modelPath(name)}?kind=checkpoint`);
  known.set(name, fresh);
  if (config.model?.name === name) Object.assign(config.model, fresh);
  return fresh;
}

/** A model's title for a label; without an entry, the last part of its name. */
export function modelTitle(name, chosen = null) {
  for (const entry of [config.model, chosen, known.get(name)]) {
    if (entry?.name === name) return entry.title;
  }
  return titles.get(name) ?? name.split("/").pop();
}

/** A model was chosen: let it be read into memory while the present job still runs. That is only a wish. */
export async function wishFor(model) {
  try {
    engine.set(await post("/models/prefetch", { name: model.name, kind: model.kind ?? "checkpoint" }));
    setTimeout(watchEngine, 400);
  } catch (problem) {
    if (!(problem instanceof Refused || problem instanceof Unreachable)) throw problem;
  }
}
