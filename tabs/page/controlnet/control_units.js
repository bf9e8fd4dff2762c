// ControlNet units: what is wrong with one, and how they go into a recipe and come out of it.

import { Refused } from "../core/api.js";
import { config, familyLabel } from "../core/config.js";
import { modelTitle } from "../core/model_list.js";
import { formTab } from "../core/route.js";
import { findUpload, refOf } from "../core/uploads.js";
import { some } from "../core/words.js";
import { form, number, typed } from "../form/form.js";
import { controlModels, preprocessors } from "../form/parts_list.js";
import { ranged } from "../form/rules.js";
import { emptyUnit, firstUnitProblem, isBlank, takeIntoUnit, unitFields, unitsOf } from "../form/units.js";

const NEEDS = "ControlNet needs a picture that says where things go. Drop one, paste it, or choose a file.";
const FOLDER =
  "Put a ControlNet or a T2I-Adapter (its folder, or one .safetensors file) into models/; it appears here by itself.";

/** What is said where there is no model for controls. */
export const noControlModel = () => `No ControlNet model is here. ${FOLDER}`;

/**
 * Take a picture as the control of a unit.
 * @returns {string} the field where it is now
 * @throws {Refused} every unit has one
 */
export function takeControl(picture) {
  const index = takeIntoUnit("controls", picture);
  if (index >= 0) return `controls.image-${index}`;
  throw new Refused(
    {
      code: "controls_full",
      message: `All ${config.limits.controls} units of ControlNet have a picture.`,
      hint: "Remove one first.",
    },
    0,
  );
}

const says = (text) => ({ text, fixes: [] });

/** Whether a model reads the picture of a unit; a reference is shown to the checkpoint itself. */
export const needsModel = (unit) => preprocessors.find(unit?.preprocessor)?.needs_model !== false;

/** What is wrong with one value of a unit. */
export function judgeControl(unit, name) {
  if (isBlank(unit)) return null;
  switch (name) {
    case "model":
      return needsModel(unit) ? judgeModel(unit.model) : null;
    case "image":
      return unit.image ? null : says(NEEDS);
    case "preprocessor": {
      const found = preprocessors.find(unit.preprocessor);
      return found && !found.installed
        ? says(`${found.label} is not installed. Put its files in place, or choose another.`)
        : null;
    }
    case "end":
      return ranged("controls.end", unit.end) ?? judgeSpan(unit);
    case "start":
    case "weight":
      return ranged(`controls.${name}`, unit[name]);
    case "resolution":
      return unit.resolution.trim() === "" ? null : ranged("controls.resolution", unit.resolution, true);
    case "low":
    case "high":
      return judgeThreshold(unit, name);
    default:
      return null;
  }
}

function judgeModel(name) {
  const { items, isKnown } = controlModels.state.get();
  if (!name) return says(isKnown && !items.length ? noControlModel() : "Choose the model that reads the picture.");
  const model = controlModels.find(name);
  if (isKnown && !model) return says(`“${name}” is not here. Choose another.`);
  if (model?.problem) return says(`${model.problem} ${model.hint}`.trim());
  const main = form.get().model;
  if (!model || !main || model.family === main.family || model.family === "unknown") return null;
  const [its, ours] = [familyLabel(model.family), familyLabel(main.family)];
  return says(`“${model.title}” is for ${its}; ${main.title} is ${ours}. Choose another.`);
}

function judgeSpan({ start, end }) {
  if (number(start) < number(end)) return null;
  return says(`It begins at ${start} of the steps and ends at ${end}. Let it begin before it ends.`);
}

function judgeThreshold(unit, name) {
  const option = preprocessors.find(unit.preprocessor)?.[name];
  if (!option || unit[name].trim() === "") return null;
  const value = number(unit[name]);
  return value >= option.least && value <= option.most
    ? null
    : says(`${option.label} is ${unit[name]}. Use ${option.least} to ${option.most}.`);
}

/** The rule of the whole part. The ControlNet tab wants one; elsewhere none is fine. */
export function controlRule(values) {
  const used = unitsOf("controls", values).filter((unit) => !isBlank(unit));
  if (!used.length) return formTab() === "controlnet" ? { ...says(NEEDS), at: "controls.image-0" } : null;
  return firstUnitProblem("controls", values, judgeControl);
}

/** Put the units that are used into a draft. */
export function writeControls(draft, values) {
  const used = unitsOf("controls", values).filter((unit) => !isBlank(unit));
  if (!used.length) return;
  draft.controls = used.map((unit) => {
    /** @type {Object<string, any>} */
    const fields = { ...unitFields("controls", unit), model: unit.model, image: refOf(unit.image) };
    const facts = preprocessors.find(unit.preprocessor);
    if (!needsModel(unit)) delete fields.model;
    for (const name of ["low", "high"]) if (facts && !facts[name]) delete fields[name];
    if (unit.pixel_perfect || (facts && !facts.has_resolution)) delete fields.resolution;
    return fields;
  });
}

/** Take the units of a recipe over. */
export async function readControls({ controls = [] }, patch) {
  const pictures = await Promise.all(controls.map((control) => findUpload(control.image.sha256)));
  patch.controls = controls.map((control, index) => {
    const unit = emptyUnit("controls");
    for (const name of Object.keys(unit))
      if (control[name] !== undefined && name !== "image") unit[name] = typed(control[name]);
    return {
      ...unit,
      model: typeof control.model === "string" ? control.model : (control.model?.name ?? ""),
      image: pictures[index],
    };
  });
  return pictures.includes(null) ? "A control picture is not here any more. Add it again." : "";
}

/** For the closed section: the model's name, or how many units. */
export function controlSummary(values) {
  const used = unitsOf("controls", values).filter((unit) => !isBlank(unit));
  if (!used.length) return "";
  return used.length === 1 && used[0].model ? modelTitle(used[0].model) : some(used.length, "unit");
}
