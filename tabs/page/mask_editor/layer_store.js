// Keeps what was painted with its picture, in the browser (IndexedDB): it outlives tabs, reloads and failures.

const NAME = "darkroom";
const STORE = "canvases";
const MOST = 40;

/** @type {Promise<IDBDatabase>|null} */
let opened = null;

function database() {
  opened ??= new Promise((resolve, reject) => {
    const asked = indexedDB.open(NAME, 1);
    asked.onupgradeneeded = () => asked.result.createObjectStore(STORE).createIndex("at", "at");
    asked.onsuccess = () => resolve(asked.result);
    asked.onerror = () => reject(asked.error);
  });
  return opened;
}

async function ask(mode, act) {
  const store = (await database()).transaction(STORE, mode).objectStore(STORE);
  const asked = act(store);
  return new Promise((resolve, reject) => {
    asked.onsuccess = () => resolve(asked.result);
    asked.onerror = () => reject(asked.error);
  });
}

/** Keep a layer's pixels under a name; a forbidden or full storage is no reason to stop. */
export async function keepLayer(key, { width, height, data }) {
  try {
    await ask("readwrite", (store) => store.put({ width, height, data, at: Date.now() }, key));
    const keys = await ask("readonly", (store) => store.index("at").getAllKeys());
    for (const old of keys.slice(0, Math.max(0, keys.length - MOST)))
      await ask("readwrite", (store) => store.delete(old));
  } catch {
    /* private mode or full: the page works, it only forgets */
  }
}

/** The pixels kept under a name for a layer of this size, or null. */
export async function recallLayer(key, { width, height }) {
  const kept = await ask("readonly", (store) => store.get(key)).catch(() => null);
  return kept && kept.width === width && kept.height === height ? kept.data : null;
}
