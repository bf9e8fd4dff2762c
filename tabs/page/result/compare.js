// Before and after: the picture a result began from, laid over its left part; the edge is dragged, or moved by keys.

import { onBackground, uploadUrl } from "../core/uploads.js";
import { button, h } from "../ui/dom.js";

const FITS = { crop: "cover", fill: "contain", stretch: "fill", latent: "fill" };

/** @returns {{element: HTMLElement, draw: (before: {sha256: string, resize?: string}|null) => void}} */
export function makeCompare() {
  let isOn = false;
  let key = "";
  const image = onBackground(h("img.before", { alt: "", decoding: "async", onload: layBackground }));
  const range = h("input.divider", {
    type: "range",
    min: 0,
    max: 100,
    step: 1,
    value: "50",
    "aria-label": "Before and after",
    oninput: follow,
  });
  const opener = button({
    label: "Compare",
    icon: "compare",
    kind: "compare",
    onclick: () => {
      isOn = !isOn;
      show();
      if (isOn) range.focus();
    },
  });
  const over = h("div.before-after", {}, image, range, h("span.edge", { "aria-hidden": "true" }));
  const element = h("div.compare-layer", { hidden: true }, over, opener);

  function follow() {
    element.style.setProperty("--at", `${range.value}%`);
    range.setAttribute("aria-valuetext", `${range.value}% before`);
  }

  // Where the whole picture is shown, the wall beside it is none of it.
  function layBackground() {
    const ratio = image.naturalWidth / image.naturalHeight / (image.clientWidth / image.clientHeight);
    const isWhole = image.style.objectFit === "contain" && ratio > 0;
    image.style.backgroundSize = isWhole ? `${100 * Math.min(1, ratio)}% ${100 * Math.min(1, 1 / ratio)}%` : "";
  }

  function show() {
    over.hidden = !isOn;
    layBackground();
    opener.setAttribute("aria-pressed", String(isOn));
  }

  range.addEventListener("keydown", (event) => {
    if (event.key.startsWith("Arrow")) event.stopPropagation();
  });
  follow();
  show();

  return {
    element,
    draw(before) {
      const next = before ? `${before.sha256}/${before.resize}` : "";
      element.hidden = !before;
      if (next === key) return;
      key = next;
      isOn = false;
      show();
      if (!before) {
        image.removeAttribute("src");
        return;
      }
      image.src = uploadUrl(before.sha256);
      image.style.objectFit = FITS[before.resize ?? "stretch"];
    },
  };
}
