// Seamless tiling: around which sides the picture goes on, so that copies of it fit together.

import { config } from "../core/config.js";
import { list } from "../form/bound.js";

const AXES = { "": "Off", xy: "Both ways", x: "Side by side", y: "One above the other" };

/** The list, to stand in a section. */
export const tilingField = () => list("tiling", () => Object.entries(AXES));

/** What it adds to the recipe. @type {import("../form/recipe_parts.js").RecipePart} */
export const tilingPart = {
  write: (draft, { tiling }) => {
    if (tiling) draft.tiling = tiling;
  },
  read: ({ tiling }, patch) => {
    patch.tiling = tiling ?? "";
  },
  rules: { tiling: () => null },
};

/** As a row says it, "Both ways"; "" for none. */
export const tilingWords = (tiling) => (tiling ? AXES[tiling] : "");

/** For the closed section. */
export const tilingSummary = ({ tiling }) => (tiling ? config.labels.tiling.toLowerCase() : "");
