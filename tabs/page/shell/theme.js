// Auto, light or dark. The early script of the page sets it before the first paint; this changes it.

import { h, icon } from "../ui/dom.js";

const ORDER = ["auto", "light", "dark"];
const system = matchMedia("(prefers-color-scheme: dark)");

function stored() {
  try {
    return localStorage.getItem("darkroom.theme") ?? "auto";
  } catch {
    return "auto";
  }
}

// Gradio sets its own class on the body, from the system; ours wins on both.
function apply(choice) {
  const isDark = choice === "dark" || (choice === "auto" && system.matches);
  for (const element of [document.documentElement, document.body]) element.classList.toggle("dark", isDark);
}

/** The button of the header; a click goes on to the next of the three. */
export function themeButton() {
  let choice = stored();
  const button = h("button.plain.icon-only", {
    type: "button",
    onclick: () => {
      choice = ORDER[(ORDER.indexOf(choice) + 1) % ORDER.length];
      try {
        localStorage.setItem("darkroom.theme", choice);
      } catch {
        /* it lasts until the reload */
      }
      show();
    },
  });
  function show() {
    apply(choice);
    const next = ORDER[(ORDER.indexOf(choice) + 1) % ORDER.length];
    button.replaceChildren(icon(choice));
    button.setAttribute("aria-label", `Theme: ${choice}`);
    button.title = `Theme: ${choice}. Click for ${next}.`;
  }
  system.addEventListener("change", () => apply(choice));
  new MutationObserver(() => {
    const isDark = document.documentElement.classList.contains("dark");
    if (document.body.classList.contains("dark") !== isDark) document.body.classList.toggle("dark", isDark);
  }).observe(document.body, { attributes: true, attributeFilter: ["class"] });
  show();
  return button;
}
