// What lies under the brush: a layer with its undo, kept in the browser with the picture it belongs to.
// Knows pixels of the layer only; `tell` hears which part changed.

import { observable } from "../core/store.js";
import { makeHistory } from "./history.js";
import { covered, coveredIn, fillFrom, makeLayer, mapMask, reach, stroke, wholeOf, within, wipe } from "./layer.js";
import { keepLayer, recallLayer } from "./layer_store.js";

const KEEP_MS = 300;

/**
 * @param {1|4} channels 1 for a mask or a drawing, 4 for colors
 * @param {(changed: import("./layer.js").Rect|null) => void} tell null: only what can be undone changed
 * @param {() => boolean} isHard whether gray does not count
 */
export function makeCanvasDocument(channels, tell, isHard) {
  let key = "";
  let layer = makeLayer(1, 1, channels);
  let history = makeHistory(layer);
  /** @type {{dab: any, brush: any}|null} the stroke under way */
  let now = null;
  let keeping = 0;
  let openings = 0;
  let changes = 0;
  const share = observable(0);

  const isEmpty = () => share.get() === 0 && layer.total === 0;
  // Of colors only whether there are any.
  function measure() {
    if (channels === 1) return covered(layer, isHard());
    for (let at = 3; at < layer.data.length; at += 4) if (layer.data[at]) return 1;
    return 0;
  }

  function settle(changed) {
    changes += 1;
    share.set(measure());
    tell(changed);
    clearTimeout(keeping);
    keeping = window.setTimeout(keepNow, KEEP_MS);
  }

  function keepNow() {
    clearTimeout(keeping);
    if (keeping && key) keepLayer(key, layer);
    keeping = 0;
  }
  addEventListener("pagehide", keepNow);

  function paint(dab) {
    if (!now) return;
    const area = reach(layer, now.dab, dab);
    if (area) {
      history.keep(area);
      stroke(layer, now.dab, dab, now.brush);
      tell(area);
    }
    now.dab = dab;
  }

  /** One step that may change all of it. */
  function whole(change) {
    if (now) return;
    const all = wholeOf(layer);
    history.begin();
    history.keep(all);
    change(all);
    history.end();
    settle(all);
  }

  function travel(way) {
    const changed = now ? null : history[way]();
    if (changed) settle(changed);
    return Boolean(changed);
  }

  return {
    share,
    isEmpty,
    layer: () => layer,
    /** Whether something is painted that is too faint to count. */
    isFaint: () => share.get() === 0 && layer.total > 0,
    /** How much of a part of it is painted. @param {import("./layer.js").Rect} rect */
    shareIn: (rect) => coveredIn(layer, rect, isHard()),
    /** Gray counts now, or no longer. */
    recount() {
      tell(wholeOf(layer));
      share.set(measure());
    },
    /** Another number whenever something else is painted. */
    changes: () => changes,
    begin(dab, brush) {
      history.begin();
      now = { dab, brush };
      paint(dab);
    },
    paint,
    end() {
      if (!now) return;
      now = null;
      history.end();
      settle(null);
    },
    cancel() {
      if (!now) return;
      now = null;
      tell(history.cancel());
    },
    undo: () => travel("undo"),
    redo: () => travel("redo"),
    canUndo: () => history.canUndo(),
    canRedo: () => history.canRedo(),
    whole,
    clear() {
      if (!isEmpty()) whole(() => wipe(layer));
    },
    invert: () => whole((all) => mapMask(layer, all, (value) => 255 - value)),
    everything: () => whole((all) => mapMask(layer, all, () => 255)),
    /** Set a rectangle. @param {import("./layer.js").Rect} rect */
    rectangle(rect) {
      const area = within(layer, rect);
      if (area) whole(() => mapMask(layer, area, () => 255));
    },
    /** Another picture's, with what was painted on it before; `ready` is called as soon as it can be painted on. */
    async open(nextKey, width, height, ready) {
      keepNow();
      key = nextKey;
      now = null;
      layer = makeLayer(width, height, channels);
      history = makeHistory(layer);
      share.set(0);
      openings += 1;
      changes += 1;
      const [opening, mine] = [openings, layer];
      ready();
      const bytes = await recallLayer(key, mine);
      if (!bytes || opening !== openings || history.canUndo()) return;
      fillFrom(mine, bytes);
      changes += 1;
      share.set(measure());
      tell(wholeOf(mine));
    },
  };
}
