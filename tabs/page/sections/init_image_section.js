// The start picture: chosen here for Image to image, shared with Inpaint, and the recipe's `init_image`.

import { config } from "../core/config.js";
import { formTab } from "../core/route.js";
import { findUpload, refOf } from "../core/uploads.js";
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
  const before = form.get()["init_image.image"];
  change({ "init_image.image": picture, "init_image.depth": null });
  if (before && before.sha256 !== picture?.sha256) {
    offerUndo(picture ? "Another start picture." : "The start picture was removed.", () =>
      change({ "init_image.image": before }),
    );
  }
}

// Several at once are a batch.
function takeMany(files) {
  takeFiles(files);
  showField("batch");
}

/** Fill the part: the picture. */
export function init_image_section(element) {
  const label = config.labels["init_image.image"];
  const area = dropArea({ label, onpicture: takeStart, onremove: () => takeStart(null), onmany: takeMany });
  const { box, problem } = field("init_image.image", label, h("div", {}, area.element, sketchButton(takeStart)), {
    note: config.explain["init_image.image"],
  });
  showProblem("init_image.image", area.element, problem);
  form.watch((now) => area.show(now["init_image.image"]));
  element.replaceChildren(box);
  joinRecipe("init_image_section", {
    rules: {
      "init_image.image": (values) => (values["init_image.image"] || hasFiles() ? null : { text: NEEDS, fixes: [] }),
    },
  });
}

/** Fill the part: how far the result may go from the picture. Every tab with a start picture shows it. */
export function strength_field(element) {
  const hold = slider("init_image.image_guidance", 0.1, { to: 5 });
  const depth = depthField();
  form.watch(({ model }) => {
    hold.hidden = model?.variant !== "edit";
    depth.hidden = model?.variant !== "depth";
  });
  element.replaceChildren(h("div.stack", {}, slider("init_image.strength", 0.05), hold, depth));
  joinRecipe("strength_field", {
    rules: {
      "init_image.strength": (values) => ranged("init_image.strength", values["init_image.strength"]),
      "init_image.image_guidance": (values) =>
        values.model?.variant === "edit"
          ? ranged("init_image.image_guidance", values["init_image.image_guidance"])
          : null,
    },
    write: writeStart,
    read: readStart,
  });
}

// What a depth model goes by in place of its own estimate.
function depthField() {
  const label = config.labels["init_image.depth"];
  const area = dropArea({
    label,
    onpicture: (picture) => change({ "init_image.depth": picture }),
    onremove: () => change({ "init_image.depth": null }),
  });
  const { box, problem } = field("init_image.depth", label, area.element, { note: config.explain["init_image.depth"] });
  showProblem("init_image.depth", area.element, problem);
  form.watch((now) => area.show(now["init_image.depth"] ?? null));
  return box;
}

function writeStart(draft, values) {
  const picture = values["init_image.image"];
  if (!picture) return;
  /** @type {Object<string, any>} */
  const start = { image: refOf(picture), ...partOf("init_image", values) };
  delete start.depth;
  if (values.model?.variant !== "edit") delete start.image_guidance;
  if (values.model?.variant === "depth" && values["init_image.depth"]) start.depth = refOf(values["init_image.depth"]);
  if (follows(values, formTab())) delete start.resize;
  draft.init_image = start;
  if (picture.parent) draft.parent = picture.parent;
}

async function readStart({ init_image: start, parent }, patch) {
  if (!start) return "";
  for (const name of ["strength", "resize", "image_guidance"]) {
    const path = `init_image.${name}`;
    patch[path] = typed(start[name] ?? config.defaults[path]);
  }
  const [picture, depth] = await Promise.all(
    [start.image, start.depth].map((image) => image && findUpload(image.sha256)),
  );
  patch["init_image.depth"] = depth ?? null;
  if (!picture) return GONE;
  patch["init_image.image"] = parent ? { ...picture, parent } : picture;
  return start.depth && !depth ? "Its depth picture is not here any more." : "";
}
