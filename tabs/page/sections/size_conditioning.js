// What SDXL models are told of the picture's size, and the refiner of its worth: empty is as the picture is.

import { config } from "../core/config.js";
import { entry } from "../form/bound.js";
import { form, partOf, typed } from "../form/form.js";
import { ranged } from "../form/rules.js";
import { section } from "../form/section.js";
import { h } from "../ui/dom.js";

const PART = "size_conditioning";
const of = (name) => `${PART}.${name}`;
const PAIRS = [
  ["original_width", "original_height"],
  ["crop_left", "crop_top"],
  ["target_width", "target_height"],
];
const SCORES = ["aesthetic_score", "negative_aesthetic_score"];
const FIELDS = [...PAIRS.flat(), ...SCORES].map(of);

const isTold = ({ model }) => config.told_families.includes(model?.family);
const isScored = (now) => config.scored_families.includes(now.model?.family) || Boolean(now["refiner.model"]);
const filled = (now) => FIELDS.filter((path) => String(now[path] ?? "").trim());

/** The closed line and its numbers, to stand in a section. */
export function sizeConditioning() {
  const number = (name) => entry(of(name), { inputmode: "decimal", placeholder: "As it is" });
  const body = () => {
    const scores = h("div.pair", {}, ...SCORES.map(number));
    form.watch((now) => {
      scores.hidden = !isScored(now);
    });
    return [h("p.explain", {}, config.explain[PART]), ...PAIRS.map((pair) => h("div.pair", {}, ...pair.map(number))), scores];
  };
  const details = section({
    name: PART,
    title: config.labels[PART],
    fields: FIELDS,
    summary: (now) => (filled(now).length ? `${filled(now).length} set` : ""),
    body,
  });
  form.watch((now) => {
    details.hidden = !isTold(now);
  });
  return details;
}

/** What they add to the recipe. @type {import("../form/recipe_parts.js").RecipePart} */
export const sizeConditioningPart = {
  write: (draft, now) => {
    if (isTold(now) && filled(now).length) draft[PART] = partOf(PART, now);
  },
  read: (recipe, patch) => {
    for (const path of FIELDS) patch[path] = typed(recipe[PART]?.[path.slice(PART.length + 1)] ?? null);
  },
  rules: Object.fromEntries(
    FIELDS.map((path) => [
      path,
      (now) => (isTold(now) && filled(now).includes(path) ? ranged(path, now[path], !path.endsWith("score")) : null),
    ]),
  ),
};

/** For the closed section. */
export const sizeConditioningSummary = (now) => (isTold(now) && filled(now).length ? "size conditioning" : "");

/** For a list of what a picture was made with. */
export const sizeConditioningWords = (told) =>
  Object.entries(told)
    .filter(([, value]) => value !== null)
    .map(([name, value]) => `${config.labels[of(name)].toLowerCase()} ${value}`)
    .join(", ");
