// A canvas that lies over the stage until it is used or put away: colors painted on the start picture (a sketch),
// or a drawing, white on black, for a control unit. What was painted stays with its key.

import { Refused, Unreachable } from "../core/api.js";
import { formTab, route } from "../core/route.js";
import { say } from "../core/toast.js";
import { bring, broughtUrl } from "../core/uploads.js";
import { form, number } from "../form/form.js";
import { sizeOf } from "../form/size.js";
import { job } from "../jobs/job.js";
import { colorGroup } from "../mask_editor/colors.js";
import { paintCanvas } from "../mask_editor/mask_editor.js";
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
};

/** One of each kind, made when it is first wanted. @type {Map<string, ReturnType<typeof makeEasel>>} */
const easels = new Map();
let close = () => {};

function makeEasel(kind) {
  const { label, words, rest, use, makeExtra } = KINDS[kind];
  const canvas = paintCanvas({ look: kind, label, extra: makeExtra() });
  let onuse = (picture) => {};
  const apply = button({ label: use, kind: "outlined.suggested", onclick: finish });
  const element = h(
    "section.bench.workbench.easel",
    {
      "aria-label": label,
      onkeydown: (event) => {
        if (event.key !== "Escape") return;
        event.stopPropagation();
        countEscape();
        close();
      },
    },
    h("div.bench-canvas", {}, canvas.element),
    h(
      "div.bench-line",
      {},
      h("p.bench-words", {}, h("strong", {}, words), ` ${rest}`),
      h("div.bench-acts", {}, button({ label: "Put away", onclick: () => close() }), apply),
    ),
  );

  async function finish() {
    try {
      const picture = await bring(await canvas.blob(), label.toLowerCase());
      close();
      onuse(picture);
    } catch (problem) {
      if (!(problem instanceof Refused || problem instanceof Unreachable)) throw problem;
      say(problem);
    }
  }

  return {
    element,
    show(sheet, use) {
      onuse = use;
      canvas.open(sheet);
    },
  };
}

/**
 * @param {"colors"|"drawing"} kind
 * @param {import("../mask_editor/mask_editor.js").Sheet} sheet
 * @param {(picture: import("../core/uploads.js").Brought) => void} onuse
 */
function openEasel(kind, sheet, onuse) {
  close();
  const easel = easels.get(kind) ?? makeEasel(kind);
  easels.set(kind, easel);
  const { element, show } = easel;
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
  document.querySelector(".stage")?.append(element);
  show(sheet, onuse);
  allWithin(element, "[role=application]")[0].focus({ preventScroll: true });
  if (innerWidth < 860) scrollTo({ top: 0 });
}

/** The button that opens a sketch on the start picture, or on a white sheet where there is none. */
export function sketchButton(onuse) {
  const made = button({
    label: "Sketch on it",
    icon: "brush",
    onclick: () => {
      const now = form.get();
      const picture = now["init_image.image"];
      const sheet = picture
        ? {
            key: `sketch:${picture.sha256}`,
            url: broughtUrl(picture.sha256),
            width: picture.width,
            height: picture.height,
          }
        : {
            key: `sketch:${now.width}x${now.height}`,
            url: "",
            width: number(now.width) || 512,
            height: number(now.height) || 512,
          };
      openEasel("colors", sheet, onuse);
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
      openEasel("drawing", { key, url: "", width: width || 512, height: height || 512 }, onuse);
    },
  });
}
