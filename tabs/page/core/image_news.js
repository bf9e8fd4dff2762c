// What happened to pictures, told to every part of the page that shows some.

import { observable } from "./store.js";

/** What happened last to which pictures: {kind: "added"|"removed"|"restored"|"changed", ids, favorite?}. */
export const news = observable(/** @type {any} */ ({ kind: "none", ids: [] }));

/** Tell the watchers. */
export const tell = (kind, ids, more = {}) => news.set({ kind, ids, ...more });

/** Pictures were saved. */
export const added = (ids) => tell("added", ids);
