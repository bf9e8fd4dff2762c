// The bar over everything: mark, engine pill with its panel, queue, theme. Also holds what floats over
// the page: the undo bar, the live regions, the skip link.

import { config } from "../core/config.js";
import { engine, retry, watchEngine } from "../core/engine.js";
import { modelTitle } from "../core/model_list.js";
import { route, titleOf } from "../core/route.js";
import { allWithin, button, h, put, setText } from "../ui/dom.js";
import { closeLayer, openLayer } from "../ui/layers.js";
import { placeLiveRegions } from "../ui/live.js";
import { placeUndoBar } from "../ui/undo_bar.js";
import { openKeyTable } from "./keys.js";
import { placeQueue } from "./queue_drawer.js";
import { placeStartNotices } from "./start_notices.js";
import { themeButton } from "./theme.js";

const ORANGE = new Set(["starting", "loading", "working", "restarting"]);

/** Fill the part. */
export function page_header(element) {
  const title = h("h1.unseen", {});
  route.watch(({ tab }) => setText(title, titleOf(tab)));
  const skip = h(
    "a.skip",
    {
      href: "#the-result",
      onclick: (event) => {
        event.preventDefault();
        allWithin(document, "#the-result, .gallery [tabindex='0'], .models .card[tabindex='0']")[0]?.focus();
      },
    },
    "To the result",
  );
  const bar = h(
    "header.bar",
    {},
    skip,
    h(
      "a.brand",
      { href: "#/txt2img", "aria-label": "Darkroom, to the start" },
      markDrawing(),
      h("span.name", {}, "Darkroom"),
    ),
    title,
    h("span.spring", {}),
    enginePill(element),
    placeQueue(element),
    themeButton(),
  );
  put(element, bar);
  element.querySelector(":scope > div")?.remove();
  placeHeld(element);
  placeStartNotices(element);
  placeLiveRegions(element);
  placeUndoBar(element);
  watchEngine();
}

function markDrawing() {
  return h("span.mark", { "aria-hidden": "true" }, h("span.ring", {}));
}

/** Why waiting jobs don't start: over everybody's page until they do. */
function placeHeld(element) {
  const words = h("p.held", { role: "status" });
  element.append(words);
  engine.watch((status) => {
    words.hidden = !status?.held;
    setText(words, status?.held ? `The queue is paused. ${status.held}` : "");
  });
}

function enginePill(element) {
  const words = h("span.pill-words", {});
  const pill = h(
    "button.pill.engine-pill",
    { type: "button", "aria-expanded": "false", "aria-haspopup": "dialog", onclick: toggle },
    h("span.dot", {}),
    words,
  );
  const facts = h("dl.facts", {});
  const panel = h(
    "dialog.panel",
    { "aria-label": "Engine" },
    h("h2", {}, "Engine"),
    facts,
    h(
      "div.panel-foot",
      {},
      button({ label: "Keyboard", icon: "keys", kind: "outlined", keys: "?", onclick: openKeyTable }),
    ),
  );
  element.append(panel);
  const show = () => {
    const state = retry.get() ? "stopped" : (engine.get()?.state ?? "starting");
    const isBad = state === "stopped" || isSilent(engine.get());
    const tone = ORANGE.has(state) ? "busy" : "calm";
    pill.dataset.tone = isBad ? "bad" : tone;
    const text = pillWords(engine.get(), Boolean(retry.get()));
    words.replaceChildren(...shortened(text));
    pill.setAttribute("aria-label", `Engine: ${text}`);
    if (panel.open) drawFacts(facts);
  };
  engine.watch(show);
  retry.later(show);
  function toggle() {
    if (panel.open) {
      closeLayer();
      return;
    }
    drawFacts(facts);
    openLayer(panel, { modal: false, opener: pill });
    const away = (event) => {
      if (panel.open && !panel.contains(event.target) && !pill.contains(event.target)) closeLayer();
      if (!panel.open) removeEventListener("pointerdown", away);
    };
    addEventListener("pointerdown", away);
  }
  return pill;
}

const isSilent = (status) => Boolean(status?.text.startsWith("Not responding"));

function pillWords(status, isLost) {
  if (isLost) return "No connection";
  if (!status) return "Starting";
  if (status.text) return status.text;
  return {
    starting: "Starting",
    loading: "Loading",
    ready: "Ready",
    working: "Working",
    restarting: "Engine restarting",
    stopped: "Engine stopped",
  }[status.state];
}

// What of each state only a wide bar shows: the middle group.
const MIDDLES = [
  /^()(.+ )(ready|working)$/i,
  /^(Loading)( .+?)((?:, \d+%)?)$/,
  /^(Starting)(, .+)()$/,
  /^(Not responding)( for .+)()$/,
  /^()(Engine )(.+)$/,
];

// "Starter ready": on a narrow bar only the last word stays.
function shortened(text) {
  const [, begin, middle, end] = MIDDLES.map((known) => known.exec(text)).find(Boolean) ?? ["", "", "", text];
  return [h("span", {}, begin), h("span.wide", {}, middle), h("span", {}, end)];
}

function drawFacts(list) {
  const status = engine.get() ?? { versions: {}, resident: [], device: "" };
  const versions = Object.entries(status.versions ?? {})
    .map(([name, version]) => `${name} ${version}`)
    .join(", ");
  const rows = [
    ["State", pillWords(engine.get(), Boolean(retry.get()))],
    ["Device", status.device || "not known yet"],
    ...(status.offer ? [["Speed", status.offer]] : []),
    ["In memory", status.resident?.map((name) => modelTitle(name)).join(", ") || "no model yet"],
    ["Versions", versions || "not known yet"],
    ["Pictures", config.folders.pictures],
    ["Models", config.folders.models],
    ["What Darkroom sends", "nothing"],
    ...(status.extensions_off?.length ? [["Extensions", status.extensions_off.join(" ")]] : []),
  ];
  list.replaceChildren(...rows.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}
