// A person's own defaults for models, as the server remembers them; asked for before a model can be chosen.

import { get, modelPath, request } from "./api.js";
import { observable } from "./store.js";

/** By the name of the checkpoint; a value that is missing is as the model has it. Null until the server was asked. */
const remembered = observable(/** @type {any} */ (null));
/** @type {Promise<void>|null} */
let asking = null;

/** Ask for all of them; without an answer the models' own count. */
export function loadOwnDefaults() {
  asking ??= get("/model-defaults")
    .then((answer) => remembered.set(answer.models))
    .catch(() => {})
    .finally(() => (asking = null));
  return asking;
}

/** Call when they are known, and at every change. */
export const whenOwnDefaults = remembered.later;

/** Those for a model; empty where none are remembered, null while that is not known. */
export const ownDefaults = (model) => remembered.get() && (remembered.get()[model?.name] ?? {});

/** Remember them in place of those before. Raises as `request`. */
export async function rememberDefaults(model, defaults) {
  const { [model.name]: _, ...others } = remembered.get() ?? {};
  await request("PUT", `${modelPath(model.name)}/defaults`, defaults);
  remembered.set(Object.keys(defaults).length ? { ...others, [model.name]: defaults } : others);
}

/** Forget them. Raises as `request`. */
export async function forgetDefaults(model) {
  const { [model.name]: _, ...others } = remembered.get() ?? {};
  await request("DELETE", `${modelPath(model.name)}/defaults`);
  remembered.set(others);
}
