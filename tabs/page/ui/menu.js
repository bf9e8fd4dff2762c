// The one small menu: a list of actions beside the button that opened it.

import { h, icon } from "./dom.js";
import { closeLayer, openLayer } from "./layers.js";
import { rove, settleTabStop } from "./roving.js";

const GAP_PX = 4;
const EDGE_PX = 8;

const menu = h("dialog.menu", { role: "menu" });
rove(menu, "[role=menuitem]");

/**
 * Open it.
 * @param {HTMLElement} opener
 * @param {string} label
 * @param {{label: string, icon: string, onchoose: () => void}[]} items
 */
export function openMenu(opener, label, items) {
  const made = items.map((item) =>
    h(
      "button.menu-item",
      {
        type: "button",
        role: "menuitem",
        onclick: () => {
          closeLayer();
          item.onchoose();
        },
      },
      icon(item.icon),
      h("span", {}, item.label),
    ),
  );
  menu.replaceChildren(...made);
  menu.setAttribute("aria-label", label);
  (opener.closest(".gradio-container") ?? document.body).append(menu);
  openLayer(menu, { opener, focus: made[0] });
  settleTabStop(made);
  place(opener.getBoundingClientRect());
}

// Above the button where there is room, else below; never over the edge of the window.
function place(at) {
  const { width, height } = menu.getBoundingClientRect();
  const left = Math.min(innerWidth - width - EDGE_PX, Math.max(EDGE_PX, at.left + (at.width - width) / 2));
  const above = at.top - height - GAP_PX;
  const top = above >= EDGE_PX ? above : Math.min(innerHeight - height - EDGE_PX, at.bottom + GAP_PX);
  menu.style.left = `${left}px`;
  menu.style.top = `${top}px`;
}
