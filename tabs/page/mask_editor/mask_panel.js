// Beside the brush: a mask by numbers, by file, or everything. Opens under its button in the toolbar.

import { button, field, freshId, h } from "../ui/dom.js";
import { closeLayer, openLayer } from "../ui/layers.js";

const SIDES = [
  ["left", "Left"],
  ["top", "Top"],
  ["width", "Width"],
  ["height", "Height"],
];

/**
 * @param {"mask"|"colors"|"drawing"} look
 * @param {Object<string, any>} act as in mask_editor/mask_editor.js: rectangle, everything, load, download
 * @param {() => {width: number, height: number}} sizeOf the picture's
 */
export function morePanel(look, act, sizeOf) {
  const problem = h("p.problem", { hidden: true, id: freshId("problem"), role: "alert" });
  const tell = (text) => {
    problem.hidden = !text;
    problem.textContent = text;
  };
  const inputs = SIDES.map(([name, label]) => {
    const input = h("input", {
      type: "text",
      inputmode: "numeric",
      id: freshId(name),
      autocomplete: "off",
      "data-number": name,
    });
    return { name, label, input, box: field("", label, input, { labelFor: input.id }).box };
  });
  const file = h("input", {
    type: "file",
    accept: "image/png, image/jpeg, image/webp",
    hidden: true,
    onchange: async () => {
      const [chosen] = file.files ?? [];
      file.value = "";
      if (!chosen) return;
      const words = await act.load(chosen);
      tell(words);
      if (!words) closeLayer();
    },
  });
  const done = (work) => () => {
    work();
    closeLayer();
  };

  const least = (name) => (name === "width" || name === "height" ? 1 : 0);

  function maskRectangle() {
    const size = sizeOf();
    const [left, top, width, height] = inputs.map(({ input }) => Number(input.value.trim() || NaN));
    const most = { left: size.width - 1, top: size.height - 1, width: size.width - left, height: size.height - top };
    const wrong = inputs.find(({ name, input }) => {
      const value = Number(input.value.trim() || NaN);
      return !(value >= least(name) && value <= most[name]);
    });
    if (!wrong) {
      tell("");
      done(() => act.rectangle(left, top, width, height))();
      return;
    }
    const typed = wrong.input.value.trim() || "empty";
    tell(`${wrong.label} is ${typed}. Use ${least(wrong.name)} to ${most[wrong.name]}.`);
    wrong.input.focus();
  }

  const numbers = h(
    "form.rectangle",
    {
      onsubmit: (event) => {
        event.preventDefault();
        maskRectangle();
      },
    },
    h("p.label", {}, "A rectangle, in pixels"),
    h("div.four", {}, ...inputs.map(({ box }) => box)),
    problem,
    h("button.outlined", { type: "submit" }, h("span.words", {}, "Mask the rectangle")),
  );
  const rest = h(
    "div.panel-rows",
    {},
    button({ label: "Mask everything", icon: "invert", onclick: done(act.everything) }),
    button({ label: "Load a mask file", icon: "file", onclick: () => file.click() }),
    button({ label: "Download the mask", icon: "download", onclick: done(act.download) }),
    file,
  );
  const element = h(
    "dialog.mask-editor-panel",
    { "aria-label": "More ways to mask" },
    look === "colors" ? null : numbers,
    rest,
  );

  return {
    element,
    /** Open below its button, or close. */
    open(opener) {
      if (element.open) {
        closeLayer();
        return;
      }
      tell("");
      const { width, height } = sizeOf();
      const first = { left: width / 4, top: height / 4, width: width / 2, height: height / 2 };
      for (const { name, input } of inputs) if (!input.value) input.value = String(Math.round(first[name]));
      openLayer(element, { modal: false, opener });
    },
  };
}
