// A mask editor over the result pane, until it is used or put away: colors painted on the start picture (a sketch), a
// drawing, white on black, for a control unit, or the mask of a region. What was painted stays with its key.

import { Refused, Unreachable } from "../core/api.js";
import { formTab, route } from "../core/route.js";
import { say } from "../core/toast.js";
import { upload, uploadUrl } from "../core/uploads.js";
import { form, number } from "../form/form.js";
import { sizeOf } from "../form/size.js";
import { job } from "../jobs/job.js";
import { colorGroup } from "../mask_editor/colors.js";
import { makeMaskEditor } from "../mask_editor/mask_editor.js";
import { allWithin, button, h } from "../ui/dom.js";
import { countEscape } from "../ui/layers.js";

const KINDS = {
  colors: {
    label: "Sketch",
    words: "Paint colors.",
    rest: "They become the start picture.",
    use: "Use the sketch",
    makeExtra: colorGroup,
  },
  drawing: {
    label: "Drawing",
    words: "Draw lines.",
    rest: "White on black, for the control picture.",
    use: "Use the drawing",
    makeExtra: () => null,
  },
  mask: {
    label: "Region mask",
    words: "Paint where the region is.",
    rest: "",
    use: "Use the mask",
    makeExtra: () => null,
  },
};
const EMPTY = "Nothing is painted. Paint where the region is, or put this away.";

/** One of each kind, made when it is first wanted. @type {Map<string, ReturnType<typeof makeSketchDialog>>} */
const dialogs = new Map();
let close = () => {};

function makeSketchDialog(kind) {
  const { label, words, rest, use, makeExtra } = KINDS[kind];
  const editor = makeMaskEditor({ look: kind, label, extra: makeExtra() });
  let onuse = (picture) => {};
  const title = h("strong", {});
  const problem = h("p.problem", { hidden: true, role: "alert" }, EMPTY);
  const apply = button({ label: use, kind: "outlined.suggested", onclick: finish });
  const element = h(
    "section.workspace.workspace-layer.sketch-dialog",
    {
      "aria-label": label,
      onkeydown: (event) => {
        if (event.key !== "Escape") return;
        event.stopPropagation();
        countEscape();
        close();
      },
    },
    h("div.workspace-editor", {}, editor.element),
    h(
      "div.workspace-line",
      {},
      h("div.workspace-text", {}, h("p.workspace-words", {}, title, ` ${rest}`), problem),
      h("div.workspace-actions", {}, button({ label: "Put away", onclick: () => close() }), apply),
    ),
  );

  async function finish() {
    problem.hidden = kind !== "mask" || editor.share.get() > 0;
    if (!problem.hidden) return;
    try {
      const picture = await upload(await editor.blob(), label.toLowerCase());
      close();
      onuse(picture);
    } catch (problem) {
      if (!(problem instanceof Refused || problem instanceof Unreachable)) throw problem;
      say(problem);
    }
  }

  return {
    element,
    /** @param {Asked} asked */
    async show(asked) {
      onuse = asked.onuse;
      title.textContent = asked.title ?? words;
      problem.hidden = true;
      await editor.open(asked.image);
      await asked.begin?.(editor);
    },
  };
}

/**
 * @typedef {Object} Asked
 * @property {import("../mask_editor/mask_editor.js").EditorImage} image
 * @property {(picture: import("../core/uploads.js").Upload) => void} onuse
 * @property {(editor: ReturnType<typeof makeMaskEditor>) => Promise<void>} [begin] paints what it begins with
 * @property {string} [title] first words of the line below
 *
 * @param {"colors"|"drawing"|"mask"} kind
 * @param {Asked} asked
 */
function openSketchDialog(kind, asked) {
  close();
  const dialog = dialogs.get(kind) ?? makeSketchDialog(kind);
  dialogs.set(kind, dialog);
  const { element, show } = dialog;
  const opener = /** @type {HTMLElement|null} */ (document.activeElement);
  const stops = [
    job.view.later(() => {
      if (job.isActive()) close();
    }),
    route.later(() => close()),
  ];
  close = () => {
    close = () => {};
    stops.forEach((stop) => stop());
    element.remove();
    opener?.focus({ preventScroll: true });
  };
  document.querySelector(".result-pane")?.append(element);
  show(asked);
  allWithin(element, "[role=application]")[0].focus({ preventScroll: true });
  if (innerWidth < 860) scrollTo({ top: 0 });
}

/** The button that opens a sketch on the start picture, or on a white image where there is none. */
export function sketchButton(onuse) {
  const made = button({
    label: "Sketch on it",
    icon: "brush",
    onclick: () => {
      const now = form.get();
      const picture = now["init_image.image"];
      const image = picture
        ? {
            key: `sketch:${picture.sha256}`,
            url: uploadUrl(picture.sha256),
            width: picture.width,
            height: picture.height,
          }
        : {
            key: `sketch:${now.width}x${now.height}`,
            url: "",
            width: number(now.width) || 512,
            height: number(now.height) || 512,
          };
      openSketchDialog("colors", { image, onuse });
    },
  });
  form.watch((now) =>
    made.querySelector(".words")?.replaceChildren(now["init_image.image"] ? "Sketch on it" : "Sketch one"),
  );
  return made;
}

/** The button that opens a drawing, white on black and as large as the result will be. */
export function drawButton(key, onuse) {
  return button({
    label: "Draw one",
    icon: "brush",
    onclick: () => {
      const { width, height } = sizeOf(form.get(), formTab());
      openSketchDialog("drawing", {
        image: { key, url: "", width: width || 512, height: height || 512 },
        onuse,
      });
    },
  });
}

/** Open the mask of a region. @param {Asked} asked */
export const openMaskDialog = (asked) => openSketchDialog("mask", asked);
