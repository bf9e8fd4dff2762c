// Which VAE turns latents into pixels: the checkpoint's own, or one from a list.

import { config } from "../core/config.js";
import { list } from "../form/bound.js";
import { vaes } from "../form/parts_list.js";

/** The list, to stand in a section. */
export function vaeField() {
  vaes.refresh();
  const box = list("vae", () => [
    ["", "Automatic"],
    ...vaes.state
      .get()
      .items.filter((one) => !one.problem)
      .map((one) => [one.name, one.title]),
  ]);
  vaes.state.later(() => box.dispatchEvent(new Event("offer")));
  return box;
}

/** What it adds to the recipe. @type {import("../form/recipe_parts.js").RecipePart} */
export const vaePart = {
  write: (draft, { vae }) => {
    if (vae) draft.vae = vae;
  },
  read: ({ vae }, patch) => {
    patch.vae = vae?.name ?? vae ?? "";
  },
  rules: { vae: () => null },
};

/** For the closed section. */
export const vaeSummary = ({ vae }) => (vae ? `${config.labels.vae} ${vae.split("/").pop()}` : "");
