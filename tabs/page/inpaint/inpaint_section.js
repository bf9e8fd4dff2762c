// What the Inpaint tab adds to a recipe: a mask painted over the start picture, or a start picture that is extended.
// The mask editor itself is in inpaint/inpaint_workspace.js; the fields stand here.

import { config } from "../core/config.js";
import { refOf, upload, uploadUrl } from "../core/uploads.js";
import { choice, showProblem, slider, toggle } from "../form/bound.js";
import { change, form, partOf, typed } from "../form/form.js";
import { joinRecipe } from "../form/recipe_parts.js";
import { ranged } from "../form/rules.js";
import { keepsSize, shownPart } from "../form/size.js";
import { shareSlider } from "../mask_editor/tools.js";
import { h } from "../ui/dom.js";
import { makeInpaintWorkspace } from "./inpaint_workspace.js";
import { extendFields, extendPart, MODE } from "./outpaint_section.js";
import { placeEditor } from "./view_toggle.js";

const NEEDS = "Inpaint begins from a picture. Drop one, paste it, or choose a file.";
const EMPTY = "Nothing is masked. Paint the area to change, or use Image to image.";
const FULL = "Everything is masked and the mask is turned around: nothing would change. Clear part of the mask.";
const FAINT = "What is painted is too faint to count. Turn Soft inpainting on, or paint over it.";
const OUTSIDE =
  "All that is to change lies in the part of the picture that is cut off. " +
  "Choose the size Picture, or another resize mode.";
const CONTENTS = [
  ["original", "Original"],
  ["fill", "Fill"],
  ["noise", "Noise"],
  ["nothing", "Nothing"],
];
const AREAS = [
  ["whole", "Whole picture"],
  ["masked", "Masked area only"],
];
const FIELDS = ["blur", "invert", "content", "area", "padding", "soft", "keep_size"];
/** A picture that nothing names is kept for a day. */
const SENT_MS = 3_600_000;

/** @type {ReturnType<typeof makeInpaintWorkspace>} */
let workspace;
/** @type {{changes: number, sha256: string, at: number, picture: any}} */
let sent = { changes: -1, sha256: "", at: 0, picture: null };
/** A recipe's mask on its way to its picture: {start, blob}. */
let arriving = null;

const isPainting = (values) => values[MODE] !== "extend";

/** Fill the part that stands above the strength: what is done, and what the masked area begins from. */
export function inpaint_section(element) {
  workspace = makeInpaintWorkspace();
  showProblem("inpaint.picture", workspace.empty, workspace.pictureProblem);
  showProblem("mask.image", workspace.painting, workspace.maskProblem);
  workspace.element.addEventListener("problem", workspace.show);
  // A stroke may settle what stood in the way.
  workspace.editor.share.later(() => {
    if (!workspace.maskProblem.hidden) change({});
  });
  placeEditor("inpaint", workspace.element, "Back to the canvas");
  const padding = slider("mask.padding", 8, { to: 256 });
  const paint = h(
    "div.fields",
    {},
    choice("mask.content", CONTENTS, "Start the masked area from"),
    choice("mask.area", AREAS, "Work on"),
    padding,
  );
  const extend = extendFields();
  element.replaceChildren(
    h(
      "div.fields",
      {},
      choice(
        MODE,
        [
          ["paint", "Paint a mask"],
          ["extend", "Extend"],
        ],
        "What to do",
      ),
      paint,
      extend,
    ),
  );
  form.watch((now) => {
    paint.hidden = !isPainting(now);
    extend.hidden = isPainting(now);
    padding.hidden = now["mask.area"] !== "masked";
    open(now["init_image.image"]);
  });
  joinRecipe("inpaint_section", {
    rules: {
      "inpaint.picture": (values) => (values["init_image.image"] ? null : { text: NEEDS, fixes: [] }),
      "mask.image": maskProblem,
      "mask.padding": inPaint((values) =>
        values["mask.area"] === "masked" ? ranged("mask.padding", values["mask.padding"], true) : null,
      ),
    },
  });
}

/** Fill the part below the strength: how the mask's edge is treated. Here both modes are written into the recipe. */
export function mask_edge_section(element) {
  const soft = h("div.pair", {}, shareSlider("hardness", "Brush hardness"), shareSlider("strength", "Brush strength"));
  const fields = h(
    "div.fields",
    {},
    slider("mask.blur", 1, { to: 64 }),
    h(
      "div.switches",
      {},
      toggle("mask.invert", "Change what is not painted"),
      toggle("mask.soft", "Soft inpainting"),
      soft,
    ),
  );
  element.replaceChildren(fields);
  form.watch((now) => {
    fields.hidden = !isPainting(now);
    soft.hidden = !now["mask.soft"];
  });
  joinRecipe("mask_edge_section", {
    rules: { "mask.blur": inPaint((values) => ranged("mask.blur", values["mask.blur"], true)), ...extendPart.rules },
    write,
    read,
  });
}

const inPaint = (rule) => (values) => (isPainting(values) ? rule(values) : null);

function maskProblem(values) {
  if (!isPainting(values) || !values["init_image.image"]) return null;
  const { editor } = workspace;
  const shown = shownPart(values, "inpaint");
  const isInverted = values["mask.invert"];
  /** The share of the mask at which nothing would change. */
  const nothing = isInverted ? 1 : 0;
  if (editor.share.get() === nothing) {
    const empty = editor.isFaint() ? FAINT : EMPTY;
    return { text: isInverted ? FULL : empty, fixes: [] };
  }
  return shown && editor.shareIn(shown) === nothing ? { text: OUTSIDE, fixes: [] } : null;
}

async function open(picture) {
  if (!picture) return;
  const { sha256, width, height } = picture;
  await workspace.editor.open({ key: `mask:${sha256}`, url: uploadUrl(sha256), width, height });
  if (arriving?.start !== sha256) return;
  const { blob } = arriving;
  arriving = null;
  await workspace.editor.load(blob);
}

async function write(draft, values) {
  if (!isPainting(values)) {
    extendPart.write(draft, values);
    return;
  }
  const keep_size = values["mask.area"] === "whole" && keepsSize(values, "inpaint");
  draft.mask = {
    ...partOf("mask", values),
    keep_size,
    image: refOf(await sendMask(values["init_image.image"].sha256)),
  };
}

// The same mask is sent once.
async function sendMask(sha256) {
  const changes = workspace.editor.changes();
  const isNew = sent.changes !== changes || sent.sha256 !== sha256 || Date.now() - sent.at > SENT_MS;
  if (isNew) sent = { changes, sha256, at: Date.now(), picture: await upload(await workspace.editor.blob(), "mask") };
  return sent.picture;
}

async function read({ init_image: start, mask }, patch) {
  if (!start) return "";
  extendPart.read(start, patch);
  if (!mask) return "";
  for (const name of FIELDS) {
    const path = `mask.${name}`;
    patch[path] = typed(mask[name] ?? config.defaults[path]);
  }
  const answer = await fetch(uploadUrl(mask.image.sha256)).catch(() => null);
  if (!answer?.ok) return "Its mask is not here any more. Paint it again.";
  arriving = { start: start.image.sha256, blob: await answer.blob() };
  return "";
}
