// What is to be said of the tags in a prompt, <lora:ink:0.8> and <hypernet:bend:1>: names that are not here or don't
// fit.

import { embeddings, hypernetworks, loraModels } from "../form/parts_list.js";
import { misfit } from "../lora/lora_units.js";
import { nearest } from "./tokens.js";

const TAG = /<(lora|lyco|hypernet):([^<>:\n]+)(?::[^<>\n]*)?>|#[^\n]*/gi; // or a comment
const LISTS = { lora: loraModels, lyco: loraModels, hypernet: hypernetworks };

/** The tags of a text: {kind, name}. */
const tagsIn = (text) =>
  [...text.matchAll(TAG)]
    .filter(([, kind]) => kind)
    .map(([, kind, name]) => ({ kind: kind.toLowerCase(), name: name.trim() }));

const stem = (name) => name.toLowerCase().replace(/\.safetensors$/, "");
const isNamed = (model, wanted) =>
  [model.name, model.name.split("/").pop(), model.title, model.alias].some((name) => name && stem(name) === wanted);

/** One line on the first tag that is wrong, else "". Asks for the lists when there is a tag. */
export function tagNote(text, main) {
  for (const { kind, name } of tagsIn(text)) {
    const models = LISTS[kind];
    models.refresh();
    const { items, isKnown } = models.state.get();
    if (!isKnown) continue;
    const model = items.find((one) => isNamed(one, stem(name)));
    const shown = `<${kind}:${name}>`;
    if (!model) {
      const near = nearest(
        stem(name),
        items.map((one) => one.name.split("/").pop()),
      );
      return `${shown} is not here.${near.length ? ` Near: ${near.join(", ")}.` : ""}`;
    }
    if (model.problem) return `${shown}: ${model.problem}`;
    const wrong = misfit(model, main);
    if (wrong) return wrong;
  }
  return "";
}

/** Call when a list has come. */
export const onTagLists = (draw) =>
  [loraModels, hypernetworks, embeddings].forEach((models) => models.state.later(draw));

/** Names of embeddings, lower case: in a prompt they mean something. Asks for them once there is cause. */
export function embeddingNames() {
  embeddings.refresh();
  return new Set(
    embeddings.state
      .get()
      .items.flatMap(({ name }) => [name, name.split("/").pop()])
      .map((name) => name.toLowerCase()),
  );
}
