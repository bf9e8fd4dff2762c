// A place for one picture: dropped, pasted while it has the focus, chosen as a file, or the last result.

import { Refused, Unreachable } from "../core/api.js";
import { chosenFrom, takenFrom } from "../core/transfer.js";
import { onBackground, upload, uploadSaved, uploadUrl } from "../core/uploads.js";
import { pixels } from "../core/words.js";
import { job } from "../jobs/job.js";
import { button, freshId, h, icon, setText } from "../ui/dom.js";
import { MARK } from "../ui/drag.js";
import { announce } from "../ui/live.js";

const KINDS = "image/png, image/jpeg, image/webp, image/avif";

/**
 * @param {{label: string, onpicture: (picture: import("../core/uploads.js").Upload) => void, onremove?: () => void,
 *   onmany?: (files: File[]) => void, extra?: (Node|null)[]}} handlers
 *   label: what the picture is for; onmany: several files at once, where that makes sense; extra: further buttons
 * @returns {{element: HTMLElement, show: (picture: import("../core/uploads.js").Upload|null) => void}}
 */
export function dropArea({ label, onpicture, onremove, onmany, extra = [] }) {
  const file = h("input", {
    type: "file",
    accept: KINDS,
    hidden: true,
    multiple: Boolean(onmany),
    tabindex: "-1",
    "aria-label": label,
    onchange: () => {
      if (file.files?.length) takeAll(chosenFrom([...file.files], how));
      file.value = "";
    },
  });
  const said = h("p.problem", { hidden: true, id: freshId("problem"), role: "alert" });
  const choose = h(
    "button.area-choose",
    { type: "button", onclick: () => file.click() },
    icon("picture"),
    h("span", {}, "Drop a picture, paste it, or choose a file"),
  );
  const last = button({ label: "Use the last result", icon: "use", kind: "plain", onclick: takeLast });
  const image = onBackground(h("img", { alt: "", draggable: "false" }));
  const facts = h("span.hint", {});
  const name = h("span.area-name", {});
  const replace = button({ label: "Replace", kind: "plain", onclick: () => file.click() });
  const remove = button({
    label: `Remove: ${label}`,
    icon: "close",
    words: false,
    kind: "plain",
    onclick: () => onremove?.(),
  });
  const empty = h("div.area-empty", {}, choose, h("div.area-more", {}, last, ...extra));
  const full = h(
    "div.area-full",
    { hidden: true },
    image,
    h("span.area-words", {}, name, facts),
    replace,
    onremove && remove,
  );
  const element = h("div.area", { role: "group", "aria-label": label, [MARK]: "" }, empty, full, file, said);
  const how = { isMany: Boolean(onmany) };
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
      refuse(`${problem.message} ${problem.hint ?? ""}`.trim());
    } finally {
      isBusy = false;
      element.classList.remove("busy");
      setText(choose.lastElementChild, "Drop a picture, paste it, or choose a file");
    }
  }

  function refuse(words) {
    said.replaceChildren(words);
    said.hidden = false;
  }

  /** @param {import("../core/transfer.js").Taken} taken */
  function takeAll({ id, files, problem }) {
    if (id) take(uploadSaved(id), "Bringing the picture");
    else if (files.length > 1) onmany?.(files);
    else if (files.length) take(upload(files[0]), `Bringing ${files[0].name || "the picture"}`);
    if (problem) refuse(problem);
  }

  function takeLast() {
    const id = job.lastImageId();
    if (id) take(uploadSaved(id), "Bringing the last result");
  }

  element.addEventListener("dragover", (event) => {
    event.preventDefault();
    element.classList.add("over");
  });
  element.addEventListener("dragleave", () => element.classList.remove("over"));
  element.addEventListener("drop", (event) => {
    event.preventDefault();
    element.classList.remove("over");
    takeAll(takenFrom(event.dataTransfer, how));
  });
  element.addEventListener("paste", (event) => {
    if (!event.clipboardData?.files.length) return;
    event.preventDefault();
    event.stopPropagation();
    takeAll(takenFrom(event.clipboardData, how));
  });
  job.view.watch(() => {
    last.hidden = !job.lastImageId();
  });

  return {
    element,
    show(picture) {
      empty.hidden = Boolean(picture);
      full.hidden = !picture;
      said.hidden = true;
      if (!picture) {
        image.removeAttribute("src");
        return;
      }
      if (image.getAttribute("src") !== uploadUrl(picture.sha256)) image.src = uploadUrl(picture.sha256);
      setText(name, picture.name || (picture.parent ? "From the gallery" : "Picture"));
      setText(facts, pixels(picture.width, picture.height));
    },
  };
}
