// What is in the engine's memory: how big, where, kept or not; and ways to change that for the owner of the machine.

import { post } from "../core/api.js";
import { engine, watchEngine } from "../core/engine.js";
import { modelTitle } from "../core/model_list.js";
import { say } from "../core/toast.js";
import { bytes } from "../core/words.js";
import { button, h, setText } from "../ui/dom.js";

const CALM = new Set(["ready", "working"]);
const PLACES = { device: "ready", memory: "in memory", coming: "being read" };

/** Change what stays in memory: "evict", "pin", "prefetch". */
export async function remember(what, body) {
  try {
    engine.set(await post(`/models/${what}`, body));
    setTimeout(watchEngine, 400);
  } catch (problem) {
    say(problem);
  }
}

// "2. NVIDIA H200 · working · 60 GB free"
function deviceWords(device, index) {
  const parts = [`${index + 1}. ${device.device || "Device"}`, CALM.has(device.state) ? device.state : device.text];
  if (device.device_free_bytes) parts.push(`${bytes(device.device_free_bytes)} free`);
  return parts.join(" · ");
}

/** @param {any} shop says whether this person manages the models */
export function makeMemory(shop) {
  const sum = h("p.hint", {});
  const lists = h("div.memory-devices", {});
  const element = h(
    "section.memory",
    { "aria-label": "In memory", hidden: true },
    h("div.memory-head", {}, h("h2", {}, "In memory"), sum),
    lists,
  );

  function draw() {
    const status = engine.get();
    const models = status?.models ?? [];
    element.hidden = !models.length;
    if (!models.length) return;
    const devices = status.devices ?? [];
    const everywhere = devices.length ? devices.flatMap((device) => device.models) : models;
    const used = everywhere.reduce((all, model) => all + model.bytes, 0);
    const parts = [status.budget_bytes ? `${bytes(used)} of ${bytes(status.budget_bytes)} for models` : bytes(used)];
    const where = devices.length ? "cards" : "card";
    if (status.device_free_bytes) parts.push(`${bytes(status.device_free_bytes)} free on the ${where}`);
    else if (status.free_bytes) parts.push(`${bytes(status.free_bytes)} free`);
    setText(sum, parts.join(" · "));
    const key = JSON.stringify([
      devices.map(deviceWords),
      devices.length ? devices.map((device) => device.models) : models,
      models.map((model) => modelTitle(model.name)),
      shop.get().allowed,
    ]);
    if (lists.dataset.key === key) return;
    lists.dataset.key = key;
    if (devices.length) lists.replaceChildren(...devices.flatMap(deviceGroup));
    else lists.replaceChildren(h("ul.residents", {}, ...models.map(resident)));
  }

  // One of several devices: what it is and does, and its models.
  function deviceGroup(device, index) {
    const words = deviceWords(device, index);
    return [
      h("h3.memory-device", {}, words),
      h("ul.residents", { "aria-label": words }, ...device.models.map(resident)),
    ];
  }

  function resident(model) {
    const of = { name: model.name, kind: model.kind };
    const title = modelTitle(model.name);
    const isMine = shop.get().allowed;
    return h(
      "li.resident",
      {},
      h(
        "span.resident-words",
        {},
        h("span.resident-name", {}, title),
        h(
          "span.hint",
          {},
          [bytes(model.bytes), model.in_use ? "working" : PLACES[model.place], model.is_pinned && "kept"]
            .filter(Boolean)
            .join(" · "),
        ),
      ),
      isMine &&
        button({
          label: model.is_pinned ? `Let ${title} go when memory is short` : `Keep ${title} in memory`,
          icon: "pin",
          words: false,
          pressed: model.is_pinned,
          onclick: () => remember("pin", { ...of, pinned: !model.is_pinned }),
        }),
      isMine &&
        !model.in_use &&
        button({ label: `Evict ${title}`, icon: "close", words: false, onclick: () => remember("evict", of) }),
    );
  }

  engine.watch(draw);
  shop.later(draw);
  return { element, draw };
}
