// The pictures that the gallery has so far: pages by key, newest first, and what changed since.

import { get } from "../core/api.js";
import { news } from "../core/image_news.js";
import { observable } from "../core/store.js";

const PAGE = 60;

/**
 * @returns an object whose `state` is {records, total, search, isLoading, hasMore, newer, problem}
 */
export function makeGalleryData() {
  const state = observable({
    records: /** @type {any[]} */ ([]),
    total: 0,
    search: "",
    isLoading: false,
    hasMore: true,
    newer: 0,
    problem: "",
  });
  const removed = new Map();
  let before = null;
  let asked = 0;
  const set = (patch) => state.set({ ...state.get(), ...patch });

  /** Load from the newest on; what is shown stays until the answer is there. */
  async function reload(search = state.get().search) {
    const mine = ++asked;
    before = null;
    set({ search, isLoading: true });
    await page(mine, (found) => ({ records: found.images, newer: 0 }));
  }

  /** Load the next page, if there is one and none is under way. */
  async function more() {
    if (state.get().isLoading || !state.get().hasMore) return;
    const mine = ++asked;
    set({ isLoading: true });
    await page(mine, (found) => ({ records: [...state.get().records, ...found.images] }));
  }

  async function page(mine, take) {
    const { search } = state.get();
    const query = new URLSearchParams({ limit: String(PAGE) });
    if (before) query.set("before", before);
    if (search) query.set("search", search);
    try {
      const found = await get(`/images?${query}`);
      if (mine !== asked) return;
      before = found.next_before;
      set({ ...take(found), total: found.total, hasMore: before !== null, isLoading: false, problem: "" });
    } catch (problem) {
      if (mine === asked) set({ isLoading: false, problem: /** @type {Error} */ (problem).message });
    }
  }

  /** A picture by id: from what is here, else from the server. */
  async function find(id) {
    return state.get().records.find((record) => record.id === id) ?? get(`/images/${encodeURIComponent(id)}/record`);
  }

  /** A file that was missing is back. */
  function found(id) {
    set({ records: state.get().records.map((record) => (record.id === id ? { ...record, missing: false } : record)) });
  }

  news.later(({ kind, ids, favorite }) => {
    const { records, total } = state.get();
    if (kind === "changed") {
      set({ records: records.map((record) => (ids.includes(record.id) ? { ...record, favorite } : record)) });
    } else if (kind === "removed") {
      records.forEach((record, index) => {
        if (ids.includes(record.id)) removed.set(record.id, { record, index });
      });
      const rest = records.filter((record) => !ids.includes(record.id));
      set({ records: rest, total: total - (records.length - rest.length) });
    } else if (kind === "restored") {
      const back = [...records];
      for (const id of ids) {
        const kept = removed.get(id);
        if (kept) back.splice(Math.min(kept.index, back.length), 0, kept.record);
        removed.delete(id);
      }
      set({ records: back, total: total + back.length - records.length });
    } else if (kind === "added") {
      set({ newer: state.get().newer + ids.length });
    }
  });
  return { state, reload, more, find, found };
}
