// The start picture: brought here for Image to image, shared with Inpaint, and the `start` of the recipe.

import { config } from "../core/config.js";
import { formTab } from "../core/route.js";
import { findBrought, refOf } from "../core/uploads.js";
import { showProblem, slider } from "../form/bound.js";
import { change, form, partOf, typed } from "../form/form.js";
import { joinRecipe } from "../form/recipe_parts.js";
import { ranged, showField } from "../form/rules.js";
import { follows } from "../form/size.js";
import { field, h } from "../ui/dom.js";
import { offerUndo } from "../ui/undo_bar.js";
import { dropArea } from "./drop_area.js";
import { hasFiles, takeFiles } from "./repeat_section.js";
import { sketchButton } from "./sketch_dialog.js";

const NEEDS = "Image to image begins from a picture. Drop one, paste it, or choose a file.";
const GONE = "Its start picture is not here any more. Add it again.";

/** Take a picture as the start, or none; the one before comes back by Undo. */
export function takeStart(picture) {
  const before = form.get()["start.image"];
  change({ "start.image": picture, "start.depth": null });
  if (before && before.sha256 !== picture?.sha256) {
    offerUndo(picture ? "Another start picture." : "The start picture was removed.", () => change({ "start.image": before }));
  }
}

// Several at once are a batch.
function takeMany(files) {
  takeFiles(files);
  showField("batch");
}

/** Fill the part: the picture. */
export function start_section(element) {
  const label = config.labels["start.image"];
  const area = dropArea({ label, onpicture: takeStart, onremove: () => takeStart(null), onmany: takeMany });
  const { box, problem } = field("start.image", label, h("div", {}, area.element, sketchButton(takeStart)), { note: config.explain["start.image"] });
  showProblem("start.image", area.element, problem);
  form.watch((now) => area.show(now["start.image"]));
  element.replaceChildren(box);
  joinRecipe("start_section", {
    rules: { "start.image": (values) => (values["start.image"] || hasFiles() ? null : { text: NEEDS, fixes: [] }) },
  });
}

/** Fill the part: how far the result may go from the picture. Every tab with a start picture shows it. */
export function strength_field(element) {
  const hold = slider("start.image_guidance", 0.1, { to: 5 });
  const depth = depthField();
  form.watch(({ model }) => {
    hold.hidden = model?.variant !== "edit";
    depth.hidden = model?.variant !== "depth";
  });
  element.replaceChildren(h("div.stack", {}, slider("start.strength", 0.05), hold, depth));
  joinRecipe("strength_field", {
    rules: {
      "start.strength": (values) => ranged("start.strength", values["start.strength"]),
      "start.image_guidance": (values) => (values.model?.variant === "edit" ? ranged("start.image_guidance", values["start.image_guidance"]) : null),
    },
    write: writeStart,
    read: readStart,
  });
}

// What a depth model goes by in place of its own estimate.
function depthField() {
  const label = config.labels["start.depth"];
  const area = dropArea({ label, onpicture: (picture) => change({ "start.depth": picture }), onremove: () => change({ "start.depth": null }) });
  const { box, problem } = field("start.depth", label, area.element, { note: config.explain["start.depth"] });
  showProblem("start.depth", area.element, problem);
  form.watch((now) => area.show(now["start.depth"] ?? null));
  return box;
}

function writeStart(draft, values) {
  const picture = values["start.image"];
  if (!picture) return;
  const start = { image: refOf(picture), ...partOf("start", values) };
  delete start.depth;
  if (values.model?.variant !== "edit") delete start.image_guidance;
  if (values.model?.variant === "depth" && values["start.depth"]) start.depth = refOf(values["start.depth"]);
  if (follows(values, formTab())) delete start.resize;
  draft.start = start;
  if (picture.parent) draft.parent = picture.parent;
}

async function readStart({ start, parent }, patch) {
  if (!start) return "";
  for (const name of ["strength", "resize", "image_guidance"]) {
    const path = `start.${name}`;
    patch[path] = typed(start[name] ?? config.defaults[path]);
  }
  const [picture, depth] = await Promise.all([start.image, start.depth].map((image) => image && findBrought(image.sha256)));
  patch["start.depth"] = depth ?? null;
  if (!picture) return GONE;
  patch["start.image"] = parent ? { ...picture, parent } : picture;
  return start.depth && !depth ? "Its depth picture is not here any more." : "";
}
