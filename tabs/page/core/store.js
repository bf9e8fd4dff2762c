// What the page remembers: values that tell their watchers, browser storage, and this window's name.

/**
 * A value that tells its watchers when it is set.
 * @template T
 * @param {T} first
 */
export function observable(first) {
  let value = first;
  /** @type {Set<(value: T, before: T) => void>} */
  const watchers = new Set();
  return {
    get: () => value,
    set(next) {
      if (next === value && typeof next !== "object") return;
      const before = value;
      value = next;
      for (const tell of [...watchers]) tell(value, before);
    },
    /** Call now and at every change. */
    watch(tell) {
      watchers.add(tell);
      tell(value, value);
      return () => watchers.delete(tell);
    },
    /** Call at every change from now on. */
    later(tell) {
      watchers.add(tell);
      return () => watchers.delete(tell);
    },
  };
}

/** Read a JSON value that was kept; storage may be off or hold something old. */
export function recall(key, otherwise, storage = "localStorage") {
  try {
    const text = window[storage].getItem(`darkroom.${key}`);
    return text === null ? otherwise : JSON.parse(text);
  } catch {
    return otherwise;
  }
}

/** Keep a JSON value; a full or forbidden storage is no reason to stop. */
export function keep(key, value, storage = "localStorage") {
  try {
    window[storage].setItem(`darkroom.${key}`, JSON.stringify(value));
  } catch {
    /* private mode or full: the page works, it only forgets */
  }
}

function freshName() {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * This window's name, the same after a reload. A duplicated tab gets a copy of the storage of one that
 * is still open, and so a new name: the mark `open` is only taken off when a page goes away.
 */
function nameWindow() {
  const kept = recall("window", null, "sessionStorage");
  const name = kept && typeof kept.name === "string" && !kept.open ? kept.name : freshName();
  const mark = (open) => keep("window", { name, open }, "sessionStorage");
  mark(true);
  addEventListener("pagehide", () => mark(false));
  addEventListener("pageshow", () => mark(true));
  return name;
}

/** @type {string} */
export const windowName = nameWindow();
