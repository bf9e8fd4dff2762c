// What a sampler, its schedule and the noise are set to, where it is not their own default; rarely touched.

import { config, samplerOf } from "../core/config.js";
import { choice, entry, list, slider, toggle } from "../form/bound.js";
import { change, form, number, partOf, typed } from "../form/form.js";
import { joinRecipe } from "../form/recipe_parts.js";
import { ranged } from "../form/rules.js";
import { section } from "../form/section.js";
import { h } from "../ui/dom.js";

const SOURCES = [
  ["darkroom", "Darkroom"],
  ["nv", "A1111, NVIDIA card"],
  ["cpu", "A1111, CPU"],
  ["comfyui", "ComfyUI"],
];
const DISCARD = "sampling.discard_penultimate";
const OF_SAMPLER = ["eta", "s_churn", "s_tmin", "s_tmax", "s_noise"];
const OF_SCHEDULE = ["sigma_min", "sigma_max", "rho"];
const VARIATION = "noise.variation_strength";
const WALK = "noise.walk_from"; // where a walk to the variation's seed begins; empty without one
const WALKS = [4, 8, 12, 16].map((count) => [count, String(count)]);
const USUAL_WALK = 8;

const paths = (part) => Object.keys(config.defaults).filter((path) => path.startsWith(`${part}.`));
const isSet = (now, path) => now[path] !== undefined && now[path] !== typed(config.defaults[path]);

/** Numbers, the noise's source and its variation. */
export function sampling_section(element) {
  const fields = [...paths("sampling"), ...paths("noise")];
  element.replaceChildren(
    section({
      name: "sampling",
      title: "Sampling and noise",
      fields,
      summary: (now) =>
        fields
          .filter((path) => isSet(now, path))
          .map((path) => `${config.labels[path]} ${now[path]}`)
          .join(", "),
      body,
    }),
  );
  joinRecipe("sampling_section", { write, read, rules: rules() });
}

function body() {
  const ofSampler = OF_SAMPLER.map((name) => ({ name, box: ownNumber(`sampling.${name}`) }));
  form.watch(({ sampler }) => {
    for (const { name, box } of ofSampler) box.hidden = !samplerOf(sampler)?.settings.includes(name);
  });
  return [
    list("noise.source", () => SOURCES),
    h("div.pair", {}, ownNumber("noise.variation_seed"), slider(VARIATION, 0.01)),
    ...walk(),
    h("div.pair", {}, ownNumber("noise.resize_width"), ownNumber("noise.resize_height")),
    h("div.pair", {}, ownNumber("noise.eta_seed_delta"), ownNumber("noise.batch_index")),
    ...ofSampler.map(({ box }) => box),
    ...OF_SCHEDULE.map((name) => ownNumber(`sampling.${name}`)),
    list(DISCARD, () => [
      ["", "As the sampler does"],
      ["true", "Yes"],
      ["false", "No"],
    ]),
  ];
}

// The pictures of a job on their way from the seed to the variation's.
function walk() {
  const isOn = toggle(WALK, "Walk to the other seed, picture by picture", {
    get: (now) => now[WALK],
    set: (on) => change(on ? walkThere(form.get()) : stayHere(form.get())),
    standard: () => "",
    judge: () => judgeWalk(form.get()),
    field: WALK,
  });
  const pictures = choice("walk", WALKS, "Pictures on the way", {
    get: (now) => now.count,
    set: (count) => change({ count }),
    standard: () => USUAL_WALK,
    judge: () => null,
    field: "walk",
  });
  form.watch((now) => {
    pictures.hidden = !now[WALK];
  });
  return [isOn, pictures];
}

/** @param {any} now */
const walkThere = ({ count, [VARIATION]: strength }) => ({
  [WALK]: "0",
  ...(number(strength) === 0 && { [VARIATION]: "1" }),
  ...(count === 1 && { count: USUAL_WALK }),
});

/** @param {any} now */
const stayHere = ({ [VARIATION]: strength }) => ({ [WALK]: "", ...(number(strength) === 1 && { [VARIATION]: "0" }) });

/** @param {any} now */
function judgeWalk({ count, [WALK]: from, [VARIATION]: strength }) {
  if (!from) return null;
  if (count === 1)
    return {
      text: "A walk to another seed has one picture.",
      fixes: [{ label: `Make ${USUAL_WALK}`, patch: { count: USUAL_WALK } }],
    };
  if (number(strength) !== number(from)) return null;
  return {
    text: `The walk begins and ends at variation strength ${from}.`,
    fixes: [{ label: "End at 1", patch: { [VARIATION]: "1" } }],
  };
}

// A number or nothing.
const ownNumber = (path) => entry(path, { inputmode: "decimal", placeholder: "Its own" });

function write(draft, now) {
  const offered = samplerOf(now.sampler)?.settings ?? [];
  const sampling = Object.fromEntries(
    Object.entries(partOf("sampling", now)).filter(([name]) => !OF_SAMPLER.includes(name) || offered.includes(name)),
  );
  if (now[DISCARD]) sampling.discard_penultimate = now[DISCARD] === "true";
  if (Object.keys(sampling).length) draft.sampling = sampling;
  const noise = Object.fromEntries(
    Object.entries(partOf("noise", now)).filter(([name]) => isSet(now, `noise.${name}`)),
  );
  if (!noise.variation_strength && !noise.walk_from) delete noise.variation_seed;
  if (Object.keys(noise).length) draft.noise = noise;
}

function read(recipe, patch) {
  for (const part of ["sampling", "noise"])
    for (const path of paths(part)) {
      const value = recipe[part]?.[path.slice(part.length + 1)] ?? config.defaults[path];
      patch[path] = typeof value === "boolean" ? String(value) : typed(value);
    }
}

function rules() {
  const judged = [...paths("sampling"), ...paths("noise")].filter((path) => path in config.limits);
  /** @type {Object<string, (values: any) => import("../form/rules.js").Problem|null>} */
  const found = {};
  for (const path of judged)
    found[path] = (now) => {
      const isEmpty = String(now[path] ?? "").trim() === "" && config.defaults[path] === null;
      return isEmpty || (path === VARIATION && number(now[path]) === 0) ? null : ranged(path, now[path]);
    };
  found[WALK] = judgeWalk;
  return found;
}
