"""Whatever the server refuses, however it does, reaches the eye: every code × every tab, in the real page.

The table is made of the code itself: a code or a field that is new and has no row fails here.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

import api.errors
from contract.errors import StudioError, code_of
from contract.recipe import RecipeDraft
from tests.contract.test_validation import _fields
from tests.support.browser_site import Site, Visitor, visiting

PROJECT = Path(__file__).resolve().parents[2]
HOUSES = ("contract", "catalog", "studio", "engine", "api", "tabs")
TABS = ("txt2img", "img2img", "inpaint", "controlnet")
# Where a field is said, on which tabs; everywhere else, and for whatever is not here, it is over Generate.
EVERYWHERE = (
    "prompt",
    "negative_prompt",
    "model",
    "vae",
    "sampler",
    "schedule",
    "steps",
    "guidance",
    "clip_skip",
    "emphasis",
    "styles",
    "width",
    "height",
    "seed",
    "count",
    "loras",
    "hypernetworks",
    "guidance_methods",
    "regions",
    "ip_adapters",
    "hires",
)
AT_FIELD = {(tab, field) for tab in TABS for field in EVERYWHERE if (tab, field) != ("inpaint", "hires")} | {
    (tab, "controls") for tab in TABS if tab != "txt2img"
}
# A first unit that is not in use, and so not in the draft, and a second one that is.
UNITS = """() => {
  const picture = { sha256: "0".repeat(64), width: 64, height: 64 };
  const blank = { model: "", image: null, map: null, weight: "1", start: "0", end: "1", preprocessor: "none", resolution: "", low: "", high: "",
    resize: "crop", mode: "balanced", control_type: "", pixel_perfect: false, text_weight: "" };
  const pair = (model) => [blank, { ...blank, model, image: picture }];
  darkroom.form.set({ ...darkroom.form.get(), controls: pair("canny-small"), ip_adapters: pair("face"),
    loras: [{ ...blank, model: "ink", image: null }], hypernetworks: [{ ...blank, model: "bend", image: null }],
    "regions.regions": [{ id: "here", prompt: "", negative_prompt: null, weight: "1", mask: null,
      box: { left: 0, top: 0, width: 1, height: 1 } }] });
}"""
# Codes of failures that name no field of a recipe. Of those that do, the fields themselves are the rows.
CODES = frozenset(
    [
        "already_queued",
        "bad_request",
        "checksum",
        "data_folder",
        "data_folder_in_use",
        "damaged_file",
        "damaged_secret",
        "database",
        "database_locked",
        "database_newer",
        "database_read_only",
        "download_failed",
        "engine_failed",
        "engine_restarted",
        "engine_stopped",
        "extension_failed",
        "fake",
        "gated",
        "hub_unavailable",
        "upload_damaged",
        "upload_gone",
        "internal",
        "invalid_input",
        "invalid_prediction",
        "invalid_preprocessor",
        "invalid_recipe",
        "invalid_session",
        "job_failed",
        "method_not_allowed",
        "misdirected",
        "model_not_on_node",
        "model_problem",
        "name_taken",
        "no_choice",
        "no_device",
        "no_recipe",
        "no_valid_picture",
        "not_a_pickle",
        "not_allowed",
        "not_compiled",
        "not_deleted",
        "not_found",
        "not_repeated",
        "not_signed_in",
        "out_of_memory",
        "preprocessor_failed",
        "preprocessor_not_installed",
        "queue_full",
        "self_test",
        "settings",
        "starting",
        "stopping",
        "storage_full",
        "storage_refused",
        "studio_error",
        "too_large",
        "too_many_tries",
        "unexpected",
        "text_not_written",
        "unknown_field",
        "unreadable_text",
        "unsupported_type",
        "worker_died",
        "worker_hung",
        "file",
        "hub_busy",
        "offline",
        "database_damaged",
        "upload_unreadable",
        "invalid_key",
        "foreign_recipe",
        "job_running",
        "pictures_missing",
        "storage_failed",
        "storage_not_listed",
    ]
)
_PLACE = """async ([tab, rows]) => {
  location.hash = `#/${tab}`;
  await new Promise((done) => setTimeout(done, 50));
  const found = [];
  const seen = (one) => one.checkVisibility({ visibilityProperty: true }) && one.getBoundingClientRect().height > 0;
  const button = JSON.stringify(document.querySelector("#generate").getBoundingClientRect().toJSON());
  await darkroom.job.submit(async () => ({}), { width: 64, height: 64, count: 1 });
  const { stream } = JSON.parse(darkroom.job.request());
  for (const { code, field } of rows) {
    const message = `Refused: ${code} ${field ?? ""}.`;
    darkroom.job.receive(JSON.stringify({ stream, type: "refused", code, message, hint: "Do this.", field }));
    const said = [...document.querySelectorAll("p.problem")].filter((one) => one.textContent.includes(message) && seen(one));
    const place = said[0] && (said[0].id === "generate-words" ? "generate" : said[0].closest("[data-field]")?.dataset.field ?? said[0].id);
    found.push({ code, field, place: place ?? null, times: said.length, heard: document.querySelector("#alerted").textContent.includes(message),
      isIdle: !darkroom.job.isActive(),
      isStill: JSON.stringify(document.querySelector("#generate").getBoundingClientRect().toJSON()) === button });
    document.querySelector(".generate-problem button[aria-label=Close]").click();
  }
  return found;
}"""


def codes_in_the_source() -> set[str]:
    """Every code that is written down anywhere, and every class's own."""
    found = {kind.default_code for kind in _kinds(StudioError)}
    for house in HOUSES:
        for path in (PROJECT / house).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Call):
                    found |= set(_codes_of(node))
    return found


