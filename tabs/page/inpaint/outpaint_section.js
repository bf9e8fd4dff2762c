// Extending a picture: so many pixels on each side, beside the frame that shows them (inpaint/outpaint_frame.js).

import { config } from "../core/config.js";
import { choice, showProblem, slider, textInput } from "../form/bound.js";
import { change, form, number, partOf, typed } from "../form/form.js";
import { ranged } from "../form/rules.js";
import { gainOf } from "../form/size.js";
import { field, h } from "../ui/dom.js";

/** What the Inpaint tab does: "paint" or "extend". */
export const MODE = "inpaint.mode";
/** Sides in the order of the page. */
export const SIDES = ["left", "right", "up", "down"];
const USUAL = [64, 128, 256];
const CONTENTS = [
  ["fill", "Fill"],
  ["noise", "Noise"],
  ["nothing", "Nothing"],
];
const NONE = "No side is extended. Give at least one side some pixels.";

const pathOf = (side) => `init_image.outpaint.${side}`;

/** Let a side gain so many pixels. */
export const gain = (side, pixels) => change({ [pathOf(side)]: String(pixels) });

function sideRow(side) {
  const path = pathOf(side);
  const label = side[0].toUpperCase() + side.slice(1);
  const input = textInput(path, { inputmode: "numeric" });
  const usual = USUAL.map((pixels) =>
    h(
      "button.outlined",
      {
        type: "button",
        "aria-label": `${label}: ${pixels} px`,
        onclick: () => gain(side, gainOf(form.get(), side) === pixels ? 0 : pixels),
      },
      String(pixels),
    ),
  );
  form.watch((now) =>
    usual.forEach((one, at) => one.setAttribute("aria-pressed", String(gainOf(now, side) === USUAL[at]))),
  );
  const { box, problem } = field(path, label, h("div.side", {}, input, ...usual), { labelFor: input.id });
  showProblem(path, input, problem);
  return box;
}

/** The fields: sides, what the new area begins from, how far it reaches into the picture. */
export function extendFields() {
  const none = h("p.problem", { hidden: true, id: "extend-none" });
  const sides = h(
    "div.sides",
    { "data-field": "init_image.outpaint" },
    h("p.label", {}, "Extend by, in pixels"),
    ...SIDES.map(sideRow),
    none,
  );
  showProblem("init_image.outpaint", /** @type {any} */ (sides), none);
  return h(
    "div.fields",
    {},
    sides,
    choice("init_image.outpaint.content", CONTENTS, "Start the new area from"),
    slider("init_image.outpaint.overlap", 8, {}),
  );
}

const ifExtending = (rule) => (values) => (values[MODE] === "extend" ? rule(values) : null);

function sideProblem(side) {
  const path = pathOf(side);
  return ifExtending((values) => {
    const step = config.limits.side_multiple;
    const value = number(values[path]);
    const known = ranged(path, values[path], true);
    if (known || value % step === 0) return known;
    const below = Math.floor(value / step) * step;
    return {
      text: `${config.labels[path]} is ${value}. Use a multiple of ${step}: ${below} or ${below + step}.`,
      fixes: [below, below + step].map((fix) => ({ label: String(fix), patch: { [path]: String(fix) } })),
    };
  });
}

/** What extending adds to a recipe; inpaint/inpaint_section.js joins it. */
export const extendPart = {
  rules: {
    "init_image.outpaint": ifExtending((values) =>
      SIDES.some((side) => gainOf(values, side) > 0) ? null : { text: NONE, fixes: [] },
    ),
    ...Object.fromEntries(SIDES.map((side) => [pathOf(side), sideProblem(side)])),
    "init_image.outpaint.overlap": ifExtending((values) =>
      ranged("init_image.outpaint.overlap", values["init_image.outpaint.overlap"], true),
    ),
  },
  /** The size is then the picture's and what it gains. */
  write(draft, values) {
    draft.init_image = { ...draft.init_image, outpaint: partOf("init_image.outpaint", values) };
    delete draft.init_image.resize;
    delete draft.width;
    delete draft.height;
  },
  read(start, patch) {
    patch[MODE] = start.outpaint ? "extend" : "paint";
    for (const name of start.outpaint ? [...SIDES, "overlap", "content"] : []) {
      const path = pathOf(name);
      patch[path] = typed(start.outpaint[name] ?? config.defaults[path]);
    }
  },
};
