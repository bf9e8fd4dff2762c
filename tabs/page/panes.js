// The panes that all generating tabs share: which sections of the recipe the chosen tab shows.

import { config } from "./config.js";
import { route } from "./route.js";

const hostOf = (name) => document.getElementById(name.replaceAll("_", "-"));

/** Show or hide a section that was just filled. */
export function fitSection(name) {
  const shown = config.sections[route.get().tab];
  const host = hostOf(name);
  if (host && shown && isSection(name)) host.hidden = !shown.includes(name);
}

const isSection = (name) => Object.values(config.sections).some((names) => names.includes(name));

/** Follow the address from now on. */
export function joinPanes() {
  route.watch(({ tab }) => {
    document.documentElement.classList.toggle("no-panes", !(tab in config.sections));
    for (const name of new Set(Object.values(config.sections).flat())) fitSection(name);
  });
}
