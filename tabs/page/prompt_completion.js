// Names to complete while a prompt is typed: LoRAs and hypernetworks after "<lora:" and "<hypernet:", embeddings after
// "embedding:". Arrows choose, Tab or Enter takes, Esc closes; nothing is ever put in by itself.

import { freshId, h } from "./dom.js";
import { change } from "./form.js";
import { embeddings, hypernetworks, loraModels } from "./parts_list.js";

const MOST = 8;
const OPEN = /(<(?:lora|lyco):|<hypernet:|\bembedding:)([^<>:,\n()]*)$/i;
const listOf = (head) => (/embedding/i.test(head) ? embeddings : /hypernet/i.test(head) ? hypernetworks : loraModels);

/** @param {HTMLTextAreaElement} area of the form's value `name` @returns {HTMLElement} the list, to stand behind the area */
export function completion(area, name) {
  const box = h("div.completion", { role: "listbox", id: freshId("completion"), "aria-label": "Names that fit", hidden: true });
  let found = [];
  let at = 0;

  function close() {
    found = [];
    box.hidden = true;
    area.removeAttribute("aria-activedescendant");
  }

  function look() {
    const before = area.value.slice(0, area.selectionStart);
    const match = area.selectionStart === area.selectionEnd ? OPEN.exec(before) : null;
    if (!match) { close(); return; }
    const models = listOf(match[1]);
    models.refresh();
    const wanted = match[2].trim().toLowerCase();
    const fitting = models.state.get().items.filter((one) => !one.problem && `${one.name} ${one.title}`.toLowerCase().includes(wanted));
    found = fitting.slice(0, MOST).map((one) => ({ one, match }));
    at = 0;
    if (found.length) draw(); else close();
  }

  function draw() {
    box.replaceChildren(...found.map(({ one }, index) => h("div.option", {
      role: "option", id: `${box.id}-${index}`, "aria-selected": String(index === at),
      // The area keeps the focus.
      onpointerdown: (event) => { event.preventDefault(); take(index); },
    }, one.title, h("span.hint", {}, one.family_label ?? ""))));
    box.hidden = false;
    area.setAttribute("aria-activedescendant", `${box.id}-${at}`);
  }

  function take(index) {
    const { one, match } = found[index];
    const caret = area.selectionStart;
    const begin = caret - match[2].length;
    const rest = area.value.slice(caret);
    const put = match[1].startsWith("<") ? `${one.name}${rest.startsWith(":") || rest.startsWith(">") ? "" : ":1>"}` : one.name;
    change({ [name]: area.value.slice(0, begin) + put + rest });
    area.setSelectionRange(begin + put.length, begin + put.length);
    close();
  }

  area.setAttribute("aria-controls", box.id);
  area.setAttribute("aria-autocomplete", "list");
  area.addEventListener("input", look);
  area.addEventListener("blur", close);
  area.addEventListener("keydown", (event) => {
    if (box.hidden || event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) { at = (at + step + found.length) % found.length; draw(); }
    else if (event.key === "Enter" || event.key === "Tab") take(at);
    else if (event.key === "Escape") close();
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  [loraModels, hypernetworks, embeddings].forEach((models) => models.state.later(() => { if (document.activeElement === area) look(); }));
  return box;
}
