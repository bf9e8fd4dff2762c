// The panes that all generating tabs share: which sections of the recipe the chosen tab shows, and in which order.

import { config } from "./config.js";
import { generates, route } from "./route.js";

const hostOf = (name) => document.getElementById(name.replaceAll("_", "-"));

/** Show or hide a section that was just filled. */
export function fitSection(name) {
  const shown = config.sections[route.get().tab];
  const host = hostOf(name);
  if (!host || !shown || !isSection(name)) return;
  host.hidden = !shown.includes(name);
  joinLines(shown);
}

const isSection = (name) => Object.values(config.sections).some((names) => names.includes(name));

// A closed section keeps close to the one above it.
function joinLines(names) {
  const hosts = names.map(hostOf).filter(Boolean);
  const isLine = (host) => Boolean(host?.querySelector("details.section, .switch:not(.inline)"));
  hosts.forEach((host, index) => host.classList.toggle("joined", isLine(host) && isLine(hosts[index - 1])));
}

// One pane has one order, and a tab may want another: then only what is out of place is moved.
function arrange(names) {
  const hosts = names.map(hostOf).filter(Boolean);
  hosts.forEach((host, index) => {
    const before = hosts[index - 1];
    const isAfter = !before || Boolean(before.compareDocumentPosition(host) & Node.DOCUMENT_POSITION_FOLLOWING);
    if (!isAfter) before.after(host);
  });
}

/** Follow the address from now on. */
export function joinPanes() {
  route.watch(({ tab }) => {
    document.documentElement.classList.toggle("no-panes", !generates(tab));
    for (const name of new Set(Object.values(config.sections).flat())) fitSection(name);
    if (generates(tab)) arrange(config.sections[tab]);
  });
}
