// What can be done with finished pictures, from the result pane, the gallery and the lightbox alike.

import { get, inWords, pictureUrl, post, request } from "../core/api.js";
import { tell } from "../core/image_news.js";
import { say } from "../core/toast.js";
import { some } from "../core/words.js";
import { fillForm } from "../form/recipe_fill.js";
import { h } from "../ui/dom.js";
import { announce } from "../ui/live.js";
import { plainKey } from "../ui/shortcut.js";
import { extendUndo, isOffered, offerUndo } from "../ui/undo_bar.js";

/** Mark pictures as favorites, or take the mark off; shown at once, taken back if the server says no. */
export async function favorite(ids, isOn) {
  tell("changed", ids, { favorite: isOn });
  announce(isOn ? "Favorite." : "No longer a favorite.");
  try {
    await Promise.all(
      ids.map((id) => request("PUT", `/images/${encodeURIComponent(id)}/favorite`, { favorite: isOn })),
    );
  } catch (problem) {
    tell("changed", ids, { favorite: !isOn });
    say(problem);
  }
}

/** What the bar that stands now offers to bring back: all that was deleted while it stood. */
let deleted = { ids: /** @type {string[]} */ ([]), undo: /** @type {(() => void)|null} */ (null) };

/** Delete pictures at once, with Undo for as long as the bar stands; further ones join what it brings back. */
export async function remove(ids) {
  tell("removed", ids);
  const results = await Promise.allSettled(ids.map((id) => request("DELETE", `/images/${encodeURIComponent(id)}`)));
  const gone = ids.filter((_, at) => results[at].status === "fulfilled");
  const kept = ids.filter((id) => !gone.includes(id));
  if (kept.length) tell("restored", kept);
  const failure = /** @type {PromiseRejectedResult|undefined} */ (results.find((one) => one.status === "rejected"));
  if (!gone.length) {
    if (failure) say(failure.reason);
    return;
  }
  offerBack(gone, failure ? ` ${some(kept.length, "picture")} could not be: ${inWords(failure.reason).message}` : "");
}

function offerBack(gone, but) {
  const isJoined = isOffered(deleted.undo);
  const all = isJoined ? [...deleted.ids, ...gone] : gone;
  const undo = () => restore(all);
  deleted = { ids: all, undo };
  const sentence = `Deleted ${some(all.length, "picture")}.${but}`;
  announce(`${sentence} Undo is at the foot of the page.`);
  (isJoined ? extendUndo : offerUndo)(sentence, undo);
}

async function restore(ids) {
  const results = await Promise.allSettled(ids.map((id) => post(`/images/${encodeURIComponent(id)}/restore`)));
  const back = ids.filter((_, at) => results[at].status === "fulfilled");
  if (back.length) tell("restored", back);
  const failure = /** @type {PromiseRejectedResult|undefined} */ (results.find((one) => one.status === "rejected"));
  if (failure) say(failure.reason);
  else announce("Restored.");
}

/** Save pictures as files; by the share sheet on a phone that has one for files. */
export async function download(ids) {
  if (matchMedia("(pointer: coarse)").matches && "canShare" in navigator && (await shared(ids))) return;
  for (const id of ids) {
    const link = h("a", { href: `${pictureUrl(id)}?download=1`, download: "" });
    document.body.append(link);
    link.click();
    link.remove();
  }
}

async function shared(ids) {
  try {
    const files = await Promise.all(
      ids.map(
        async (id) =>
          new File([await (await fetch(pictureUrl(id))).blob()], `darkroom-${id}.png`, { type: "image/png" }),
      ),
    );
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
    await fillForm(
      { negative_prompt: "", clip_skip: 1, emphasis: "original", ...recipe },
      { seed, count, words: `Settings of picture ${seed} are in the form.` },
    );
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

/** F, U, D and Delete on the picture that has the focus. */
export function pictureKeys(event, record, afterRemove) {
  if (event.target.closest("input, textarea")) return;
  const act = {
    f: () => favorite([record.id], !record.favorite),
    u: () => useSettings(record),
    d: () => download([record.id]),
    Delete: () => {
      afterRemove();
      remove([record.id]);
    },
  }[plainKey(event)];
  if (!act) return;
  event.preventDefault();
  act();
}
