// A draft that was sent and not heard of. It outlives a reload, which gradio does by itself when a server is back; its key
// makes it one job, however often it is sent.

import { inWords, post, Unreachable } from "../core/api.js";
import { keep, recall } from "../core/store.js";
import { refuse } from "../form/rules.js";

const LONGEST_MS = 600_000;

/** @typedef {{draft: any, key: string, at: number}} Sent */

let now = /** @type {Sent|null} */ (null);

export const unheard = {
  get: () => now,

  /** @param {Sent|null} sent null: it was heard of */
  set(sent) {
    now = sent;
    keep("unheard", sent, "sessionStorage");
  },

  /** After a load: send what was not heard of before it. @returns {Promise<{id: string}|null>} the job, if there is one */
  async send() {
    const kept = /** @type {Sent|null} */ (recall("unheard", null, "sessionStorage"));
    if (!kept || Date.now() - kept.at > LONGEST_MS) return null;
    // What is sent while the answer is on its way is not heard of by it.
    const settle = () => {
      if (!now) unheard.set(null);
    };
    try {
      const made = await post("/jobs", kept.draft, kept.key);
      settle();
      return made;
    } catch (problem) {
      if (!(problem instanceof Unreachable)) settle();
      refuse(inWords(problem));
      return null;
    }
  },
};
