// Talks to /api/v1 and knows whether the server can be reached.

import { observable, windowName } from "./store.js";

// Below the page's own address: a proxy may show it under a path.
const BASE = "api/v1";
const LONGEST_MS = 60_000;
const LONGEST_UPLOAD_MS = 300_000;
// What a bare status means, where something before Darkroom answers and has no words.
const BARE = {
  401: ["Darkroom asks for its password.", "Reload the page to sign in."],
  403: ["Something before Darkroom refused this.", "Reload the page; sign in if it asks."],
  413: ["What was sent is larger than is accepted.", "Send a smaller picture or a shorter text."],
  421: ["This address leads to another program.", "Open Darkroom by the address that it shows when it starts."],
  429: ["Too many requests at once.", "Wait a little, then try again."],
};

/** Whether the last request reached the server. */
export const online = observable(true);

/** An answer that says no: {code, message, hint} as the server words it. */
export class Refused extends Error {
  constructor(facts, status) {
    super(facts.message);
    this.code = facts.code;
    this.hint = facts.hint ?? "";
    /** What has to change, as a path of the request: "controls.1.image"; empty: no one field. */
    this.field = facts.field ?? "";
    this.fix = facts.fix ?? {};
    this.status = status;
  }
}

/** The server could not be reached, or did not answer in time. */
export class Unreachable extends Error {
  hint = "Nothing is lost: try again when it is back.";
}

/**
 * Any failure as words for the person. What no one foresaw goes to the console, too.
 * @returns {{message: string, hint?: string, field?: string, fix?: any}}
 */
export function inWords(problem) {
  if (problem instanceof Refused || problem instanceof Unreachable) return problem;
  console.error(problem);
  return {
    message: `The page met something it did not expect (${problem?.name ?? "Error"}).`,
    hint: "Reload it, then try again.",
  };
}

/** Any failure as one line. @returns {string} */
export function sentenceOf(problem) {
  const { message, hint = "" } = inWords(problem);
  return `${message} ${hint}`.trim();
}

const bare = (status) => {
  const [message, hint] = BARE[status] ?? [
    `The server answered ${status}.`,
    status >= 500 ? "Try again in a moment." : "Reload the page and try again.",
  ];
  return { code: `http_${status}`, message, hint };
};

/**
 * One request; the answer is JSON (or null where there is none).
 * @param {string} method
 * @param {string} path below /api/v1
 * @param {any} [body] JSON value, or a Blob as it is
 * @param {string} [key] of a request that may be sent twice: it counts once
 */
export async function request(method, path, body, key = "") {
  const isBlob = body instanceof Blob;
  const headers = { "X-Darkroom-Session": windowName };
  if (key) headers["Idempotency-Key"] = key;
  if (body !== undefined && !isBlob) headers["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(BASE + path, {
      method,
      headers,
      body: body === undefined || isBlob ? body : JSON.stringify(body),
      signal: AbortSignal.timeout?.(isBlob ? LONGEST_UPLOAD_MS : LONGEST_MS),
    });
  } catch (problem) {
    online.set(false);
    const isLate = problem instanceof DOMException && problem.name === "TimeoutError";
    throw new Unreachable(isLate ? "Darkroom did not answer." : "No connection to Darkroom.");
  }
  online.set(true);
  if (answer.status === 204) return null;
  const facts = await answer.json().catch(() => null);
  if (!answer.ok) throw new Refused(facts?.message ? facts : bare(answer.status), answer.status);
  if (facts === null)
    throw new Refused(
      {
        code: "not_darkroom",
        message: "Something other than Darkroom answered.",
        hint: "Reload the page; sign in if it asks.",
      },
      answer.status,
    );
  return facts;
}

export const get = (path) => request("GET", path);
export const post = (path, body, key = "") => request("POST", path, body, key);

/** The path of a model below /api/v1. */
export const modelPath = (name) => `/models/${name.split("/").map(encodeURIComponent).join("/")}`;

/** Address of a picture's file. */
export const pictureUrl = (id) => `${BASE}/images/${encodeURIComponent(id)}`;

/** Address of its thumbnail. */
export const thumbnailUrl = (id) => `${BASE}/images/${encodeURIComponent(id)}/thumbnail`;

/** Address of a model's side picture. */
export const modelPictureUrl = (name, kind = "checkpoint") =>
  `${BASE}${modelPath(name)}/preview?kind=${kind}`;
