// What a section adds to the recipe: written into drafts, read from recipes, judged before Generate.

import { config } from "../core/config.js";

/**
 * @typedef {Object} RecipePart
 * @property {(draft: any, values: any) => void|Promise<void>} [write] put the part into a draft; may upload
 *   pictures first
 * @property {(recipe: any, patch: any) => void|string|Promise<void|string>} [read] put it from a recipe (which may
 *   lack it) into a patch of the form; a sentence says what is missing
 * @property {Object<string, (values: any) => import("./rules.js").Problem|null>} [rules] by field, from top to bottom
 */

/** @type {Map<string, RecipePart[]>} */
const parts = new Map();

/** A section says what it adds, when it is filled: one part or several. They count on the tabs that show the section. */
export function joinRecipe(section, ...joining) {
  parts.set(section, joining);
}

/** The parts of a tab, in its order. */
export const partsOf = (tab) => config.sections[tab].flatMap((name) => parts.get(name) ?? []);

/** The parts of all tabs. */
export const allParts = () => [...parts.values()].flat();
