// The styles that are applied, as chips below the prompt.

import { form } from "../form/form.js";
import { toggleStyle } from "../form/styles.js";
import { h } from "../ui/dom.js";

/** The row of chips: a press takes a style off. */
export function styleChips() {
  const row = h("div.style-chips", { role: "group", "aria-label": "Styles", hidden: true });
  let key = "";
  form.watch(({ styles: names }) => {
    const next = JSON.stringify(names);
    if (next === key) return;
    key = next;
    row.hidden = !names.length;
    row.replaceChildren(
      ...names.map((name) =>
        h(
          "button.chip",
          { type: "button", title: `Take style ${name} off`, onclick: () => toggleStyle(name) },
          h("span", {}, name),
          h("span", { "aria-hidden": "true" }, "×"),
        ),
      ),
    );
  });
  return row;
}
