// Justified rows of pictures by day; one of them large is the lightbox. Loads when its tab is first opened.

import { thumbnailUrl } from "../core/api.js";
import { awaitPicture, loadAgain, stopAwaiting } from "../core/missing_images.js";
import { go, route } from "../core/route.js";
import { day, moment, some } from "../core/words.js";
import { pictureKeys } from "../result/image_actions.js";
import { titleOfPicture } from "../result/records.js";
import { allWithin, button, h, icon, setText, targetOf } from "../ui/dom.js";
import { makeDraggable } from "../ui/drag.js";
import { rove, settleTabStop } from "../ui/roving.js";
import { plainKey } from "../ui/shortcut.js";
import { makeGalleryData } from "./gallery_data.js";
import { makeLightbox } from "./lightbox.js";

const TYPING_MS = 250;

/** Fill the part. */
export function gallery(element) {
  const data = makeGalleryData();
  const lightbox = makeLightbox(data);
  const search = h("input", {
    type: "search",
    placeholder: "Search prompts and models",
    "aria-label": "Search pictures",
    autocomplete: "off",
    spellcheck: "false",
  });
  const total = h("p.total", {});
  const newer = button({
    label: "",
    icon: "up",
    kind: "outlined.newer",
    onclick: () => {
      data.reload();
      scrollTo({ top: 0 });
    },
  });
  const days = h("div.days", {});
  const none = h("p.none", { hidden: true });
  const moreButton = button({ label: "Show more", kind: "outlined.more", onclick: data.more });
  const grid = h(
    "div.grid-view",
    {},
    h("div.toolbar", {}, h("div.search", {}, icon("search"), search), total),
    newer,
    days,
    none,
    moreButton,
  );
  const root = h("section.gallery", { "aria-label": "Pictures" }, grid, lightbox.element);
  element.replaceChildren(root);
  rove(days, ".tile", { twoWay: true });

  let typing = 0;
  search.addEventListener("input", () => {
    clearTimeout(typing);
    typing = window.setTimeout(() => data.reload(search.value.trim()), TYPING_MS);
  });

  /** @type {Map<string, HTMLElement>} */
  const tiles = new Map();

  function draw({ records, total: count, search: wanted, isLoading, hasMore, newer: fresh, problem }) {
    setText(total, count ? some(count, "picture") : "");
    newer.hidden = fresh === 0 || scrollY < 200;
    setText(newer.querySelector(".words"), some(fresh, "new picture"));
    drawDays(records);
    moreButton.hidden = !hasMore || !records.length;
    none.hidden = records.length > 0 || isLoading;
    if (none.hidden) return;
    if (problem) setText(none, problem);
    else if (!wanted) setText(none, "No pictures yet. What you generate appears here by itself.");
    else
      none.replaceChildren(
        `Nothing matches “${wanted}”. `,
        button({
          label: "Clear search",
          kind: "link",
          onclick: () => {
            search.value = "";
            data.reload("");
            search.focus();
          },
        }),
      );
  }

  // Tiles are kept by id, so that a further page or a mark moves and reloads nothing that is there.
  function drawDays(records) {
    const wanted = new Map();
    for (const record of records) {
      const name = day(record.created_at);
      if (!wanted.has(name)) wanted.set(name, []);
      wanted.get(name).push(record);
    }
    const alive = new Set(records.map((record) => record.id));
    // What is gone leaves first: a tile that is moved instead would lose the focus.
    for (const [id, one] of [...tiles])
      if (!alive.has(id)) {
        one.remove();
        tiles.delete(id);
      }
    const sections = [...wanted].map(([name, members]) => {
      const kept =
        allWithin(days, ":scope > .day").find((child) => child.dataset.day === name) ??
        h("section.day", { "data-day": name, "aria-label": name }, h("h2", {}, name), h("div.rows", {}));
      const row = /** @type {HTMLElement} */ (kept.querySelector(".rows"));
      members.forEach((record, index) => {
        const one = tile(record);
        if (row.children[index] !== one) row.insertBefore(one, row.children[index] ?? null);
      });
      while (row.children.length > members.length) row.lastChild?.remove();
      return kept;
    });
    sections.forEach((section, index) => {
      if (days.children[index] !== section) days.insertBefore(section, days.children[index] ?? null);
    });
    while (days.children.length > sections.length) days.lastChild?.remove();
    const all = allWithin(days, ".tile");
    if (!all.some((one) => one.tabIndex === 0)) settleTabStop(all);
  }

  function tile(record) {
    let made = tiles.get(record.id);
    if (!made) {
      const image = h("img", {
        src: thumbnailUrl(record.id),
        alt: "",
        loading: "lazy",
        decoding: "async",
        onerror: () => miss(made, record.id, "load"),
      });
      made = h(
        "button.tile",
        {
          type: "button",
          tabindex: "-1",
          "data-id": record.id,
          style: `--a:${record.width / record.height}`,
          "aria-label": `${titleOfPicture(record)}, ${moment(record.created_at)}`,
        },
        image,
        h("span.cell-words", {}, "File missing"),
        icon("starred"),
      );
      makeDraggable(made, () => record.id);
      tiles.set(record.id, made);
    }
    made.classList.toggle("favorite", record.favorite);
    if (record.missing) miss(made, record.id, "record");
    else if (made.dataset.missing === "record") restore(made);
    return made;
  }

  // Until the file is back. by: "record", as the server marked it, or "load", as it did not load.
  function miss(made, id, by) {
    made.classList.add("broken");
    made.dataset.missing = by;
    awaitPicture(made, id, () => {
      restore(made);
      data.found(id);
    });
  }

  function restore(made) {
    made.classList.remove("broken");
    delete made.dataset.missing;
    stopAwaiting(made);
    loadAgain(made.querySelector("img"));
  }

  days.addEventListener("click", (event) => {
    const id = targetOf(event, ".tile")?.dataset.id;
    if (id) go("gallery", id);
  });
  days.addEventListener("keydown", (event) => {
    const record = data.state.get().records.find((one) => one.id === targetOf(event, ".tile")?.dataset.id);
    if (record) pictureKeys(event, record, () => neighbor(event.target).focus());
  });
  const neighbor = (one) => {
    const all = allWithin(days, ".tile");
    const at = all.indexOf(one);
    return all[at + 1] ?? all[at - 1] ?? search;
  };

  route.watch(({ tab, id }, was) => {
    if (tab !== "gallery") return;
    grid.hidden = id !== null;
    if (id) lightbox.open(id);
    else {
      lightbox.close();
      if (data.state.get().newer) data.reload();
      if (was?.id) tiles.get(lightbox.last() ?? was.id)?.focus();
    }
  });
  addEventListener("keydown", (event) => {
    if (
      plainKey(event) === "/" &&
      route.get().tab === "gallery" &&
      !grid.hidden &&
      !targetOf(event, "input, textarea")
    ) {
      event.preventDefault();
      search.focus();
    }
  });
  data.state.watch(draw);
  new IntersectionObserver(
    ([entry]) => {
      if (entry.isIntersecting) data.more();
    },
    { rootMargin: "800px" },
  ).observe(moreButton);
  data.reload();
}
