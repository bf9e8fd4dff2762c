// One picture large, with its recipe and the film of its neighbors.

import { pictureUrl, thumbnailUrl } from "../core/api.js";
import { news } from "../core/image_news.js";
import { awaitPicture, comesBack, loadAgain, stopAwaiting } from "../core/missing_images.js";
import { go } from "../core/route.js";
import { say } from "../core/toast.js";
import { onBackground } from "../core/uploads.js";
import { duration, grouped, moment } from "../core/words.js";
import { download, favorite, pictureKeys, remove, useSettings } from "../result/image_actions.js";
import { MOST_ENLARGED } from "../result/image_grid.js";
import { titleOfPicture } from "../result/records.js";
import { openSendMenu } from "../result/send_to.js";
import { button, h, setText, targetOf } from "../ui/dom.js";
import { makeDraggable } from "../ui/drag.js";
import { countEscape } from "../ui/layers.js";
import { recipeList } from "./recipe_list.js";

const FILM = 11;
const SWIPE_PX = 48;

/** @param {ReturnType<import("./gallery_data.js").makeGalleryData>} data */
export function makeLightbox(data) {
  /** @type {any} */
  let record = null;
  let lastId = null;
  const picture = onBackground(h("img.lightbox-picture", { alt: "", onerror: miss }));
  const position = h("span.position", {});
  const star = button({
    label: "Favorite",
    icon: "star",
    words: false,
    onclick: () => favorite([record.id], !record.favorite),
  });
  const previous = button({
    label: "Previous picture",
    icon: "left",
    words: false,
    quick: true,
    onclick: () => step(-1),
  });
  const next = button({ label: "Next picture", icon: "right", words: false, quick: true, onclick: () => step(1) });
  const bar = h(
    "div.lightbox-bar",
    {},
    button({ label: "Gallery", icon: "left", onclick: leave }),
    h("span.spring", {}),
    star,
    button({ label: "Delete", icon: "trash", words: false, onclick: removeThis }),
    position,
    previous,
    next,
  );
  const film = h("div.film", { role: "group", "aria-label": "Neighbors" });
  const view = h(
    "div.lightbox-view",
    { tabindex: "-1" },
    picture,
    h("p.lightbox-missing", {}, "File missing. Its recipe is still here."),
  );
  const when = h("p.hint", {});
  const send = button({
    label: "Send to",
    icon: "send",
    kind: "outlined",
    onclick: () => openSendMenu(send, record.id),
  });
  send.setAttribute("aria-haspopup", "menu");
  makeDraggable(picture, () => record?.id);
  const recipe = h("div.recipe-body", {});
  const side = h(
    "aside.lightbox-side",
    { "aria-label": "Recipe", tabindex: "-1" },
    h("h2", {}, "Recipe"),
    when,
    h(
      "div.lightbox-actions",
      {},
      button({ label: "Use settings", kind: "filled", onclick: () => useSettings(record) }),
      send,
      button({ label: "Download", kind: "outlined", onclick: () => download([record.id]) }),
    ),
    recipe,
  );
  const root = h("div.lightbox", { hidden: true }, h("div.lightbox-wall", {}, bar, view, film), side);

  const index = () => data.state.get().records.findIndex((one) => one.id === record?.id);

  async function open(id) {
    root.hidden = false;
    if (record?.id === id) {
      draw();
      return;
    }
    const isFirst = record === null;
    try {
      record = await data.find(id);
    } catch (problem) {
      say(problem);
      go("gallery", null, { replace: true });
      return;
    }
    lastId = record.id;
    draw();
    if (isFirst) view.focus({ preventScroll: true });
    if (index() >= data.state.get().records.length - 3) data.more();
  }

  function close() {
    root.hidden = true;
    record = null;
    picture.removeAttribute("src");
  }

  function miss() {
    if (!record) return;
    const { id } = record;
    root.classList.add("broken");
    awaitPicture(root, id, () => {
      if (record?.id !== id) return;
      root.classList.remove("broken");
      loadAgain(picture);
      record = { ...record, missing: false };
      data.found(id);
    });
  }

  function draw() {
    if (!record) return;
    const url = pictureUrl(record.id);
    if (picture.getAttribute("src") !== url) {
      root.classList.remove("broken");
      stopAwaiting(root);
      if (record.missing) miss();
      picture.width = record.width;
      picture.height = record.height;
      picture.style.setProperty("--ratio", String(record.width / record.height));
      picture.style.setProperty("--most", `${record.width * MOST_ENLARGED}px`);
      picture.src = url;
      picture.alt = `Generated: ${titleOfPicture(record)}`;
      setText(
        when,
        [moment(record.created_at), record.seconds && duration(record.seconds)].filter(Boolean).join(" · "),
      );
      recipe.replaceChildren(recipeList(record));
    }
    const { records, total } = data.state.get();
    const at = index();
    setText(position, at < 0 ? "" : `${grouped(at + 1)} of ${grouped(total)}`);
    previous.disabled = at <= 0;
    next.disabled = at < 0 || at >= records.length - 1;
    star.setAttribute("aria-pressed", String(record.favorite));
    drawFilm(records, at);
  }

  function drawFilm(records, at) {
    const first = Math.max(0, Math.min(at - Math.floor(FILM / 2), records.length - FILM));
    const shown = at < 0 ? [] : records.slice(first, first + FILM);
    const key = JSON.stringify([shown.map((one) => one.id), record.id]);
    if (film.dataset.key === key) return;
    film.dataset.key = key;
    film.replaceChildren(
      ...shown.map((one) =>
        h(
          "button.slot",
          {
            type: "button",
            "aria-current": one.id === record.id ? "true" : null,
            "aria-label": titleOfPicture(one, 60),
            onclick: () => go("gallery", one.id, { replace: true }),
          },
          comesBack(h("img", { src: thumbnailUrl(one.id), alt: "" }), () => one.id),
        ),
      ),
    );
  }

  function step(by) {
    const to = data.state.get().records[index() + by];
    if (to) go("gallery", to.id, { replace: true });
  }

  function leave() {
    countEscape();
    go("gallery");
  }

  function removeThis() {
    const { records } = data.state.get();
    const id = record.id;
    const to = records[index() + 1] ?? records[index() - 1];
    if (to) go("gallery", to.id, { replace: true });
    else leave();
    remove([id]);
  }

  root.addEventListener("keydown", (event) => {
    if (!record) return;
    if (event.key === "Escape") {
      event.stopPropagation();
      leave();
      return;
    }
    const by = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 }[event.key];
    if (by && !targetOf(event, ".lightbox-side")) {
      event.preventDefault();
      step(by);
      return;
    }
    if (event.key === "Delete") {
      event.preventDefault();
      removeThis();
      return;
    }
    pictureKeys(event, record, () => {});
  });
  swipe(view, { left: () => step(1), right: () => step(-1), down: leave });
  data.state.later(() => {
    if (!record) return;
    record = data.state.get().records.find((one) => one.id === record.id) ?? record;
    if (!root.hidden) draw();
  });
  news.later(({ kind, ids, favorite }) => {
    if (kind === "changed" && record && ids.includes(record.id)) {
      record = { ...record, favorite };
      draw();
    }
  });
  return { element: root, open, close, last: () => lastId };
}

// One finger, clearly in one direction; pinching stays the browser's.
function swipe(element, { left, right, down }) {
  let from = null;
  element.addEventListener(
    "touchstart",
    (event) => {
      from = event.touches.length === 1 && (visualViewport?.scale ?? 1) < 1.05 ? event.touches[0] : null;
    },
    { passive: true },
  );
  element.addEventListener(
    "touchend",
    (event) => {
      if (!from || event.touches.length) return;
      const x = event.changedTouches[0].clientX - from.clientX;
      const y = event.changedTouches[0].clientY - from.clientY;
      from = null;
      if (Math.abs(x) > SWIPE_PX && Math.abs(x) > 2 * Math.abs(y)) (x < 0 ? left : right)();
      else if (y > 2 * SWIPE_PX && y > 2 * Math.abs(x) && scrollY === 0) down();
    },
    { passive: true },
  );
}
