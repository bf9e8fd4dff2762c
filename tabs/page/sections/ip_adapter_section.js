// Pictures as prompts (IP-Adapter): each with its model, its weight, and the span of steps in which it counts.

import { config, familyLabel } from "../core/config.js";
import { findUpload, refOf } from "../core/uploads.js";
import { some } from "../core/words.js";
import { list, showProblem, slider } from "../form/bound.js";
import { form, number, typed } from "../form/form.js";
import { referenceModels } from "../form/parts_list.js";
import { joinRecipe } from "../form/recipe_parts.js";
import { ranged } from "../form/rules.js";
import { section } from "../form/section.js";
import { addUnit, emptyUnit, firstUnitProblem, isBlank, removeUnit, setUnit, unitFields } from "../form/units.js";
import { unitsOf, unitVia, wholeVia } from "../form/units.js";
import { button, field, h } from "../ui/dom.js";
import { dropArea } from "./drop_area.js";

const PART = "ip_adapters";
const NONE =
  "No IP-Adapter is here. Put one (.safetensors, with its image encoder) into models/; it appears here by itself.";
const says = (text) => ({ text, fixes: [] });
const used = (values) => unitsOf(PART, values).filter((unit) => !isBlank(unit));

/** Fill the part. */
export function ip_adapter_section(element) {
  element.replaceChildren(
    section({
      name: PART,
      title: config.labels[PART],
      fields: [PART],
      body,
      summary: (values) => (used(values).length ? some(used(values).length, "picture") : ""),
    }),
  );
  joinRecipe("ip_adapter_section", {
    write,
    read,
    rules: { ip_adapters: (values) => firstUnitProblem(PART, values, judge) },
  });
}

function judge(unit, name) {
  if (isBlank(unit)) return null;
  const { items, isKnown } = referenceModels.state.get();
  if (name === "model" && !unit.model)
    return says(isKnown && !items.length ? NONE : "Choose the IP-Adapter that reads the picture.");
  if (name === "image" && !unit.image)
    return says("A picture as prompt needs the picture. Drop one, paste it, or choose a file.");
  if (name === "weight" || name === "start") return ranged(`${PART}.${name}`, unit[name]);
  if (name !== "end") return null;
  const isBehind = number(unit.start) < number(unit.end);
  return (
    ranged(`${PART}.end`, unit.end) ??
    (isBehind
      ? null
      : says(`It begins at ${unit.start} of the steps and ends at ${unit.end}. Let it begin before it ends.`))
  );
}

function body() {
  referenceModels.refresh();
  const none = h("p.hint", { hidden: true }, NONE);
  const units = h("div.units", {});
  const add = button({ label: "Add a picture", icon: "plus", kind: "outlined", onclick: () => addUnit(PART) });
  referenceModels.state.watch(({ items, isKnown }) => {
    none.hidden = !isKnown || items.length > 0;
  });
  const made = [];
  form.watch((now) => {
    const count = unitsOf(PART, now).length;
    while (made.length < count) {
      made.push(makeUnit(made.length));
      units.append(made.at(-1));
    }
    made.forEach((unit, index) => {
      unit.hidden = index >= count;
    });
    add.hidden = count >= config.limits[PART];
  });
  const problem = h("p.problem", { hidden: true, id: "ip_adapters-problem" });
  showProblem(PART, add, problem, wholeVia(PART));
  return [none, units, add, problem];
}

function makeUnit(index) {
  const via = (name) => unitVia(PART, index, name, judge);
  const title = `Picture ${index + 1}`;
  const area = dropArea({
    label: `${config.labels[PART]} ${index + 1}`,
    onpicture: (picture) => setUnit(PART, index, { image: picture }),
    onremove: () => setUnit(PART, index, { image: null }),
  });
  const picture = field(via("image").field, "Picture", area.element, { note: config.explain[PART] });
  showProblem(`${PART}.image`, area.element, picture.problem, via("image"));
  form.watch(() => area.show(unitsOf(PART)[index]?.image ?? null));
  const model = list(
    `${PART}.model`,
    () => {
      const { items } = referenceModels.state.get();
      return [
        ["", items.length ? "Choose an IP-Adapter" : "None is here"],
        ...items.map((one) => [
          one.name,
          [one.title, familyLabel(one.family), one.detail].filter(Boolean).join(" · "),
        ]),
      ];
    },
    "IP-Adapter",
    via("model"),
  );
  const ofFaces = h("p.hint", { hidden: true }, "It is for faces: use a picture of little more than the face.");
  const drawHint = () => {
    const chosen = referenceModels.find(unitsOf(PART)[index]?.model ?? "");
    ofFaces.hidden = !/face/i.test(`${chosen?.title} ${chosen?.detail}`);
  };
  form.watch(drawHint);
  referenceModels.state.later(() => {
    model.dispatchEvent(new Event("offer"));
    drawHint();
  });
  const span = (name, label) => slider(`${PART}.${name}`, 0.05, { label }, via(name));
  return h(
    "section.unit",
    { "aria-label": title },
    h(
      "div.unit-head",
      {},
      h("h3", {}, title),
      button({
        label: `Remove picture ${index + 1}`,
        icon: "trash",
        words: false,
        onclick: () => removeUnit(PART, index),
      }),
    ),
    picture.box,
    model,
    ofFaces,
    slider(`${PART}.weight`, 0.05, { from: 0, to: 2 }, via("weight")),
    h("div.pair", {}, span("start", "Begin"), span("end", "End")),
  );
}

function write(draft, values) {
  if (!used(values).length) return;
  draft.ip_adapters = used(values).map((unit) => ({
    ...unitFields(PART, unit),
    model: unit.model,
    image: refOf(unit.image),
  }));
}

async function read({ ip_adapters = [] }, patch) {
  const pictures = await Promise.all(ip_adapters.map((one) => findUpload(one.image.sha256)));
  patch.ip_adapters = ip_adapters.map((one, index) => {
    const values = ["weight", "start", "end"]
      .filter((name) => one[name] !== undefined)
      .map((name) => [name, typed(one[name])]);
    return {
      ...emptyUnit(PART),
      ...Object.fromEntries(values),
      model: one.model.name ?? one.model,
      image: pictures[index],
    };
  });
  return pictures.includes(null) ? "A picture used as prompt is not here any more. Add it again." : "";
}
