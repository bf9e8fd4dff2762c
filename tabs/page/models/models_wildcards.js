// Wildcards, as the Models tab shows models: a list with a preview, and the text of one to edit, write or delete.

import { get, inWords, request } from "../core/api.js";
import { say } from "../core/toast.js";
import { some } from "../core/words.js";
import { wildcards } from "../form/parts_list.js";
import { button, h, icon, sayAtField, setText } from "../ui/dom.js";
import { offerUndo } from "../ui/undo_bar.js";

const addressOf = (name) => `/wildcards/${name.split("/").map(encodeURIComponent).join("/")}`;

/** @returns {{element: HTMLElement, refresh: () => void}} */
export function makeWildcards() {
  const search = h("input", {
    type: "search",
    placeholder: "Search wildcards",
    "aria-label": "Search wildcards",
    autocomplete: "off",
    spellcheck: "false",
    oninput: () => draw(),
  });
  const add = button({ label: "New wildcard", icon: "plus", kind: "outlined", onclick: () => edit("", "") });
  const list = h("div.wildcard-list", { role: "group", "aria-label": "Wildcards" });
  const note = h("p.hint", {});
  const name = h("input", { type: "text", id: "wildcard-name", autocomplete: "off", spellcheck: "false" });
  const text = h("textarea", { id: "wildcard-text", rows: 12, spellcheck: "false" });
  const problem = h("p.problem", { hidden: true });
  const editor = h(
    "div.wildcard-editor",
    { hidden: true, role: "group", "aria-label": "Wildcard" },
    h(
      "div.field",
      { "data-field": "name" },
      h("div.field-head", {}, h("label", { for: name.id }, "Name of the wildcard")),
      name,
      problem,
      h("p.hint", {}, "In a prompt it is written __name__; a folder goes before a /."),
    ),
    h(
      "div.field",
      { "data-field": "text" },
      h("div.field-head", {}, h("label", { for: text.id }, "A line is one choice; 2::fox is drawn twice as often")),
      text,
      h("p.problem", { hidden: true }),
    ),
    h(
      "div.wildcard-actions",
      {},
      button({ label: "Save", kind: "filled", onclick: () => save() }),
      button({ label: "Put away", onclick: () => close() }),
    ),
  );
  const element = h(
    "div.models-wildcards",
    {},
    h("div.toolbar", {}, h("div.search", {}, icon("search"), search), add),
    note,
    h("div.wildcard-panes", {}, list, editor),
  );
  let opened = ""; // the name that the editor shows; empty for a new one

  function draw() {
    const { items, isKnown } = wildcards.state.get();
    const { refusal = "", folder = "" } = items.answer ?? {};
    const wanted = search.value.trim().toLowerCase();
    const fitting = items.filter((one) => `${one.name} ${one.preview.join(" ")}`.toLowerCase().includes(wanted));
    add.hidden = Boolean(refusal);
    setText(note, refusal || (folder ? `Text files in ${folder}; new ones appear here by themselves.` : ""));
    list.replaceChildren(
      ...fitting.map((one) => row(one, !refusal)),
      fitting.length || !isKnown
        ? ""
        : h("p.none", {}, items.length ? `No wildcard matches “${search.value}”.` : "There are no wildcards yet."),
    );
  }

  function row(one, mayChange) {
    const preview = one.preview.join(", ");
    return h(
      "div.wildcard-row",
      {},
      h(
        "button.style-choice",
        { type: "button", onclick: () => open(one.name) },
        h("span.style-name", {}, `__${one.name}__`),
        h(one.problem ? "span.bad" : "span.hint", {}, one.problem || `${some(one.count, "line")}: ${preview}`),
      ),
      mayChange && button({ label: `Delete ${one.name}`, icon: "trash", words: false, onclick: () => remove(one.name) }),
    );
  }

  async function open(which) {
    const found = await get(addressOf(which)).catch(say);
    if (found) edit(which, found.text);
  }

  function edit(which, words) {
    opened = which;
    name.value = which;
    name.readOnly = which !== "";
    text.value = words;
    text.readOnly = Boolean(wildcards.state.get().items.answer?.refusal);
    editor.hidden = false;
    for (const place of editor.querySelectorAll(".problem")) /** @type {HTMLElement} */ (place).hidden = true;
    (which ? text : name).focus();
  }

  function close() {
    editor.hidden = true;
    search.focus();
  }

  async function put(which, words, isNew = false) {
    await request("PUT", addressOf(which), { text: words, is_new: isNew });
    await wildcards.refresh(true);
  }

  async function save() {
    const which = name.value.trim();
    if (!which) {
      sayAtField(editor, "name", "Give it a name.");
      return;
    }
    // A browser would take such an address apart before it is sent.
    if (which.split("/").some((part) => /^\.*$/.test(part))) {
      sayAtField(editor, "name", `“${which}” can't be the name of a wildcard. Use letters, digits and spaces.`);
      return;
    }
    try {
      const before = opened ? (await get(addressOf(opened))).text : null;
      await put(which, text.value, !opened);
      close();
      const back = before === null ? () => drop(which) : () => put(which, before).catch(say);
      offerUndo(`Wildcard “${which}” was ${before === null ? "written" : "changed"}.`, back);
    } catch (refused) {
      const { message, hint = "", field = "" } = inWords(refused);
      sayAtField(editor, field === "text" ? "text" : "name", `${message} ${hint}`.trim());
    }
  }

  async function drop(which) {
    const gone = await request("DELETE", addressOf(which)).catch(say);
    await wildcards.refresh(true);
    return gone;
  }

  async function remove(which) {
    const gone = await drop(which);
    if (opened === which) editor.hidden = true;
    if (gone) offerUndo(`Wildcard “${which}” was deleted.`, () => put(which, gone.text).catch(say));
  }

  wildcards.state.later(draw);
  return { element, refresh: () => wildcards.refresh(true) };
}
