// What is dropped or pasted: one of our pictures, files that can be used, or a sentence on why nothing can be.
// Nothing is ever fetched from another site.

import { draggedPicture } from "../ui/drag.js";
import { config } from "./config.js";
import { some } from "./words.js";

const OURS = /\/api\/v1\/images\/([0-9a-f]{22})(?:\/thumbnail)?(?:\?.*)?$/;
const SAVE_FIRST = "Darkroom fetches nothing from other sites. Save the picture first, then drop its file.";
const FORMATS = "Use a picture file: PNG, JPEG or WebP.";
/** What files without a picture are called, by the begin of their type or the end of their name. */
/** @type {[RegExp, string][]} */
const OTHERS = [
  [/^video\/|\.(mp4|mov|mkv|webm|avi|m4v)$/, "a video"],
  [/^audio\/|\.(mp3|wav|flac|ogg|m4a)$/, "a sound file"],
  [/^application\/pdf|\.pdf$/, "a PDF"],
  [/html|\.html?$/, "a web page"],
  [/\.(safetensors|ckpt|pth?|gguf|onnx|bin)$/, "a model file"],
  [/zip|compressed|\.(zip|7z|rar|tar|gz)$/, "an archive"],
  [/\.(docx?|xlsx?|pptx?|od[tsp]|rtf)$/, "a document"],
  [/^text\/|json|\.(txt|json|ya?ml|csv|md)$/, "a text file"],
  [/\.(url|webloc|lnk|desktop)$/, "a link"],
];

/**
 * @typedef {{id?: string, files: File[], problem: string}} Taken id: of the gallery's picture that it is; problem:
 *   what can't be used, and what to do
 */

/**
 * @param {DataTransfer|null} transfer of a drop or a paste
 * @param {{isMany?: boolean}} [how] isMany: several files at once make sense here
 * @returns {Taken}
 */
export function takenFrom(transfer, how = {}) {
  const id = (transfer && draggedPicture(transfer)) ?? ourPicture(transfer);
  if (id) return { id, files: [], problem: "" };
  const files = [...(transfer?.files ?? [])];
  return files.length
    ? chosenFrom(files, { ...how, folders: foldersIn(transfer) })
    : { files: [], problem: wordsOn(transfer) };
}

/**
 * The same of files that were chosen.
 * @param {File[]} files
 * @param {{isMany?: boolean, folders?: Set<string>}} [how]
 * @returns {Taken}
 */
export function chosenFrom(files, { isMany = false, folders = new Set() } = {}) {
  const problems = files.map((file) => problemOfFile(file, folders));
  const usable = files.filter((_, at) => !problems[at]);
  if (files.length === 1) return { files: usable, problem: problems[0] };
  if (!isMany)
    return { files: [], problem: `These are ${files.length} files, and one picture goes here. Take one of them.` };
  const left = files.filter((_, at) => problems[at]).map(({ name }) => name);
  const named = left.slice(0, 3).join(", ") + (left.length > 3 ? ` and ${left.length - 3} more` : "");
  return {
    files: usable,
    problem: left.length ? `${some(left.length, "file")} can’t be used: ${named}. ${FORMATS}` : "",
  };
}

/** A file that can't be read (any more), as one that was moved meanwhile. @param {Blob} blob */
export const isReadable = (blob) =>
  blob
    .slice(0, 1)
    .arrayBuffer()
    .then(
      () => true,
      () => false,
    );

function problemOfFile(file, folders) {
  const { name, size, type } = file;
  if (folders.has(name)) return `“${name}” is a folder. Take one picture out of it.`;
  if (type.startsWith("image/")) return size ? tooLarge(file) : empty(name);
  const [, kind] = OTHERS.find(([sign]) => sign.test(type) || sign.test(name.toLowerCase())) ?? [];
  if (kind === "a model file")
    return `${name} is a model file. Put it into ${config.folders.models_short}; it appears here by itself.`;
  if (kind === "a link") return `${name} is a link, not the picture. ${SAVE_FIRST}`;
  if (kind || type) return `${name} is ${kind ?? "no picture"}. ${FORMATS}`;
  return size ? tooLarge(file) : empty(name);
}

const empty = (name) => `${name || "The file"} is empty (0 bytes). Choose another file.`;

function tooLarge({ name, size }) {
  const most = config.limits.upload_bytes;
  return size <= most
    ? ""
    : `${name} is ${Math.round(size / 1e6)} MB; at most ${most / 1e6} MB are taken. Save it smaller.`;
}

// A browser says only of a drop's items, and only at once, that one is a folder.
function foldersIn(transfer) {
  const entries = [...(transfer?.items ?? [])].map((item) => item.webkitGetAsEntry?.());
  return new Set(entries.filter((entry) => entry?.isDirectory).map((entry) => entry.name));
}

// One of our own pictures, dragged by its address: the film, a link to it, another window.
function ourPicture(transfer) {
  const address = addressIn(transfer);
  return address.startsWith(`${location.origin}/`) ? (OURS.exec(address)?.[1] ?? null) : null;
}

const addressIn = (transfer) =>
  (transfer?.getData("text/uri-list") ?? "").split(/[\r\n]+/).find((line) => line && !line.startsWith("#")) ?? "";

/** Whether it is a picture on a web page: its markup, or its address, says so. */
const isForeignPicture = (transfer) =>
  /<img\b/i.test(transfer?.getData("text/html") ?? "") ||
  /\.(png|jpe?g|webp|gif|avif|bmp)([?#]|$)/i.test(addressIn(transfer));

function wordsOn(transfer) {
  const address = addressIn(transfer);
  const text = transfer?.getData("text/plain").trim() ?? "";
  if (isForeignPicture(transfer) && (address || !text)) return `That picture is on another site. ${SAVE_FIRST}`;
  if (address || /^\w+:\/\/\S+$/.test(text)) return `A link can’t be used. ${SAVE_FIRST}`;
  if (text) return "Text can’t be used here. Drop it on the prompt, or drop a picture file.";
  return `What was dropped holds no picture. ${FORMATS}`;
}

/** Whether a field may take it as the text that it is. @param {DataTransfer|null} transfer */
export function isText(transfer) {
  const kinds = [...(transfer?.types ?? [])];
  return kinds.includes("text/plain") && !kinds.includes("Files") && !kinds.includes("text/uri-list");
}
