// Enlarging a picture, finished or from outside: one dialog, and a job of its own.

import { get, inWords, post } from "../core/api.js";
import { config } from "../core/config.js";
import { generates, go, route } from "../core/route.js";
import { keep, recall } from "../core/store.js";
import { refOf } from "../core/uploads.js";
import { pixels } from "../core/words.js";
import { number } from "../form/form.js";
import { upscaledSize } from "../form/size_rule.js";
import { job } from "../jobs/job.js";
import { dropArea } from "../sections/drop_area.js";
import { allWithin, button, field, freshId, h, icon, sayAtField, setText } from "../ui/dom.js";
import { closeLayer, openLayer } from "../ui/layers.js";
import { alarm } from "../ui/live.js";
import { segmented } from "../ui/segmented.js";

const SCALES = ["1.5", "2", "3", "4"];

/** @type {import("../core/uploads.js").Upload|null} */
let picture = null;
let chosen = { upscaler: "lanczos", scale: "2", tile: "", overlap: "", ...recall("upscale", {}) };
/** @type {HTMLDialogElement|null} */
let dialog = null;
let draw = () => {};

/** Ask how to enlarge a picture; without one, ask for it too. */
export function openUpscale(given = /** @type {import("../core/uploads.js").Upload|null} */ (null)) {
  picture = given;
  dialog ??= make();
  (document.querySelector(".gradio-container") ?? document.body).append(dialog);
  openLayer(dialog, { focus: allWithin(dialog, given ? "select" : ".area-choose")[0] });
  draw();
  offer(dialog.querySelector("select"));
}

// What enlarges finished pictures: latent ways serve a hires pass only.
async function offer(select) {
  const { upscalers } = await get("/upscalers").catch(() => ({ upscalers: [{ name: "lanczos", label: "Lanczos" }] }));
  const offered = upscalers.filter((one) => !one.is_latent);
  if (!offered.some((one) => one.name === chosen.upscaler)) choose({ upscaler: "lanczos" });
  select.replaceChildren(
    ...offered.map((one) => h("option", { value: one.name }, one.is_model ? one.label : `${one.label}, no model`)),
  );
  select.value = chosen.upscaler;
}

function choose(patch) {
  chosen = { ...chosen, ...patch };
  keep("upscale", chosen);
  draw();
}

const pixelsOf = ({ width, height }) => pixels(width, height);

function make() {
  const area = dropArea({
    label: "Picture to enlarge",
    onpicture: (upload) => {
      picture = upload;
      draw();
    },
    onremove: () => {
      picture = null;
      draw();
    },
  });
  const select = h("select", { id: freshId("upscaler"), onchange: () => choose({ upscaler: select.value }) });
  const scales = segmented({ label: "Upscale by", onchoose: (scale) => choose({ scale }) });
  const result = h("p.hint", {});
  const problem = h("p.problem", { hidden: true, role: "alert" });
  const start = button({ label: "Upscale", icon: "larger", kind: "filled", onclick: () => submit(problem) });
  draw = () => {
    area.show(picture);
    scales.offer(
      SCALES.map((value) => ({ value, label: `${value}×` })),
      chosen.scale,
    );
    const larger = picture && upscaledSize(picture, number(chosen.scale));
    const becomes = picture && larger && `${pixelsOf(picture)} becomes ${pixelsOf(larger)}.`;
    setText(result, becomes ?? "");
    problem.hidden = true;
    if (dialog) sayAtField(dialog, "", "");
  };
  return h(
    "dialog.dialog-box",
    { "aria-label": "Upscale" },
    h(
      "div.picker-head",
      {},
      h("h2", {}, "Upscale"),
      button({ label: "Close", icon: "close", words: false, onclick: closeLayer }),
    ),
    h(
      "div.dialog-body",
      {},
      field("upscale.image", "Picture", area.element).box,
      field("upscale.upscaler", config.labels.upscaler, h("div.select", {}, select, icon("down")), {
        labelFor: select.id,
        note: "Models of the kind that sharpens go into models/ as .safetensors files and appear here.",
      }).box,
      field("upscale.scale", config.labels.scale, scales.element).box,
      h("div.pair", {}, pixelField("tile"), pixelField("overlap")),
      h("div.dialog-foot", {}, result, start),
      problem,
    ),
  );
}

// Empty: as usual, which the placeholder names.
function pixelField(name) {
  const input = h("input", {
    type: "text",
    id: freshId(name),
    inputmode: "numeric",
    autocomplete: "off",
    value: chosen[name],
    placeholder: `${config.defaults[`upscale.${name}`]} px`,
    oninput: () => choose({ [name]: input.value }),
  });
  return field(`upscale.${name}`, config.labels[name], input, { labelFor: input.id }).box;
}

async function submit(problem) {
  const say = (text) => {
    setText(problem, text);
    problem.hidden = false;
  };
  if (!picture) {
    say("Upscaling needs a picture. Drop one, paste it, or choose a file.");
    return;
  }
  const scale = number(chosen.scale);
  const { parent } = picture;
  const sent = { image: refOf(picture), upscaler: chosen.upscaler, scale };
  for (const name of ["tile", "overlap"]) if (chosen[name].trim()) sent[name] = number(chosen[name]);
  if (parent) sent.parent = parent;
  try {
    const { id } = await post("/jobs/upscale", sent);
    closeLayer();
    if (!generates(route.get().tab)) go(config.tabs[0].id);
    job.enqueue(id, { count: 1, ...upscaledSize(picture, scale) });
  } catch (refused) {
    const { message, hint = "", field: at = "" } = inWords(refused);
    const text = `${message} ${hint}`.trim();
    alarm(text);
    if (!sayAtField(dialog, at && `upscale.${at.split(".")[0]}`, text)) say(text);
  }
}
