// How a model is shown, in the row and on a card: its picture, one line of facts, and what having it ready takes.

import { modelPictureUrl } from "../core/api.js";
import { familyLabel } from "../core/config.js";
import { engine } from "../core/engine.js";
import { keep, recall } from "../core/store.js";
import { bytes, left } from "../core/words.js";
import { h } from "../ui/dom.js";

/** Kinds of models in the order they are shown, as headings name them. */
export const KINDS = {
  checkpoint: "Checkpoints",
  lora: "LoRAs",
  embedding: "Embeddings",
  vae: "VAEs",
  controlnet: "ControlNets",
  t2i_adapter: "T2I-Adapters",
  ip_adapter: "IP-Adapters",
  upscaler: "Upscalers",
  hypernetwork: "Hypernetworks",
};

/** The same of one. */
export const KIND = {
  checkpoint: "Checkpoint",
  lora: "LoRA",
  embedding: "Embedding",
  vae: "VAE",
  controlnet: "ControlNet",
  t2i_adapter: "T2I-Adapter",
  ip_adapter: "IP-Adapter",
  upscaler: "Upscaler",
  hypernetwork: "Hypernetwork",
};

const LEAST_MEASURED_BYTES = 200_000_000; // a small one says more of the beginning than of the reading
/** Bytes a second at which the engine reads models, as it was last seen to. */
let readRate = recall("readRate", 0);

engine.later((status) => {
  const read = (status?.models ?? []).filter((model) => model.load_s > 0 && model.bytes >= LEAST_MEASURED_BYTES);
  if (!read.length) return;
  readRate = read.reduce((all, model) => all + model.bytes, 0) / read.reduce((all, model) => all + model.load_s, 0);
  keep("readRate", readRate);
});

/** "SD 1.x · 24 MB · in memory". */
export function modelLine(model) {
  if (model.problem) return model.problem;
  const ready = memoryWords(model);
  return [
    model.family_label || familyLabel(model.family),
    bytes(model.size_bytes),
    ready && ready[0].toLowerCase() + ready.slice(1),
  ]
    .filter(Boolean)
    .join(" · ");
}

/** "In memory", "Loads in about 9 s", or nothing where that is not known. */
export function memoryWords(model) {
  const status = engine.get();
  const kind = model.kind ?? "checkpoint";
  const resident = status?.models?.find((one) => one.name === model.name && one.kind === kind);
  if (resident) return resident.place === "coming" ? "Being read" : "In memory";
  if (kind !== "checkpoint" || model.problem) return "";
  if (status?.resident?.includes(model.name)) return "In memory";
  return readRate ? `Loads in about ${left(Math.max(1, model.size_bytes / readRate))}` : "";
}

/** A model's picture, or the first two letters of its name. */
export function modelPicture(model, tag) {
  const letters = h(`span.${tag}`, { "aria-hidden": "true" }, model.title.slice(0, 2));
  if (!model.has_preview) return letters;
  return h(`img.${tag}`, {
    src: modelPictureUrl(model.name, model.kind),
    alt: "",
    loading: "lazy",
    onerror: (event) => event.target.replaceWith(letters),
  });
}
