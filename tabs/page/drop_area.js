// A place for one picture: dropped, pasted while it has the focus, chosen as a file, or the last result.

import { Refused, Unreachable } from "./api.js";
import { bring, bringSaved, broughtUrl } from "./brought.js";
import { button, freshId, h, icon, setText } from "./dom.js";
import { draggedPicture, MARK } from "./drag.js";
import { job } from "./job.js";
import { announce } from "./live.js";
import { pixels } from "./words.js";

const KINDS = "image/png, image/jpeg, image/webp, image/avif";

/**
 * @param {{label: string, onpicture: (picture: import("./brought.js").Brought) => void, onremove?: () => void,
 *   onmany?: (files: File[]) => void, extra?: (Node|null)[]}} told
 *   label: what the picture is for; onmany: several files at once, where that makes sense; extra: further buttons
 * @returns {{element: HTMLElement, show: (picture: import("./brought.js").Brought|null) => void}}
 */
export function dropArea({ label, onpicture, onremove, onmany, extra = [] }) {
  const file = /** @type {HTMLInputElement} */ (h("input", { type: "file", accept: KINDS, hidden: true, multiple: Boolean(onmany), tabindex: "-1",
    "aria-label": label, onchange: () => { takeFiles([...file.files ?? []]); file.value = ""; } }));
  const said = h("p.problem", { hidden: true, id: freshId("problem"), role: "alert" });
  const choose = h("button.area-choose", { type: "button", onclick: () => file.click() }, icon("picture"),
    h("span", {}, "Drop a picture, paste it, or choose a file"));
  const last = button({ label: "Use the last result", icon: "use", kind: "plain", onclick: takeLast });
  const image = /** @type {HTMLImageElement} */ (h("img", { alt: "", draggable: "false" }));
  const facts = h("span.hint", {});
  const name = h("span.area-name", {});
  const replace = button({ label: "Replace", kind: "plain", onclick: () => file.click() });
  const remove = button({ label: `Remove: ${label}`, icon: "close", words: false, kind: "plain", onclick: () => onremove?.() });
  const empty = h("div.area-empty", {}, choose, h("div.area-more", {}, last, ...extra));
  const full = h("div.area-full", { hidden: true }, image, h("span.area-words", {}, name, facts), replace, onremove && remove);
  const element = h("div.area", { role: "group", "aria-label": label, [MARK]: "" }, empty, full, file, said);
  let isBusy = false;

  async function take(bringing, words) {
    if (isBusy) return;
    isBusy = true;
    element.classList.add("busy");
    setText(choose.lastElementChild, words);
    said.hidden = true;
    try {
      onpicture(await bringing);
      announce(`${label}: the picture is here.`);
    } catch (problem) {
      if (!(problem instanceof Refused || problem instanceof Unreachable)) throw problem;
      said.replaceChildren(`${problem.message} ${problem.hint ?? ""}`.trim());
      said.hidden = false;
    } finally {
      isBusy = false;
      element.classList.remove("busy");
      setText(choose.lastElementChild, "Drop a picture, paste it, or choose a file");
    }
  }

  function takeFiles(files) {
    if (!files.length) return;
    if (onmany && files.length > 1) { onmany(files); return; }
    take(bring(files[0]), `Bringing ${files[0].name || "the picture"}`);
  }

  function takeLast() {
    const id = job.lastPicture();
    if (id) take(bringSaved(id), "Bringing the last result");
  }

  element.addEventListener("dragover", (event) => {
    event.preventDefault();
    element.classList.add("over");
  });
  element.addEventListener("dragleave", () => element.classList.remove("over"));
  element.addEventListener("drop", (event) => {
    event.preventDefault();
    element.classList.remove("over");
    const id = draggedPicture(event);
    if (id) take(bringSaved(id), "Bringing the picture");
    else takeFiles([...event.dataTransfer?.files ?? []].filter(isPicture));
  });
  element.addEventListener("paste", (event) => {
    const files = [...event.clipboardData?.files ?? []].filter(isPicture);
    if (!files.length) return;
    event.preventDefault();
    event.stopPropagation();
    takeFiles(files);
  });
  job.view.watch(() => { last.hidden = !job.lastPicture(); });

  return {
    element,
    show(picture) {
      empty.hidden = Boolean(picture);
      full.hidden = !picture;
      said.hidden = true;
      if (!picture) { image.removeAttribute("src"); return; }
      if (image.getAttribute("src") !== broughtUrl(picture.sha256)) image.src = broughtUrl(picture.sha256);
      setText(name, picture.name || (picture.parent ? "From the gallery" : "Picture"));
      setText(facts, pixels(picture.width, picture.height));
    },
  };
}

const isPicture = (one) => one.type.startsWith("image/") || one.type === "";
