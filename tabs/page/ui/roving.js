// One tab stop for a group, moved by arrow keys: radio groups, grids of pictures, toolbars.

/**
 * @param {HTMLElement} group
 * @param {string} selector its members
 * @param {{chooses?: boolean, twoWay?: boolean}} [how] chooses: moving clicks; twoWay: up and down go by rows
 */
export function rove(group, selector, { chooses = false, twoWay = false } = {}) {
  const members = () => /** @type {HTMLElement[]} */ ([...group.querySelectorAll(selector)]);
  group.addEventListener("focusin", (event) => {
    const current = /** @type {HTMLElement} */ (event.target).closest(selector);
    if (!current) return;
    for (const member of members()) member.tabIndex = member === current ? 0 : -1;
  });
  group.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const all = members();
    const at = all.indexOf(/** @type {any} */ (event.target).closest(selector));
    if (at < 0) return;
    const to = target(all, at, event.key, twoWay, chooses);
    if (to === null) return;
    event.preventDefault();
    all[to].focus();
    if (chooses) all[to].click();
  });
}

function target(all, at, key, twoWay, wraps) {
  const last = all.length - 1;
  const clamp = (index) => (wraps ? (index + all.length) % all.length : Math.max(0, Math.min(last, index)));
  switch (key) {
    case "ArrowRight":
      return clamp(at + 1);
    case "ArrowLeft":
      return clamp(at - 1);
    case "Home":
      return 0;
    case "End":
      return last;
    case "ArrowDown":
      return twoWay ? row(all, at, 1) : clamp(at + 1);
    case "ArrowUp":
      return twoWay ? row(all, at, -1) : clamp(at - 1);
    case "PageDown":
      return twoWay ? row(all, at, 3) : null;
    case "PageUp":
      return twoWay ? row(all, at, -3) : null;
    default:
      return null;
  }
}

// The member of another row whose middle is nearest; rows are told by their top edges.
function row(all, at, by) {
  const boxes = all.map((member) => member.getBoundingClientRect());
  const tops = [...new Set(boxes.map((box) => Math.round(box.top)))].sort((a, b) => a - b);
  const now = tops.indexOf(Math.round(boxes[at].top));
  const top = tops[Math.max(0, Math.min(tops.length - 1, now + by))];
  const middle = boxes[at].left + boxes[at].width / 2;
  let best = at;
  let distance = Infinity;
  boxes.forEach((box, index) => {
    const away = Math.abs(box.left + box.width / 2 - middle);
    if (Math.round(box.top) === top && away < distance) {
      best = index;
      distance = away;
    }
  });
  return best;
}

/** Give a group its single tab stop when it is drawn: the chosen member, else the first. */
export function settleTabStop(members, chosen = 0) {
  members.forEach((member, index) => {
    member.tabIndex = index === chosen ? 0 : -1;
  });
}
