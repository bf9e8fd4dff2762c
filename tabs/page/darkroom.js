// The entry: joins gradio's elements to the modules that fill them, and starts what belongs to no element.

import { configure } from "./config.js";
import { control_section } from "./control_section.js";
import { listenForPictures } from "./drop.js";
import { engine, retry } from "./engine.js";
import { explain_switch, more_section, number_fields, sampler_fields, seed_fields, size_field } from "./fields.js";
import { form, loadForm } from "./form.js";
import { gallery } from "./gallery.js";
import { generate_bar } from "./generate_bar.js";
import { hires_section } from "./hires_section.js";
import { edge_section, inpaint_section } from "./inpaint_section.js";
import { job } from "./job.js";
import { listenForKeys } from "./keys.js";
import { lora_section } from "./lora_section.js";
import { model_row } from "./model_row.js";
import { models_tab } from "./models_tab.js";
import { page_header } from "./page_header.js";
import { fillSections } from "./panes.js";
import { countPresses } from "./presses.js";
import { prompt_box } from "./prompt_box.js";
import { reference_section } from "./reference_section.js";
import { repeat_section } from "./repeat_section.js";
import { startRoute } from "./route.js";
import { stage } from "./stage.js";
import { start_section, strength_field } from "./start_section.js";
import { joinTabBar } from "./tab_bar.js";

const SECTIONS = {
  prompt_box, model_row, size_field, sampler_fields, number_fields, seed_fields, more_section, explain_switch,
  start_section, strength_field, inpaint_section, edge_section, repeat_section, hires_section, control_section, reference_section,
  lora_section,
};
const recipe_sections = (element, props) => fillSections(element, props, SECTIONS);
const PARTS = { recipe_sections, generate_bar, stage, gallery, models_tab };

/** Calls of parts that came before the header, which brings the configuration. */
let early = [];

function fillPart(name, given) {
  if (early) early.push([name, given]);
  else PARTS[name](...given);
  // The last part of its tab: until here nothing of it is shown, so nothing can be seen to move.
  if (name === "stage" && !early) document.documentElement.classList.add("drawn");
}

function fillHeader(element, props, ...rest) {
  configure(props.config);
  document.documentElement.style.setProperty("--picture-background", props.config.background);
  startRoute();
  loadForm();
  page_header(element, props, ...rest);
  const container = element.closest(".gradio-container") ?? document.body;
  listenForKeys(container);
  listenForPictures(container);
  joinTabBar();
  const calls = early ?? [];
  early = null;
  // The stage asks for its job by the event that the Generate bar lends, so it comes last.
  calls.sort(([a], [b]) => Number(a === "stage") - Number(b === "stage"));
  for (const [name, given] of calls) fillPart(name, given);
}

countPresses();
const { waiting } = window.darkroom;
window.darkroom = {
  page_header: fillHeader,
  request: job.request,
  /** For tests and the console: what the page goes by. */
  job, form, engine, retry,
  ...Object.fromEntries(Object.keys(PARTS).map((name) => [name, (...given) => fillPart(name, given)])),
};
for (const [name, given] of waiting) window.darkroom[name](...given);
