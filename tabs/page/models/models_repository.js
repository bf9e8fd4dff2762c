// Any repository of the hub by hand: its files with sizes and license first, then one of them or the whole folder.

import { get, sentenceOf } from "../core/api.js";
import { bytes, some } from "../core/words.js";
import { button, field, freshId, h, icon, setText } from "../ui/dom.js";
import { isComposing } from "../ui/shortcut.js";
import { KIND } from "./model_card.js";

const SHOWN = 40;
const NAME = /^[\w.-]+\/[\w.-]+$/;

/** @param {(download: any) => void} start begins a download */
export function makeRepository(start) {
  const name = h("input", {
    type: "text",
    id: freshId("repository"),
    placeholder: "owner/model",
    autocomplete: "off",
    autocapitalize: "off",
    spellcheck: "false",
    onkeydown: (event) => {
      if (event.key === "Enter" && !isComposing(event)) look();
    },
  });
  const kind = h(
    "select",
    { id: freshId("kind") },
    ...Object.entries(KIND).map(([value, label]) => h("option", { value }, label)),
  );
  const box = field("repository", "Repository", name, { labelFor: name.id });
  const found = h("div.found-files", { role: "status" });
  const element = h(
    "section.models-part",
    { "aria-label": "Any repository" },
    h("h2", {}, "Any other, by name"),
    h(
      "div.by-hand",
      {},
      box.box,
      field("kind", "What it is", h("div.select", {}, kind, icon("down")), { labelFor: kind.id }).box,
      button({ label: "Look", icon: "search", kind: "outlined", onclick: look }),
    ),
    found,
  );

  async function look() {
    const wanted = name.value
      .trim()
      .replace(/^https:\/\/[^/]+\//, "")
      .split("/")
      .slice(0, 2)
      .join("/");
    box.problem.hidden = NAME.test(wanted);
    setText(box.problem, "Write it as it stands on huggingface.co: owner/model.");
    if (!box.problem.hidden) {
      name.focus();
      return;
    }
    setText(found, "Asking huggingface.co");
    try {
      show(await get(`/repositories/${wanted.split("/").map(encodeURIComponent).join("/")}`));
    } catch (refused) {
      found.replaceChildren(h("p.bad", {}, sentenceOf(refused)));
    }
  }

  function show(repository) {
    const files = [...repository.files].sort((one, other) => Number(one.is_pickle) - Number(other.is_pickle));
    const rows = files.slice(0, SHOWN).map((file) => row(repository, file));
    const whole =
      repository.folder.length > 0 &&
      h(
        "li.model-task",
        {},
        icon("file"),
        h(
          "span.model-task-words",
          {},
          h("span.model-task-name", {}, "The whole model, as a folder"),
          h("span.hint", {}, `${bytes(repository.folder_bytes)} · ${some(repository.folder.length, "file")}`),
        ),
        take(repository, []),
      );
    const account = repository.gated ? " · needs an account that accepted it (HF_TOKEN)" : "";
    const head = h("p", {}, `${repository.id} · license: ${repository.license || "not said"}${account}`);
    if (!rows.length && !whole) {
      found.replaceChildren(head, h("p.hint", {}, "It has no file of a model."));
      return;
    }
    found.replaceChildren(
      head,
      h("ul.model-tasks", {}, ...[whole, ...rows].filter(Boolean)),
      ...(files.length > SHOWN ? [h("p.hint", {}, `${files.length - SHOWN} more are not shown.`)] : []),
    );
  }

  function row(repository, file) {
    const line = file.is_pickle
      ? `${bytes(file.size_bytes)} · can run code when opened: it is kept apart until it is converted`
      : bytes(file.size_bytes);
    return h(
      "li.model-task",
      {},
      icon("file"),
      h("span.model-task-words", {}, h("span.model-task-name", {}, file.path), h("span.hint", {}, line)),
      take(repository, [file.path]),
    );
  }

  const take = (repository, files) =>
    button({
      label: `Download ${files[0] ?? repository.id}`,
      icon: "download",
      words: false,
      kind: "outlined",
      onclick: () => start({ source: repository.id, files, kind: kind.value }),
    });

  return { element };
}
