// Talks to /api/v1 and knows whether the server can be reached.

import { observable, windowName } from "./store.js";

const BASE = "/api/v1";

/** Whether the last request reached the server. */
export const online = observable(true);

/** An answer that says no: {code, message, hint} as the server words it. */
export class Refused extends Error {
  constructor(facts, status) {
    super(facts.message);
    this.code = facts.code;
    this.hint = facts.hint ?? "";
    this.status = status;
  }
}

/** The server could not be reached; the page says so in one place. */
export class Unreachable extends Error {}

/**
 * One request; the answer is JSON (or null where there is none).
 * @param {string} method
 * @param {string} path below /api/v1
 * @param {any} [body] JSON value, or a Blob as it is
 */
export async function request(method, path, body) {
  const isBlob = body instanceof Blob;
  const headers = { "X-Darkroom-Window": windowName };
  if (body !== undefined && !isBlob) headers["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(BASE + path, {
      method, headers, body: body === undefined || isBlob ? body : JSON.stringify(body),
    });
  } catch {
    online.set(false);
    throw new Unreachable("No connection to Darkroom.");
  }
  online.set(true);
  const hasFacts = answer.status !== 204 && answer.headers.get("content-type")?.includes("json");
  const facts = hasFacts ? await answer.json() : null;
  if (!answer.ok) {
    throw new Refused(facts ?? { code: `http_${answer.status}`, message: `The server answered ${answer.status}.` },
      answer.status);
  }
  return facts;
}

export const get = (path) => request("GET", path);
export const post = (path, body) => request("POST", path, body);

/** Address of a picture's file. */
export const pictureUrl = (id) => `${BASE}/images/${encodeURIComponent(id)}`;

/** Address of its thumbnail. */
export const thumbnailUrl = (id) => `${BASE}/images/${encodeURIComponent(id)}/thumbnail`;

/** Address of a model's side picture. */
export const modelPictureUrl = (name, kind = "checkpoint") =>
  `${BASE}/models/${name.split("/").map(encodeURIComponent).join("/")}/preview?kind=${kind}`;
