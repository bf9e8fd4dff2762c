// Two to five choices side by side: a radio group with one tab stop.

import { h } from "./dom.js";
import { rove, settleTabStop } from "./roving.js";

/**
 * @param {{label: string, onchoose: (value: any) => void}} look
 * @returns {{element: HTMLElement, offer: (choices: {value: any, label: string}[], chosen: any) => void}}
 */
export function segmented({ label, onchoose }) {
  const group = h("div.segmented", { role: "radiogroup", "aria-label": label });
  let key = "";
  let values = [];

  function draw(choices) {
    values = choices.map((choice) => choice.value);
    group.replaceChildren(
      ...choices.map((choice) =>
        h(
          "button",
          {
            type: "button",
            role: "radio",
            onclick: () => onchoose(choice.value),
          },
          h("span", { "data-text": choice.label }, choice.label),
        ),
      ),
    );
  }

  function mark(chosen) {
    const radios = /** @type {HTMLElement[]} */ ([...group.children]);
    const at = values.indexOf(chosen);
    radios.forEach((radio, index) => radio.setAttribute("aria-checked", String(index === at)));
    settleTabStop(radios, Math.max(0, at));
  }

  rove(group, "[role=radio]", { chooses: true });
  return {
    element: group,
    offer(choices, chosen) {
      const next = JSON.stringify(choices);
      if (next !== key) {
        key = next;
        draw(choices);
      }
      mark(chosen);
    },
  };
}
