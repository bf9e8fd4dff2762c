// A closed part of the recipe: one line, and its fields when it is opened. Open ones stay open over a reload.

import { route } from "../core/route.js";
import { keep, recall } from "../core/store.js";
import { h, icon, put, setText } from "../ui/dom.js";
import { form } from "./form.js";

/**
 * @param {{name: string, title: string, fields: string[], summary: (values: any) => string, body: () => (Node|null)[],
 *   opensOn?: string}} look
 *   fields: names of those that can have a problem; summary: what differs from the default, else "";
 *   body: makes the fields, when the section is first opened; opensOn: the tab that it belongs to, where it stands open
 * @returns {HTMLDetailsElement}
 */
export function section({ name, title, fields, summary, body, opensOn }) {
  const said = h("span.summary", {});
  const place = h("div.section-body", {});
  const isHome = () => route.get().tab === opensOn;
  const fill = () => {
    if (!place.childElementCount) put(place, ...body());
  };
  const details = h(
    "details.section",
    {
      "data-fields": fields.join(" "),
      onfill: fill,
      ontoggle: () => {
        if (details.open) fill();
        if (!isHome()) keep("sections", { ...recall("sections", {}), [name]: details.open });
      },
    },
    h("summary", {}, h("span", {}, title), said, icon("right")),
    place,
  );
  form.watch((now) => setText(said, summary(now)));
  const settle = () => {
    const isOpen = isHome() || Boolean(recall("sections", {})[name]);
    if (isOpen) fill();
    details.open = isOpen;
  };
  settle();
  if (opensOn)
    route.later(({ tab }, before) => {
      if (tab !== before.tab) settle();
    });
  return details;
}
