// "Send to": a picture goes on as the start of something else.

import { takeControl } from "../controlnet/control_units.js";
import { go, titleOf } from "../core/route.js";
import { say } from "../core/toast.js";
import { uploadSaved } from "../core/uploads.js";
import { showView } from "../inpaint/view_toggle.js";
import { takeStart } from "../sections/init_image_section.js";
import { allWithin } from "../ui/dom.js";
import { announce } from "../ui/live.js";
import { openMenu } from "../ui/menu.js";
import { openUpscale } from "./upscale.js";

const asStart = (picture) => {
  takeStart(picture);
  return "init_image.image";
};

/**
 * take: returns the field where the picture is then.
 * @type {{id: string, icon: string, take: (picture: import("../core/uploads.js").Upload) => string}[]}
 */
const TABS = [
  { id: "img2img", icon: "picture", take: asStart },
  { id: "inpaint", icon: "brush", take: asStart },
  { id: "controlnet", icon: "outline", take: takeControl },
];

/** Open the menu for a picture of the gallery. */
export function openSendMenu(opener, id) {
  openMenu(opener, "Send to", [
    ...TABS.map((tab) => ({
      label: titleOf(tab.id),
      icon: tab.icon,
      onchoose: () => send(tab, () => uploadSaved(id)),
    })),
    { label: "Upscale", icon: "larger", onchoose: () => upscaleSaved(id) },
  ]);
}

async function send(tab, bringing) {
  announce(`Bringing the picture to ${titleOf(tab.id)}.`);
  try {
    const picture = await bringing();
    const field = tab.take(picture);
    go(tab.id);
    arrive(field);
  } catch (problem) {
    say(problem);
  }
}

// On the chosen tab too, the picture comes into sight: on the tab's canvas, where it has one, else at its field.
function arrive(field) {
  showView("editor");
  const workspace = document.querySelector(".workspace:not([hidden])");
  if (!workspace) {
    document.querySelector(`[data-field="${field}"]`)?.scrollIntoView({ block: "nearest" });
    return;
  }
  if (innerWidth < 860) scrollTo({ top: 0 });
  // The canvas covers what was pressed.
  if (
    !document.activeElement?.checkVisibility({ visibilityProperty: true }) ||
    document.activeElement === document.body
  ) {
    allWithin(workspace, "[role=application]")[0]?.focus({ preventScroll: true });
  }
}

/** Begin from a picture that is on its way: on the chosen tab if that begins from one, else Image to image. */
export const startFrom = (tab, bringing) => send(TABS.find(({ id }) => id === tab) ?? TABS[0], bringing);

/** Ask how to enlarge a picture of the gallery. */
export async function upscaleSaved(id) {
  try {
    openUpscale(await uploadSaved(id));
  } catch (problem) {
    say(problem);
  }
}
