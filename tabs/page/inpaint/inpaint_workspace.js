// What lies over the result pane on the Inpaint tab: the mask editor, the frame that is extended, or the place for a
// picture; and one line below that says what to do.

import { loadAgain } from "../core/missing_images.js";
import { route } from "../core/route.js";
import { say } from "../core/toast.js";
import { uploadSaved } from "../core/uploads.js";
import { pixels } from "../core/words.js";
import { form } from "../form/form.js";
import { extended } from "../form/size.js";
import { innerSize } from "../form/size_rule.js";
import { job } from "../jobs/job.js";
import { makeMaskEditor } from "../mask_editor/mask_editor.js";
import { dropArea } from "../sections/drop_area.js";
import { takeStart } from "../sections/init_image_section.js";
import { button, freshId, h } from "../ui/dom.js";
import { announce } from "../ui/live.js";
import { extendFrame } from "./outpaint_frame.js";
import { MODE } from "./outpaint_section.js";
import { showView } from "./view_toggle.js";

/**
 * @returns {{element: HTMLElement, editor: ReturnType<typeof makeMaskEditor>, empty: HTMLElement,
 *   painting: HTMLElement, maskProblem: HTMLElement, pictureProblem: HTMLElement, show: () => void}}
 */
export function makeInpaintWorkspace() {
  const editor = makeMaskEditor({ look: "mask", label: "Mask", isSoft: () => form.get()["mask.soft"] });
  const frame = extendFrame();
  const area = dropArea({ label: "Picture to inpaint", onpicture: takeStart });
  const words = h("p.workspace-words", { id: freshId("workspace") });
  const maskProblem = h("p.problem", { hidden: true, id: freshId("problem") });
  const pictureProblem = h("p.problem", { hidden: true, id: freshId("problem") });
  const other = button({ label: "Change picture", onclick: () => takeStart(null) });
  const result = button({ label: "Show the result", onclick: () => showView("result") });
  const goOn = button({ label: "Use the result", onclick: useResult });
  const empty = h("div.workspace-empty", { "data-field": "inpaint.picture" }, area.element, pictureProblem);
  const painting = h("div.workspace-editor", { "data-field": "mask.image" }, editor.element);
  const element = h(
    "section.workspace",
    { "aria-label": "Canvas" },
    empty,
    painting,
    frame.element,
    h(
      "div.workspace-line",
      {},
      h("div.workspace-text", {}, words, maskProblem),
      h("div.workspace-actions", {}, other, result, goOn),
    ),
  );
  // Tools that change are no answer to what Generate asks for.
  for (const one of [area.element, editor.element]) one.addEventListener("change", (event) => event.stopPropagation());
  editor.element.querySelector("[role=application]")?.setAttribute("aria-describedby", words.id);

  let lost = "";

  // What was made is the next start: to change more of it, or to extend it once more.
  async function useResult() {
    try {
      takeStart(await uploadSaved(job.lastImageId()));
    } catch (problem) {
      say(problem);
    }
  }

  function draw() {
    const now = form.get();
    const picture = now["init_image.image"];
    const isExtending = now[MODE] === "extend";
    document.documentElement.classList.toggle("extending", isExtending);
    area.show(picture);
    empty.hidden = Boolean(picture);
    painting.hidden = !picture || isExtending;
    frame.element.hidden = !picture || !isExtending;
    other.hidden = !picture;
    result.hidden = !job.view.get().cells.some(Boolean);
    goOn.hidden = !picture || result.hidden;
    const [strong, rest] = wordsFor(now, picture);
    const text = `${strong} ${rest}`.trim();
    if (words.textContent.trim() !== text) words.replaceChildren(h("strong", {}, strong), ` ${rest}`);
    words.hidden = !maskProblem.hidden;
  }

  function wordsFor(now, picture) {
    if (!picture) return ["Choose the picture to change.", ""];
    if (lost.endsWith(picture.sha256)) return ["The picture is not here any more.", "Choose it again."];
    if (now[MODE] === "extend") return extendWords(now, picture);
    return [now["mask.invert"] ? "Paint what should stay." : "Paint what should change.", shareWords()];
  }

  // A stroke changes the share once, at its end, so these words are cheap.
  function shareWords() {
    const share = editor.share.get();
    if (editor.isFaint()) return "What is painted is too faint to count without Soft inpainting.";
    if (share === 0) return "Nothing is masked yet.";
    if (share === 1) return "The whole picture is masked.";
    const percent = share < 0.01 ? "Less than 1%" : `${Math.min(99, Math.round(100 * share))}%`;
    return `${percent} of the picture is masked.`;
  }

  route.watch(({ tab }) => document.documentElement.classList.toggle("has-workspace", tab === "inpaint"));
  form.watch(draw);
  form.later((now, before) => {
    if (now["mask.soft"] !== before["mask.soft"]) editor.recount();
  });
  editor.share.later(() => {
    draw();
    if (element.checkVisibility()) announce(words.textContent);
  });
  // Pictures that nothing names are swept after a day; the form may be older.
  const image = /** @type {HTMLImageElement} */ (editor.element.querySelector("img"));
  image.addEventListener("error", () => {
    lost = image.src;
    draw();
  });
  image.addEventListener("load", () => {
    lost = "";
    draw();
  });
  addEventListener("focus", () => {
    if (lost) loadAgain(image);
  });
  job.view.later(draw);
  new MutationObserver(draw).observe(maskProblem, { attributes: true, attributeFilter: ["hidden"] });
  return { element, editor, empty, painting, maskProblem, pictureProblem, show: () => showView("editor") };
}

function extendWords(now, picture) {
  const inner = innerSize(picture);
  const { width, height } = extended(now);
  if (width === inner.width && height === inner.height)
    return ["Drag a side of the frame,", "or give a side some pixels."];
  const cuts = [
    [picture.width - inner.width, "right"],
    [picture.height - inner.height, "foot"],
  ].filter(([cut]) => cut);
  const cut = cuts.length
    ? ` Sides are multiples of 8: ${cuts.map(([lost, side]) => `${lost} px at the ${side}`).join(" and ")} are cut off.`
    : "";
  return ["The new frame.", `${pixels(picture.width, picture.height)} becomes ${pixels(width, height)}.${cut}`];
}
