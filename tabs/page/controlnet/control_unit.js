// One ControlNet unit: model, picture, preprocessor with its preview, and how strongly and when it acts.

import { config, familyLabel } from "../core/config.js";
import { choice, list, showProblem, slider, textInput, toggle } from "../form/bound.js";
import { form } from "../form/form.js";
import { controlModels, preprocessors } from "../form/parts_list.js";
import { removeUnit, setUnit, unitVia, unitsOf } from "../form/units.js";
import { dropArea } from "../sections/drop_area.js";
import { drawButton } from "../sections/sketch_dialog.js";
import { button, field, h, setText } from "../ui/dom.js";
import { makeInstall } from "./control_install.js";
import { makePreview } from "./control_preview.js";
import { judgeControl, needsModel } from "./control_units.js";

const MODES = [
  ["balanced", "Balanced"],
  ["prompt", "Prompt"],
  ["control", "Control"],
];
const SHOWN = {
  pose: "Poses",
  depth: "Depth",
  soft_edges: "Soft edges",
  lines: "Lines",
  normals: "Normals",
  segments: "Areas",
  tile: "The picture without detail",
  inpaint: "The picture with a hole",
};
const RESIZES = [
  ["crop", "Crop"],
  ["fill", "Fill"],
  ["stretch", "Stretch"],
];

/** @param {number} index its place among the units @returns {HTMLElement} */
export function makeControlUnit(index) {
  const via = (name) => unitVia("controls", index, name, judgeControl);
  const unit = () => unitsOf("controls")[index];
  const title = `Unit ${index + 1}`;
  const head = h(
    "div.unit-head",
    {},
    h("h3", {}, title),
    button({
      label: `Remove unit ${index + 1}`,
      icon: "trash",
      words: false,
      onclick: () => removeUnit("controls", index),
    }),
  );
  const more = h(
    "details.unit-more",
    {},
    h("summary", {}, "Span, mode and fit"),
    h("div.section-body", {}, ...strengthFields(via)),
  );
  return h(
    "section.unit",
    { "aria-label": `${config.labels.controls}, ${title}` },
    head,
    modelList(index, via),
    pictureField(index, via, unit),
    ...preprocessorFields(index, via, unit),
    shownField(via, unit),
    makePreview(index),
    slider("controls.weight", 0.05, { from: 0, to: 2 }, via("weight")),
    more,
  );
}

function modelList(index, via) {
  const place = {
    ...via("model"),
    set: (name) => setUnit("controls", index, { model: name, ...suited(name, unitsOf("controls")[index]) }),
  };
  const box = list(
    "controls.model",
    () => {
      const family = form.get().model?.family;
      const models = [...controlModels.state.get().items].sort(
        (a, b) => Number(b.family === family) - Number(a.family === family),
      );
      return [
        ["", models.length ? "Choose a model" : "None is here"],
        ...models.map((model) => [model.name, `${model.title} · ${familyLabel(model.family)}`]),
      ];
    },
    config.labels["controls.model"],
    place,
  );
  controlModels.state.later(() => box.dispatchEvent(new Event("offer")));
  const draw = () => {
    box.hidden = !needsModel(unitsOf("controls")[index]);
  };
  form.watch(draw);
  preprocessors.state.later(draw);
  return box;
}

// A union model must be told what the map shows, unless the preprocessor says it.
function shownField(via, unit) {
  const kinds = () => controlModels.find(unit()?.model)?.control_type ?? [];
  const box = list(
    "controls.control_type",
    () => [["", "As the preprocessor says"], ...kinds().map((kind) => [kind, SHOWN[kind] ?? kind])],
    config.labels["controls.control_type"],
    via("control_type"),
  );
  const draw = () => {
    box.hidden = !kinds().length;
  };
  form.watch(draw);
  controlModels.state.later(() => {
    box.dispatchEvent(new Event("offer"));
    draw();
  });
  return box;
}

// A model that names a kind of map gets the preprocessor that makes it, if none was chosen.
function suited(name, unit) {
  if (unit.preprocessor !== "none") return {};
  const words = name.toLowerCase().replace(/(?<!soft[ _-]?)edges/, "canny");
  const found = preprocessors.state
    .get()
    .items.find((one) => one.installed && one.id !== "none" && words.includes(one.id.split("_")[0]));
  return found ? { preprocessor: found.id } : {};
}

function pictureField(index, via, unit) {
  const label = config.labels["controls.image"];
  const area = dropArea({
    label: `${label} ${index + 1}`,
    onpicture: (picture) => setUnit("controls", index, { image: picture, map: null }),
    onremove: () => setUnit("controls", index, { image: null, map: null }),
    extra: [drawButton(`draw:${index}`, (picture) => setUnit("controls", index, { image: picture, map: null }))],
  });
  const { box, problem } = field(via("image").field, label, area.element, { note: config.explain["controls.image"] });
  showProblem("controls.image", area.element, problem, {
    ...via("image"),
    judge: () => (unit()?.image ? null : judgeControl({ model: "?", image: null }, "image")),
  });
  form.watch(() => area.show(unit()?.image ?? null));
  return box;
}

function preprocessorFields(index, via, unit) {
  const place = {
    ...via("preprocessor"),
    set: (id) => setUnit("controls", index, { preprocessor: id, low: "", high: "", map: null }),
  };
  const box = list(
    "controls.preprocessor",
    () => {
      const items = preprocessors.state.get().items;
      const offered = [...items].sort((a, b) => Number(b.installed) - Number(a.installed));
      return items.length
        ? offered.map((one) => [one.id, one.installed ? one.label : `${one.label} (not installed)`])
        : [["none", "None"]];
    },
    config.labels["controls.preprocessor"],
    place,
  );
  const says = h("p.hint", {});
  const install = makeInstall();
  box.append(says, install.element);
  const options = ["low", "high", "resolution"].map((name) => {
    const input = textInput(`controls.${name}`, { inputmode: "decimal" }, via(name));
    const made = field(via(name).field, "", input, { labelFor: input.id });
    showProblem(`controls.${name}`, input, made.problem, via(name));
    return { name, input, ...made };
  });
  function draw() {
    const facts = preprocessors.find(unit()?.preprocessor ?? "none");
    const makes = facts?.installed ? `Makes ${facts.makes}.` : "";
    setText(says, makes.replace("Makes the picture as it is: it is", "The picture is used as it is:"));
    says.hidden = facts?.installed === false;
    install.draw(facts ?? null);
    for (const { name, box: place_, title, input } of options) {
      const option = facts?.[name];
      place_.hidden = name === "resolution" ? !facts?.has_resolution || Boolean(unit()?.pixel_perfect) : !option;
      setText(title, option?.label ?? config.labels[`controls.${name}`]);
      input.placeholder = option ? String(option.default) : "As usual";
    }
  }
  form.watch(draw);
  preprocessors.state.later(() => {
    box.dispatchEvent(new Event("offer"));
    draw();
  });
  return [box, h("div.options", {}, ...options.map((one) => one.box))];
}

function strengthFields(via) {
  const small = (name) => slider(`controls.${name}`, 0.05, {}, via(name));
  return [
    h("div.pair", {}, small("start"), small("end")),
    choice("controls.mode", MODES, undefined, via("mode")),
    choice("controls.resize", RESIZES, undefined, via("resize")),
    toggle("controls.pixel_perfect", "Pixel perfect", via("pixel_perfect")),
  ];
}
