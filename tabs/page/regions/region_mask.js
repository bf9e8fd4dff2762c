// Painted masks of regions: the editor they are painted in, where they lie, and their shape.

import { formTab } from "../core/route.js";
import { upload, uploadUrl } from "../core/uploads.js";
import { form } from "../form/form.js";
import { canFollow, resultSize } from "../form/size.js";
import { openMaskDialog } from "../sections/sketch_dialog.js";

/** Sides differ by rounding to whole pixels. */
const SAME_SHAPE = 0.02;
const isSameShape = (one, other) =>
  Math.abs((one.width * other.height) / (one.height * other.width) - 1) < SAME_SHAPE;
const LOOKED_AT = 64;
/** Gray from which a mask is seen to be there. */
const SEEN = 32;

/** White where the region is: a mask's picture, or a box, in so many pixels. */
async function drawnRegion({ box, mask }, width, height) {
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width, height });
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d", { willReadFrequently: true }));
  context.fillRect(0, 0, width, height);
  if (mask) {
    const image = new Image();
    image.src = uploadUrl(mask.sha256);
    await image.decode();
    context.drawImage(image, 0, 0, width, height);
  } else {
    context.fillStyle = "white";
    context.fillRect(box.left * width, box.top * height, box.width * width, box.height * height);
  }
  return context;
}

/** @returns {Promise<Blob>} a PNG */
const pngOf = ({ canvas }) =>
  new Promise((resolve, reject) => {
    canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("The browser could not write a PNG."))));
  });

/**
 * A mask in the shape of the picture to come: as it is, else stretched as the canvas shows it.
 * @param {import("../core/uploads.js").Upload} mask
 * @param {{width: number, height: number}} size
 */
export async function fittedMask(mask, size) {
  if (isSameShape(mask, size)) return mask;
  const drawn = await drawnRegion({ box: null, mask }, size.width, size.height).catch(() => null);
  return drawn ? upload(await pngOf(drawn), "region mask") : mask; // of one that is gone the server says so
}

/** @type {Map<string, Promise<import("./boxes.js").Box>>} */
const bounds = new Map();

/** The box around what is painted. @param {import("../core/uploads.js").Upload} mask */
export function boundsOf(mask) {
  const known = bounds.get(mask.sha256) ?? drawnRegion({ box: null, mask }, LOOKED_AT, LOOKED_AT).then(seenIn);
  bounds.set(mask.sha256, known);
  return known;
}

/** @returns {import("./boxes.js").Box} */
function seenIn(context) {
  const { data } = context.getImageData(0, 0, LOOKED_AT, LOOKED_AT);
  let [left, top, right, bottom] = [LOOKED_AT, LOOKED_AT, 0, 0];
  for (let at = 0; at < LOOKED_AT * LOOKED_AT; at += 1) {
    if (data[4 * at] < SEEN) continue;
    const [x, y] = [at % LOOKED_AT, Math.floor(at / LOOKED_AT)];
    [left, top] = [Math.min(left, x), Math.min(top, y)];
    [right, bottom] = [Math.max(right, x + 1), Math.max(bottom, y + 1)];
  }
  if (left >= right) return { left: 0, top: 0, width: 1, height: 1 };
  const part = (pixels) => pixels / LOOKED_AT;
  return { left: part(left), top: part(top), width: part(right - left), height: part(bottom - top) };
}

/**
 * Paint the mask of a region over the result pane, beginning with where the region is now.
 * @param {import("./region_units.js").Region} region
 * @param {number} count its number
 * @param {(mask: import("../core/uploads.js").Upload) => void} onuse
 */
export function paintMask(region, count, onuse) {
  const now = form.get();
  const tab = formTab();
  const { width, height } = resultSize(now, tab);
  const size = width && height ? { width, height } : { width: 512, height: 512 };
  const start = canFollow(tab) ? now["init_image.image"] : null;
  const url = start && isSameShape(start, size) ? uploadUrl(start.sha256) : "";
  openMaskDialog({
    title: `Paint where region ${count} is.`,
    image: { key: `region:${region.id}`, url, ...size },
    begin: async (editor) => {
      const drawn =
        (await drawnRegion(region, size.width, size.height).catch(() => null)) ??
        (await drawnRegion({ ...region, mask: null }, size.width, size.height));
      await editor.load(await pngOf(drawn));
    },
    onuse,
  });
}
