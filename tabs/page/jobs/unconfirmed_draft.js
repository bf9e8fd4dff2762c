// A draft that was sent and not confirmed by any message. It outlives a reload, which gradio does by itself when the
// server is back; its key makes it one job, however often it is sent.

import { inWords, post, Unreachable } from "../core/api.js";
import { keep, recall } from "../core/store.js";
import { refuse } from "../form/rules.js";

const LONGEST_MS = 600_000;

/** @typedef {{draft: any, key: string, at: number}} Sent */

let now = /** @type {Sent|null} */ (null);

export const unconfirmed = {
  get: () => now,

  /** @param {Sent|null} sent null: a message confirmed it */
  set(sent) {
    now = sent;
    keep("unheard", sent, "sessionStorage");
  },

  /** After a load: send the draft that nothing confirmed before it. @returns {Promise<{id: string}|null>} its job */
  async send() {
    const kept = /** @type {Sent|null} */ (recall("unheard", null, "sessionStorage"));
    if (!kept || Date.now() - kept.at > LONGEST_MS) return null;
    // A draft that is sent while this answer is on its way is not confirmed by it.
    const settle = () => {
      if (!now) unconfirmed.set(null);
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
