// The fields of one region: its prompt, how much it counts, and whether it is a box or painted.

import { config } from "../core/config.js";
import { showProblem, slider } from "../form/bound.js";
import { drawnWords, isDynamic } from "../form/dynamic_text.js";
import { form } from "../form/form.js";
import { promptArea } from "../prompt/prompt_area.js";
import { promptNotes } from "../prompt/prompt_notes.js";
import { button, field, h, setText } from "../ui/dom.js";
import { announce } from "../ui/live.js";
import { paintMask } from "./region_mask.js";
import { numberOf, PART, placeRegions, regionMore, regionOf, regionsOf } from "./region_units.js";
import { regionVia, setRegion } from "./region_units.js";

/**
 * @param {string} id of the region
 * @param {(id: string) => void} onremove
 * @returns {HTMLElement}
 */
export function makeRegionRow(id, onremove) {
  const via = (name) => regionVia(id, name);
  const area = (name, placeholder, rows) => promptArea({ name: `region-${name}`, placeholder, rows, ...via(name) });
  const prompt = area("prompt", "What should be here?", 2);
  const negative = area("negative_prompt", "As above", 1);
  // An empty field takes the recipe's; that of a recipe may be empty on purpose, until someone writes there.
  negative.addEventListener("input", () => {
    if (!negative.value) setRegion(id, { negative_prompt: null });
  });
  const notes = promptNotes(
    { prompt, negative_prompt: negative },
    {
      read: (now) => {
        const region = regionOf(id, now);
        return region && { ...now, prompt: region.prompt, negative_prompt: region.negative_prompt ?? "" };
      },
      put: (patch) => setRegion(id, patch),
      also: (now) =>
        isDynamic(now.prompt, now.negative_prompt) ? { text: drawnWords(now), fixes: [] } : null,
      none: (now) =>
        now["regions.common"] ? "No prompt: the common words alone act here." : "No prompt: the model paints freely here.",
    },
  );
  const number = h("span.region-number", { "aria-hidden": "true" });
  const title = h("span", {});
  const said = h("span.summary", {});
  const remove = button({ label: "Remove", icon: "trash", words: false, onclick: () => onremove(id) });
  const main = field(via("prompt").field, "", h("div.prompts", {}, prompt, ...notes.over.prompt));
  main.box.append(notes.below);
  showProblem(`${PART}.prompt`, prompt, main.problem, via("prompt"));
  const other = field(
    via("negative_prompt").field,
    config.labels.negative_prompt,
    h("div.prompts", {}, negative, ...notes.over.negative_prompt),
    { labelFor: negative.id, note: config.explain[`${PART}.negative_prompt`] },
  );
  showProblem(`${PART}.negative_prompt`, negative, other.problem, via("negative_prompt"));
  const made = h(
    "section.unit.region",
    { "data-region": id },
    h("div.unit-head", {}, h("h3", {}, number, title), remove),
    main.box,
    maskField(id),
    h(
      "details.unit-more",
      {},
      h("summary", {}, "Weight and negative prompt", said),
      h("div.section-body", {}, slider(`${PART}.weight`, 0.05, { label: "Weight" }, via("weight")), other.box),
    ),
  );
  form.watch((now) => {
    const region = regionOf(id, now);
    if (!region) return;
    const at = numberOf(id, now);
    made.style.setProperty("--region", `var(--region-${at})`);
    setText(number, String(at));
    setText(title, `Region ${at}`);
    setText(said, regionMore(region));
    made.setAttribute("aria-label", `Region ${at}`);
    prompt.setAttribute("aria-label", `Prompt of region ${at}`);
    remove.setAttribute("aria-label", `Remove region ${at}`);
    remove.title = `Remove region ${at}`;
  });
  return made;
}

// Whether it is a box or painted, with the way to the other.
function maskField(id) {
  const put = (mask) => placeRegions(regionsOf().map((one) => (one.id === id ? { ...one, mask } : one)));
  const paint = button({
    label: "Paint a mask instead",
    icon: "brush",
    onclick: () => {
      const region = regionOf(id);
      if (!region) return;
      paintMask(region, numberOf(id), (mask) => {
        put(mask);
        announce(`Region ${numberOf(id)} is painted.`);
      });
    },
  });
  const back = button({ label: "Use a box", icon: "box", onclick: () => put(null) });
  const { box, problem } = field(regionVia(id, "mask").field, "", h("div.region-actions", {}, paint, back));
  showProblem(`${PART}.mask`, paint, problem, regionVia(id, "mask"));
  form.watch((now) => {
    const mask = regionOf(id, now)?.mask;
    setText(paint.querySelector(".words"), mask ? "Edit the mask" : "Paint a mask instead");
    back.hidden = !mask;
  });
  return box;
}
