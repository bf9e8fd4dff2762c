// The entry: joins gradio's elements to the modules that fill them, and starts what belongs to no element.

import { control_section } from "./controlnet/control_section.js";
import { config, configure } from "./core/config.js";
import { engine, retry } from "./core/engine.js";
import { startRoute } from "./core/route.js";
import { form, loadForm } from "./form/form.js";
import { fillSections } from "./form/panes.js";
import { gallery } from "./gallery/gallery.js";
import { guidance_section } from "./guidance/guidance_section.js";
import { inpaint_section, mask_edge_section } from "./inpaint/inpaint_section.js";
import { job } from "./jobs/job.js";
import { lora_section } from "./lora/lora_section.js";
import { model_row } from "./models/model_row.js";
import { models_tab } from "./models/models_tab.js";
import { prompt_box } from "./prompt/prompt_box.js";
import { regions_section } from "./regions/regions_section.js";
import { result_pane } from "./result/result_pane.js";
import { generate_bar } from "./sections/generate_bar.js";
import { hires_section } from "./sections/hires_section.js";
import { init_image_section, strength_field } from "./sections/init_image_section.js";
import { ip_adapter_section } from "./sections/ip_adapter_section.js";
import { refiner_section } from "./sections/refiner_section.js";
import { repeat_section } from "./sections/repeat_section.js";
import { listenForPictures } from "./shell/drop_overlay.js";
import { sampling_section } from "./sections/sampling_section.js";
import { explain_switch, more_section, number_fields, sampler_fields, seed_fields } from "./shell/fields.js";
import { size_field } from "./shell/fields.js";
import { listenForKeys } from "./shell/keys.js";
import { page_header } from "./shell/page_header.js";
import { joinTabBar } from "./shell/tab_bar.js";
import { h } from "./ui/dom.js";
import { countPresses } from "./ui/presses.js";

const SECTIONS = {
  prompt_box,
  model_row,
  size_field,
  sampler_fields,
  number_fields,
  seed_fields,
  more_section,
  sampling_section,
  explain_switch,
  init_image_section,
  strength_field,
  inpaint_section,
  mask_edge_section,
  repeat_section,
  hires_section,
  refiner_section,
  control_section,
  ip_adapter_section,
  lora_section,
  guidance_section,
  regions_section,
};
const PARTS = { recipe_and_result, gallery, models_tab };

/** Calls of parts that came before the header, which brings the configuration. @type {[string, any[]][]|null} */
let early = [];

function fillPart(name, given) {
  if (early) early.push([name, given]);
  else PARTS[name](...given);
}

/** The panes of all generating tabs. The part's trigger begins the event that makes and follows pictures. */
function recipe_and_result(element, props, watch, trigger) {
  const sections = h("div", { id: "recipe-sections" });
  const bar = h("div", { id: "generate-bar" });
  const result = h("div", { id: "result" });
  const recipe = h("div", { id: "recipe", role: "complementary", "aria-label": "Recipe" }, sections, bar);
  element.replaceChildren(h("div", { id: "panes" }, recipe, result));
  fillSections(sections, SECTIONS);
  generate_bar(bar, trigger);
  // It asks for its job by the event that the Generate bar lends.
  result_pane(result, props, watch);
}

function fillHeader(element, props) {
  configure(JSON.parse(props.config));
  document.documentElement.style.setProperty("--picture-background", config.background);
  startRoute();
  loadForm();
  page_header(element);
  const container = element.closest(".gradio-container") ?? document.body;
  listenForKeys(container);
  listenForPictures(container);
  joinTabBar();
  const calls = early ?? [];
  early = null;
  for (const [name, given] of calls) fillPart(name, given);
}

countPresses();
/** Where gradio finds our functions; tabs/head.py puts a stand-in there. @type {{darkroom: any}} */
const page = /** @type {any} */ (window);
const { waiting } = page.darkroom;
page.darkroom = {
  page_header: fillHeader,
  request: job.request,
  /** For tests and the console: what the page goes by. */
  job,
  form,
  engine,
  retry,
  ...Object.fromEntries(Object.keys(PARTS).map((name) => [name, (...given) => fillPart(name, given)])),
};
for (const [name, given] of waiting) page.darkroom[name](...given);