def _codes_of(call: ast.Call) -> Iterator[str]:
    name = getattr(call.func, "id", getattr(call.func, "attr", ""))
    for keyword in call.keywords:
        if keyword.arg == "code" and isinstance(keyword.value, ast.Constant) and isinstance(keyword.value.value, str):
            yield keyword.value.value
        if keyword.arg == "field" and isinstance(keyword.value, ast.Constant) and isinstance(keyword.value.value, str):
            yield code_of(keyword.value.value)
    if name == "WorkFailed" and len(call.args) > 1 and isinstance(call.args[1], ast.Constant):
        yield str(call.args[1].value)


def _kinds(kind: type[StudioError]) -> Iterator[type[StudioError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _kinds(child)


# Of what stands in a model's ref one is enough: the page shows the model.
FIELDS = sorted(
    {
        ".".join(map(str, path))
        for path in _fields(RecipeDraft)
        if path[-1] not in ("kind", "name", "fingerprint") and path[-2:] != ("model", "sha256")
    }
)
OTHER_FIELDS = frozenset(
    [
        "a",
        "b",
        "c",
        "name",
        "text",
        "files",
        "kind",
        "favorite",
        "scale",
        "upscaler",
        "image",
        "tile",
        "overlap",
        "preprocessor",
    ]
)


def test_every_code_of_the_server_has_a_row() -> None:
    assert api.errors.NotSignedIn.default_code in codes_in_the_source()
    known = CODES | {code_of(field) for field in (*FIELDS, *OTHER_FIELDS)}
    assert codes_in_the_source() - known == set()


@pytest.fixture(scope="module")
def deaf(browser: Browser, site: Site) -> Iterator[Visitor]:
    """A visitor whose Generate goes nowhere: the answers are the test's."""
    with visiting(browser, site) as visitor:
        visitor.page.evaluate("darkroom.job.bindTrigger(() => {})")
        visitor.page.evaluate(UNITS)
        yield visitor


@pytest.mark.parametrize("tab", TABS)
def test_every_refusal_is_seen_and_heard_on_every_tab(deaf: Visitor, tab: str) -> None:
    rows = [
        *({"code": code, "field": ""} for code in sorted(CODES)),
        *({"code": code_of(field), "field": field} for field in (*FIELDS, *sorted(OTHER_FIELDS))),
    ]
    found = deaf.page.evaluate(_PLACE, [tab, rows])
    assert [one for one in found if one["place"] is None or one["times"] != 1] == []
    assert [one for one in found if not one["heard"]] == []
    assert [one for one in found if not (one["isStill"] and one["isIdle"])] == []
    for one in found:
        part = one["field"].partition(".")[0]
        if (tab, part) in AT_FIELD:
            assert one["place"] != "generate", one
        if part in ("controls", "ip_adapters") and one["place"] != "generate" and one["field"] != part:
            assert one["place"].startswith(f"{part}.") and one["place"].endswith("-1"), one
        if one["field"].startswith("regions.regions."):
            assert one["place"].startswith("regions.regions.") and one["place"].endswith("-here"), one
    assert {one["place"] for one in found if not one["field"]} == {"generate"}
