// What can be done with finished pictures, from the stage, the gallery and the loupe alike.

import { get, pictureUrl, post, Refused, request, Unreachable } from "./api.js";
import { h } from "./dom.js";
import { announce } from "./live.js";
import { fillForm } from "./recipe_fill.js";
import { observable } from "./store.js";
import { offerUndo } from "./undo_bar.js";
import { some } from "./words.js";

/** What happened last to which pictures: {kind: "added"|"removed"|"restored"|"changed", ids, favourite?}. */
export const news = observable(/** @type {any} */ ({ kind: "none", ids: [] }));

const tell = (kind, ids, more = {}) => news.set({ kind, ids, ...more });

/** Pictures were saved. */
export const added = (ids) => tell("added", ids);

/** Mark pictures as favorites, or take the mark off; shown at once, taken back if the server says no. */
export async function favorite(ids, isOn) {
  tell("changed", ids, { favourite: isOn });
  announce(isOn ? "Favorite." : "No longer a favorite.");
  try {
    await Promise.all(ids.map((id) => request("PUT", `/images/${encodeURIComponent(id)}/favourite`, { favourite: isOn })));
  } catch (problem) {
    tell("changed", ids, { favourite: !isOn });
    say(problem);
  }
}

/** Delete pictures at once, with Undo for as long as the bar stands. */
export async function remove(ids) {
  tell("removed", ids);
  try {
    await Promise.all(ids.map((id) => request("DELETE", `/images/${encodeURIComponent(id)}`)));
  } catch (problem) {
    tell("restored", ids);
    say(problem);
    return;
  }
  const sentence = `Deleted ${some(ids.length, "picture")}.`;
  announce(`${sentence} Undo is at the foot of the page.`);
  offerUndo(sentence, () => restore(ids));
}

async function restore(ids) {
  try {
    await Promise.all(ids.map((id) => post(`/images/${encodeURIComponent(id)}/restore`)));
    tell("restored", ids);
    announce("Restored.");
  } catch (problem) {
    say(problem);
  }
}

/** Save pictures as files; by the share sheet on a phone that has one for files. */
export async function download(ids) {
  if (matchMedia("(pointer: coarse)").matches && navigator.canShare && await shared(ids)) return;
  for (const id of ids) {
    const link = h("a", { href: `${pictureUrl(id)}?download=1`, download: "" });
    document.body.append(link);
    link.click();
    link.remove();
  }
}

async function shared(ids) {
  try {
    const files = await Promise.all(ids.map(async (id) =>
      new File([await (await fetch(pictureUrl(id))).blob()], `darkroom-${id}.png`, { type: "image/png" })));
    if (!navigator.canShare({ files })) return false;
    await navigator.share({ files });
    return true;
  } catch (problem) {
    return problem instanceof DOMException && problem.name === "AbortError";
  }
}

/**
 * Put a picture's settings into the form and show it.
 * @param {{id: string, seed: string, recipe?: any}} picture
 * @param {number} count how many pictures the form should ask for
 */
export async function useSettings(picture, count = 1) {
  try {
    const { recipe, seed } = picture.recipe ? picture : await recipeOf(picture.id);
    await fillForm({ negative_prompt: "", clip_skip: 1, ...recipe },
      { seed, count, words: `Settings of picture ${seed} are in the form.` });
  } catch (problem) {
    say(problem);
  }
}

// One that was enlarged has no recipe of its own, but its parent has.
async function recipeOf(id) {
  const record = await get(`/images/${encodeURIComponent(id)}/record`);
  if (record.recipe) return record;
  return record.parent ? recipeOf(record.parent) : { recipe: await get(`/images/${encodeURIComponent(id)}/recipe`) };
}

/** Say what went wrong where nothing else on the page can. No connection is said in its own place. */
export function say(problem) {
  if (problem instanceof Refused) offerUndo(`${problem.message} ${problem.hint}`.trim(), null);
  else if (!(problem instanceof Unreachable)) throw problem;
}

/** F, U, D and Delete on the picture that has the focus. */
export function pictureKeys(event, record, afterRemove) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea")) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const act = {
    f: () => favorite([record.id], !record.favourite), u: () => useSettings(record),
    d: () => download([record.id]), Delete: () => { afterRemove(); remove([record.id]); },
  }[key];
  if (!act) return;
  event.preventDefault();
  act();
}
