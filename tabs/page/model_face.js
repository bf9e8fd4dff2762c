// How a model is shown, in the row and on a card: its picture, and one line of facts.

import { modelPictureUrl } from "./api.js";
import { familyLabel } from "./config.js";
import { h } from "./dom.js";
import { engine } from "./engine.js";
import { bytes } from "./words.js";

/** "SD 1.x · 24 MB · in memory". */
export function modelLine(model) {
  if (model.problem) return model.problem;
  const isResident = engine.get()?.resident?.includes(model.name);
  return [familyLabel(model.family), bytes(model.size_bytes), isResident && "in memory"].filter(Boolean).join(" · ");
}

/** A model's picture, or the first two letters of its name. */
export function modelPicture(model, tag) {
  const letters = h(`span.${tag}`, { "aria-hidden": "true" }, model.title.slice(0, 2));
  if (!model.has_preview) return letters;
  return h(`img.${tag}`, { src: modelPictureUrl(model.name), alt: "", loading: "lazy", onerror: (event) => event.target.replaceWith(letters) });
}
