// Uploads: the server keeps them by their sha256, the page knows that, the size and a name.

import { offerUndo } from "../ui/undo_bar.js";
import { post, Refused, request } from "./api.js";
import { isReadable } from "./transfer.js";

/**
 * @typedef {{sha256: string, width: number, height: number, name?: string, parent?: string}} Upload
 * name: of the file, for a label; parent: id of the gallery's picture that it is
 */

/** Address of an upload. */
export const uploadUrl = (sha256) => `api/v1/uploads/${sha256}`;

/**
 * Upload a file or a drawing.
 * @param {Blob} blob PNG, JPEG, WebP or AVIF; the server says what is wrong with anything else
 * @returns {Promise<Upload>}
 * @throws {Refused} also where the file can't be read: a lost connection would look alike
 */
export async function upload(blob, name = /** @type {any} */ (blob).name ?? "") {
  await needReadable(blob, name);
  const sent = new Blob([blob], { type: blob.type || "application/octet-stream" });
  const { notices = [], ...kept } = await request("POST", "/uploads", sent);
  if (notices.length) offerUndo(notices.join(" "), null);
  return { ...kept, name };
}

/** @param {Blob} blob @throws {Refused} it is a folder, or was moved or locked since it was chosen */
export async function needReadable(blob, name) {
  if (await isReadable(blob)) return;
  throw new Refused(
    {
      code: "unreadable_file",
      message: `${name || "The file"} could not be read.`,
      hint: "Choose it again. A folder can’t be used.",
    },
    0,
  );
}

/** Make a picture of the gallery an upload, by its id. @returns {Promise<Upload>} */
export async function uploadSaved(id) {
  const { sha256, width, height } = await post(`/images/${encodeURIComponent(id)}/upload`);
  return { sha256, width, height, name: "", parent: id };
}

/**
 * Let an image lie on the background color as soon as it is there: until then its place keeps its color.
 * @param {HTMLImageElement} image
 */
export function onBackground(image) {
  image.addEventListener("load", () => image.classList.add("on-background"));
  image.addEventListener("error", () => image.classList.remove("on-background"));
  return image;
}

/** A picture that a recipe names, if the server still has it: null where it is gone. @returns {Promise<Upload|null>} */
export async function findUpload(sha256) {
  const image = new Image();
  image.src = uploadUrl(sha256);
  const isThere = await image.decode().then(
    () => true,
    () => false,
  );
  return isThere ? { sha256, width: image.naturalWidth, height: image.naturalHeight, name: "" } : null;
}

/** As a recipe names it. */
export const refOf = (picture) => ({ sha256: picture.sha256 });
