// What a preprocessor makes of a unit's picture: a job like any other, shown here and not on the result pane.

import { get, inWords, post, Refused } from "../core/api.js";
import { formTab } from "../core/route.js";
import { onBackground, refOf, uploadUrl } from "../core/uploads.js";
import { pixels } from "../core/words.js";
import { form, number } from "../form/form.js";
import { preprocessors } from "../form/parts_list.js";
import { sizeOf } from "../form/size.js";
import { mapResolution } from "../form/size_rule.js";
import { setUnit, unitsOf } from "../form/units.js";
import { button, h, setText } from "../ui/dom.js";
import { announce } from "../ui/live.js";

const LOOK_MS = 300;

/** @param {number} index place of the unit @returns {HTMLElement} */
export function makePreview(index) {
  const unit = () => unitsOf("controls")[index];
  const make = button({ label: "Preview", icon: "picture", kind: "outlined", onclick: show });
  const said = h("p.hint", { role: "status" });
  const image = onBackground(h("img", { alt: "Preview of the preprocessor" }));
  const use = button({ label: "Use the preview as input", kind: "outlined", onclick: takeMap });
  const hide = button({ label: "Hide", onclick: () => setUnit("controls", index, { map: null }) });
  const shown = h("div.map", { hidden: true }, image, h("div.map-actions", {}, use, hide));
  const root = h("div.preview-row", {}, h("div.preview-bar", {}, make, said), shown);
  let isBusy = false;

  async function show() {
    if (isBusy) return;
    isBusy = true;
    said.className = "hint";
    setText(said, "Making the preview");
    try {
      const { notices, ...map } = await prepared(unit());
      setUnit("controls", index, { map });
      setText(said, notices.join(" "));
      announce("The preview is here.");
    } catch (problem) {
      const { message, hint = "" } = inWords(problem);
      said.className = "bad";
      setText(said, `${message} ${hint}`.trim());
    } finally {
      isBusy = false;
    }
  }

  // The map is a map already: it needs no preprocessor.
  function takeMap() {
    setUnit("controls", index, {
      image: { ...unit().map, name: "Map" },
      preprocessor: "none",
      low: "",
      high: "",
      map: null,
    });
    announce("The preview is the control picture now.");
  }

  form.watch(() => {
    const facts = preprocessors.find(unit()?.preprocessor);
    root.hidden = !unit()?.image || unit().preprocessor === "none" || facts?.installed === false || facts?.needs_model === false;
    const map = unit()?.map;
    shown.hidden = !map;
    if (!map) return;
    image.width = map.width;
    image.height = map.height;
    image.title = pixels(map.width, map.height);
    if (image.getAttribute("src") !== uploadUrl(map.sha256)) image.src = uploadUrl(map.sha256);
  });
  return root;
}

/** Ask for the map and wait for it. */
async function prepared(unit) {
  const sent = { image: refOf(unit.image), preprocessor: unit.preprocessor };
  for (const name of ["low", "high", "resolution"]) if (unit[name].trim()) sent[name] = number(unit[name]);
  if (unit.pixel_perfect) sent.resolution = perfectResolution(unit);
  const { id } = await post("/jobs/preprocess", sent);
  for (;;) {
    const status = await get(`/jobs/${encodeURIComponent(id)}`);
    if (status.prepared.length) return { ...status.prepared[0], notices: status.notices ?? [] };
    if (status.error) throw new Refused(status.error, 200);
    if (status.state === "done")
      throw new Refused({ code: "no_map", message: "The preprocessor made no map.", hint: "Try again." }, 200);
    if (status.state === "cancelled" || status.state === "interrupted")
      throw new Refused({ code: status.state, message: "The preview was cancelled." }, 200);
    await new Promise((resolve) => {
      setTimeout(resolve, LOOK_MS);
    });
  }
}

// The resolution at which a pixel of the map is one of the result.
function perfectResolution({ image, resize }) {
  return mapResolution(image, sizeOf(form.get(), formTab()), resize);
}
