// LoRAs and hypernetworks that are listed in the form: what is wrong with one, and how they go into a recipe and back.

import { config, familyLabel } from "../core/config.js";
import { short, some } from "../core/words.js";
import { form, typed } from "../form/form.js";
import { hypernetworks, loraModels } from "../form/parts_list.js";
import { ranged } from "../form/rules.js";
import { emptyUnit, firstUnitProblem, unitFields, unitsOf } from "../form/units.js";

/** The lists of a part's models. */
export const LISTS = { loras: loraModels, hypernetworks };

const LABEL = { lora: "LoRA", hypernetwork: "Hypernetwork" };

/** Why a model of a list doesn't go with the chosen checkpoint, else "". @param {any} model @param {any} main */
export function misfit(model, main) {
  if (!main || model.family === main.family || !config.families[model.family]) return "";
  const label = familyLabel(model.family);
  return (
    `${LABEL[model.kind]} “${model.title}” is for ${label}; ${main.title} is ${familyLabel(main.family)}. ` +
    `Choose ${label.startsWith("SD") ? "an" : "a"} ${label} model or remove it.`
  );
}

const says = (text) => ({ text, fixes: [] });

/** What is wrong with one value of a unit. */
export function judgeNet(part, unit, name) {
  if (name === "weight") return ranged(`${part}.weight`, unit.weight);
  if (name === "text_weight") return unit.text_weight?.trim() ? ranged(`${part}.text_weight`, unit.text_weight) : null;
  if (name !== "model" || !unit.model) return null;
  const { isKnown } = LISTS[part].state.get();
  const model = LISTS[part].find(unit.model);
  if (!model)
    return isKnown ? says(`${config.labels[part]} “${unit.model}” is not here. Put it back, or remove it.`) : null;
  if (model.problem) return says(`${model.problem} ${model.hint}`.trim());
  const text = misfit(model, form.get().model);
  return text ? says(text) : null;
}

/** The rule of a whole part. */
export const netRule = (part) => (values) => firstUnitProblem(part, values, (unit, name) => judgeNet(part, unit, name));

/** Put the units that name a model into a draft. */
export function writeNets(draft, values) {
  for (const part of Object.keys(LISTS)) {
    const used = unitsOf(part, values).filter((unit) => unit.model);
    if (!used.length) continue;
    draft[part] = used.map((unit) => ({
      ...unitFields(part, unit),
      model: unit.model,
      ...(unit.blocks?.length ? { blocks: unit.blocks } : {}),
    }));
  }
}

/** Take the units of a recipe over. */
export function readNets(recipe, patch) {
  for (const part of Object.keys(LISTS)) {
    patch[part] = (recipe[part] ?? []).map((one) => {
      const values = ["weight", "text_weight"]
        .filter((name) => one[name] !== undefined)
        .map((name) => [name, typed(one[name])]);
      return {
        ...emptyUnit(part),
        ...Object.fromEntries(values),
        blocks: one.blocks ?? [],
        model: one.model.name ?? one.model,
      };
    });
  }
}

/** For the closed section: one by name and weight, several by their number. */
export function netSummary(values) {
  const used = unitsOf("loras", values).filter((unit) => unit.model);
  const nets = unitsOf("hypernetworks", values).filter((unit) => unit.model);
  if (used.length === 1 && !nets.length)
    return `${used[0].model.split("/").pop()} ${short(Number(used[0].weight) || 0)}`;
  return [used.length && some(used.length, "LoRA"), nets.length && some(nets.length, "hypernetwork")]
    .filter(Boolean)
    .join(", ");
}
