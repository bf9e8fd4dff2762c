// Names to complete while a prompt is typed: LoRAs and hypernetworks after "<lora:" and "<hypernet:", embeddings after
// "embedding:". Arrows choose, Tab or Enter takes, Esc closes; nothing is ever put in by itself.

import { change } from "../form/form.js";
import { embeddings, hypernetworks, loraModels } from "../form/parts_list.js";
import { freshId, h } from "../ui/dom.js";
import { isComposing } from "../ui/shortcut.js";

const MOST = 8;
const OPEN = /(<(?:lora|lyco):|<hypernet:|\bembedding:)([^<>:,\n()]*)$/i;

function listOf(head) {
  if (/embedding/i.test(head)) return embeddings;
  return /hypernet/i.test(head) ? hypernetworks : loraModels;
}

// What stands behind the caret, without the end of a name that the caret is in.
function withoutTail(rest, typed, name) {
  const [tail] = /** @type {RegExpExecArray} */ (/^[^\s<>:,()]*/.exec(rest));
  const isOfName =
    /^[:>]/.test(rest.slice(tail.length)) || name.toLowerCase().includes((typed.trimStart() + tail).toLowerCase());
  return isOfName ? rest.slice(tail.length) : rest;
}

/**
 * @param {HTMLTextAreaElement} area of the form's value `name`
 * @returns {HTMLElement} the list, to stand behind the area
 */
export function completion(area, name) {
  const box = h("div.completion", {
    role: "listbox",
    id: freshId("completion"),
    "aria-label": "Names that fit",
    hidden: true,
  });
  let found = [];
  let at = 0;

  function close() {
    found = [];
    box.hidden = true;
    area.removeAttribute("aria-activedescendant");
  }

  // What stands before the caret and can be completed.
  const matchHere = () =>
    area.selectionStart === area.selectionEnd ? OPEN.exec(area.value.slice(0, area.selectionStart)) : null;

  function look() {
    const match = matchHere();
    if (!match) {
      close();
      return;
    }
    const chosen = match[0] === found[at]?.match[0] ? found[at].one.name : null;
    const models = listOf(match[1]);
    models.refresh();
    const wanted = match[2].trim().toLowerCase();
    const fitting = models.state
      .get()
      .items.filter((one) => !one.problem && `${one.name} ${one.title}`.toLowerCase().includes(wanted));
    found = fitting.slice(0, MOST).map((one) => ({ one, match }));
    at = Math.max(
      0,
      found.findIndex(({ one }) => one.name === chosen),
    );
    if (found.length) draw();
    else close();
  }

  function draw() {
    box.replaceChildren(
      ...found.map(({ one }, index) =>
        h(
          "div.option",
          {
            role: "option",
            id: `${box.id}-${index}`,
            "aria-selected": String(index === at),
            // The area keeps the focus.
            onpointerdown: (event) => {
              event.preventDefault();
              take(index);
            },
          },
          one.title,
          h("span.hint", {}, one.family_label ?? ""),
        ),
      ),
    );
    box.hidden = false;
    area.setAttribute("aria-activedescendant", `${box.id}-${at}`);
  }

  function take(index) {
    const { one, match } = found[index];
    if (matchHere()?.[0] !== match[0]) {
      close();
      return;
    }
    const caret = area.selectionStart;
    const begin = caret - match[2].length;
    const rest = withoutTail(area.value.slice(caret), match[2], one.name);
    const needsEnd = match[1].startsWith("<") && !rest.startsWith(":") && !rest.startsWith(">");
    const put = needsEnd ? `${one.name}:1>` : one.name;
    change({ [name]: area.value.slice(0, begin) + put + rest });
    area.setSelectionRange(begin + put.length, begin + put.length);
    close();
  }

  area.setAttribute("aria-controls", box.id);
  area.setAttribute("aria-autocomplete", "list");
  area.addEventListener("input", look);
  area.addEventListener("blur", close);
  // The caret moves by keys, by a click, by undo.
  document.addEventListener("selectionchange", () => {
    if (!box.hidden) look();
  });
  area.addEventListener("keydown", (event) => {
    if (box.hidden || event.ctrlKey || event.metaKey || event.altKey || isComposing(event)) return;
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) {
      at = (at + step + found.length) % found.length;
      draw();
    } else if (event.key === "Enter" || event.key === "Tab") take(at);
    else if (event.key === "Escape") close();
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  [loraModels, hypernetworks, embeddings].forEach((models) =>
    models.state.later(() => {
      if (document.activeElement === area) look();
    }),
  );
  return box;
}
