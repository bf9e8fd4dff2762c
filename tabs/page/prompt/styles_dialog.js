// The list of styles: a press applies one or takes it off; below, the prompt is kept as a new one.

import { inWords, post, request } from "../core/api.js";
import { say } from "../core/toast.js";
import { form } from "../form/form.js";
import { styles } from "../form/parts_list.js";
import { button, h, icon, sayAtField, setText } from "../ui/dom.js";
import { openLayer } from "../ui/layers.js";
import { announce } from "../ui/live.js";
import { offerUndo } from "../ui/undo_bar.js";
import { toggleStyle } from "../form/styles.js";

const HERE = "here";

/** The button that opens it, to stand beside the prompt's label. @param {HTMLElement} container of layers */
export function stylesButton(container) {
  /** @type {ReturnType<typeof makeDialog>|null} */
  let dialog = null;
  const opener = button({
    label: "Styles",
    kind: "link",
    onclick: () => {
      dialog ??= makeDialog(container);
      dialog.open(opener);
    },
  });
  opener.classList.add("styles-button");
  opener.setAttribute("aria-haspopup", "dialog");
  return opener;
}

function makeDialog(container) {
  const search = h("input", {
    type: "search",
    placeholder: "Search styles",
    "aria-label": "Search styles",
    autocomplete: "off",
    spellcheck: "false",
    oninput: () => draw(),
  });
  const list = h("div.styles-list", { role: "group", "aria-label": "Styles" });
  const note = h("p.hint", { hidden: true });
  const name = h("input", { type: "text", id: "style-name", autocomplete: "off", maxlength: 300 });
  const problem = h("p.problem", { hidden: true });
  const save = h(
    "div.field",
    { "data-field": "name" },
    h("div.field-head", {}, h("label", { for: name.id }, "Keep the prompt as a style")),
    h("div.with-action", {}, name, button({ label: "Keep", kind: "outlined", onclick: () => keep() })),
    problem,
    h("p.hint", {}, "{prompt} in it is where other words go; without it they come first."),
  );
  const element = h(
    "dialog.panel.styles-dialog",
    { "aria-label": "Styles" },
    h("div.search", {}, icon("search"), search),
    list,
    note,
    save,
  );
  container.append(element);

  function draw() {
    const { items, isKnown } = styles.state.get();
    const wanted = search.value.trim().toLowerCase();
    const fitting = items.filter((one) => `${one.name} ${one.prompt}`.toLowerCase().includes(wanted));
    const { styles: names } = form.get();
    const { refusal = "", notices = [] } = items.answer ?? {};
    list.replaceChildren(
      ...fitting.map((one) => row(one, names.includes(one.name), !refusal)),
      fitting.length || !isKnown ? "" : h("p.none", {}, `No style matches “${search.value}”.`),
    );
    save.hidden = Boolean(refusal);
    note.hidden = !notices.length;
    setText(note, notices.join(" "));
  }

  function row(style, isOn, mayChange) {
    const words = [style.prompt, style.negative_prompt && `not: ${style.negative_prompt}`].filter(Boolean).join(" · ");
    const isOwn = style.source === HERE && mayChange;
    return h(
      "div.style-row",
      {},
      h(
        "button.style-choice",
        { type: "button", "aria-pressed": String(isOn), "data-quick": true, onclick: () => toggleStyle(style.name) },
        h("span.style-name", {}, style.name),
        h("span.hint", {}, words || "empty"),
      ),
      isOwn &&
        button({ label: `Edit ${style.name}`, icon: "brush", words: false, onclick: () => edit(style) }),
      isOwn && button({ label: `Delete ${style.name}`, icon: "trash", words: false, onclick: () => remove(style) }),
    );
  }

  // To be changed in the prompt box, and kept under the same name.
  function edit(style) {
    const before = form.get();
    form.set({ ...before, prompt: style.prompt, negative_prompt: style.negative_prompt, styles: [] });
    name.value = style.name;
    name.focus();
    offerUndo(`Style “${style.name}” is in the prompt: change it there, then keep it.`, () => form.set(before));
  }

  async function keep() {
    const { prompt, negative_prompt: negative } = form.get();
    const title = name.value.trim();
    if (!title) {
      sayAtField(element, "name", "Give it a name.");
      return;
    }
    const before = styles.find(title);
    try {
      await post("/styles", { name: title, prompt, negative_prompt: negative });
      problem.hidden = true;
      name.value = "";
      await styles.refresh(true);
      const kept = before?.source === HERE;
      offerUndo(`Style “${title}” was ${kept ? "changed" : "kept"}.`, () => (kept ? put(before) : drop(title)));
    } catch (refused) {
      const words = inWords(refused);
      sayAtField(element, "name", `${words.message} ${words.hint ?? ""}`.trim());
    }
  }

  async function remove(style) {
    await drop(style.name);
    if (form.get().styles.includes(style.name) && !styles.find(style.name)) toggleStyle(style.name);
    offerUndo(`Style “${style.name}” was deleted.`, () => put(style));
  }

  async function put({ name: title, prompt, negative_prompt: negative }) {
    await post("/styles", { name: title, prompt, negative_prompt: negative }).catch(say);
    await styles.refresh(true);
  }

  async function drop(title) {
    await request("DELETE", `/styles/${encodeURIComponent(title)}`).catch(say);
    await styles.refresh(true);
  }

  styles.state.later(draw);
  form.later((now, then) => {
    if (now.styles !== then.styles && element.open) draw();
  });
  return {
    async open(opener) {
      openLayer(element, { opener, focus: search });
      draw();
      // Below the button, or as far down as there is room.
      const top = Math.min(opener.getBoundingClientRect().bottom + 4, innerHeight - element.offsetHeight - 8);
      Object.assign(element.style, { top: `${Math.max(8, top)}px`, left: innerWidth < 860 ? "8px" : "24px" });
      await styles.refresh(true);
      announce(`${styles.state.get().items.length} styles.`);
    },
  };
}
