// What prompts can name: LoRAs, hypernetworks and embeddings. Each list is asked for once there is cause.

import { embeddings, hypernetworks, loraModels } from "../form/parts_list.js";

const CAUSES = [
  { cause: /<(?:lora|lyco):/i, models: loraModels },
  { cause: /<hypernet:/i, models: hypernetworks },
  { cause: /\bembedding:/i, models: embeddings },
];

/** What there is, for the linter. @param {string} text @param {boolean} isPasted @returns {import("./lint.js").Known} */
export function knownFor(text, isPasted) {
  for (const { cause, models } of CAUSES) if (cause.test(text)) models.refresh();
  return {
    loras: loraModels.state.get(),
    hypernetworks: hypernetworks.state.get(),
    embeddings: embeddings.state.get(),
    isPasted,
  };
}

/** Call when a list has come. */
export const onPromptLists = (draw) => CAUSES.forEach(({ models }) => models.state.later(draw));

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
