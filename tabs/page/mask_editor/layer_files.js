// Layers to files and back: masks as gray PNGs, colors painted into their picture.

import { config } from "../core/config.js";
import { fillFrom } from "./layer.js";

/** A pixel as one number: alpha is its highest byte; all three colors the same. */
const OPAQUE = 0xff000000;
const GRAY = 0x010101;

function drawn(width, height) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  return /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d", { willReadFrequently: true }));
}

function imageOf(layer) {
  const image = new ImageData(layer.width, layer.height);
  if (layer.channels === 4) image.data.set(layer.data);
  else {
    const pixels = new Uint32Array(image.data.buffer);
    for (let index = 0; index < pixels.length; index += 1) pixels[index] = OPAQUE + GRAY * layer.data[index];
  }
  const made = drawn(layer.width, layer.height);
  made.putImageData(image, 0, 0);
  return made.canvas;
}

const blobOf = (context) =>
  new Promise((resolve, reject) => {
    context.canvas.toBlob(
      (blob) => (blob ? resolve(blob) : reject(new Error("The browser could not write a PNG."))),
      "image/png",
    );
  });

/**
 * A layer as a PNG of the picture's size: white on black for a mask or a drawing, colors on the picture.
 * @param {import("./layer.js").Layer} layer
 * @param {CanvasImageSource|string|null} under the picture or the color that colors lie on
 */
export function pngOf(layer, width, height, under = null) {
  const made = drawn(width, height);
  if (typeof under === "string") {
    made.fillStyle = under;
    made.fillRect(0, 0, width, height);
  } else if (under) {
    onBackground(made, width, height);
    made.drawImage(under, 0, 0, width, height);
  }
  made.imageSmoothingQuality = "high";
  made.drawImage(imageOf(layer), 0, 0, width, height);
  return blobOf(made);
}

/** How large a picture file is, and its pixels on a layer of ours; transparent counts as black. */
export async function readMask(file, layer) {
  const picture = await createImageBitmap(file, { colorSpaceConversion: "none" });
  const made = drawn(layer.width, layer.height);
  made.fillRect(0, 0, layer.width, layer.height);
  made.drawImage(picture, 0, 0, layer.width, layer.height);
  const { data } = made.getImageData(0, 0, layer.width, layer.height);
  const bytes = new Uint8ClampedArray(layer.width * layer.height);
  for (let index = 0; index < bytes.length; index += 1) {
    const [red, green, blue] = data.subarray(4 * index, 4 * index + 3);
    bytes[index] = Math.round(0.299 * red + 0.587 * green + 0.114 * blue);
  }
  const size = { width: picture.width, height: picture.height };
  return {
    ...size,
    fits: Math.abs(size.width / size.height - layer.width / layer.height) < 0.02 * (layer.width / layer.height),
    take: () => fillFrom(layer, bytes),
  };
}

// A picture's transparent parts are what is seen behind them.
function onBackground(context, width, height) {
  context.fillStyle = config.background;
  context.fillRect(0, 0, width, height);
}

/** "#rrggbb" of one pixel of a picture, as it is seen. */
export function colorAt(source, x, y) {
  const made = drawn(1, 1);
  onBackground(made, 1, 1);
  made.drawImage(source, x, y, 1, 1, 0, 0, 1, 1);
  return hex([...made.getImageData(0, 0, 1, 1).data].slice(0, 3));
}

/** Red, green and blue as "#rrggbb", and back. */
export const hex = (color) => `#${color.map((part) => part.toString(16).padStart(2, "0")).join("")}`;
export const channelsOf = (text) => [1, 3, 5].map((at) => parseInt(text.slice(at, at + 2), 16));
