"""The Models tab: what is here, what is in memory, getting more, merging, deleting."""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from playwright.sync_api import expect

from contract.records import EngineStatus, ResidentModel
from contract.tasks import Download, Generate, Merge
from studio.downloads import download_task
from studio.jobs.engine_pool import summarize
from tests.browser.test_layout import WIDTHS, check
from tests.support import browser_site
from tests.support.browser_site import Profiles, Site, Visitor
from tests.support.hub import HubHere, hub_here
from tests.support.layouts import write
from tests.support.model_folders import SHIPPED_LORAS, make_model
from tests.support.serving import until

DATA = os.urandom(2_000_000)
LORA = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k.lora_{}.weight"
LORAS = 300
TOTAL = LORAS + 9 + len(SHIPPED_LORAS) + 3  # two ControlNets and an embedding
Visit = Callable[..., Visitor]


@pytest.fixture(scope="module")
def hub() -> Iterator[HubHere]:
    with hub_here() as here:
        here.add("latent-consistency/lcm-lora-sdv1-5", "pytorch_lora_weights.safetensors", DATA)
        here.add("owner/model", "a.safetensors", DATA)
        here.add("owner/model", "old.ckpt", DATA[:1000])
        yield here


@pytest.fixture(scope="module")
def own_site(hub: HubHere, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site of many models whose hub is here; models go into a folder of its own."""
    data = tmp_path_factory.mktemp("models-tab")
    (data / "own").mkdir()
    for number in range(LORAS):
        write(
            data / "more-models" / "Lora" / f"style-{number:03}.safetensors",
            {LORA.format("down"): (4, 768), LORA.format("up"): (320, 4)},
        )
    (data / "more-models" / "Lora" / "style-000.txt").write_text("Soft watercolor.")
    (data / "more-models" / "pickled").mkdir()
    (data / "more-models" / "pickled" / "old.ckpt").write_bytes(b"x")
    make_model(data / "own", "spare", title="Spare")
    make_model(data / "own", "doomed", title="Doomed")
    make_model(data / "own", "ink-lightning", title="Ink Lightning")
    load, floor = browser_site.load_settings, download_task._FLOOR_BYTES
    browser_site.load_settings = lambda *given: replace(  # type: ignore[assignment]
        load(*given), hub_endpoint=hub.endpoint, model_dirs=(data / "own", *load(*given).model_dirs)
    )
    download_task._FLOOR_BYTES = 0
    here = Site(data)
    until(lambda: len(here.studio.models()) == TOTAL, limit_s=60)  # a page shows what is found so far
    yield here
    here.stop()
    browser_site.load_settings, download_task._FLOOR_BYTES = load, floor  # type: ignore[assignment]


@pytest.fixture
def visit_models(profiles: Profiles, own_site: Site) -> Iterator[Visit]:
    from contextlib import ExitStack

    with ExitStack() as stack:

        def make(part: str = "", **look: object) -> Visitor:
            visitor = stack.enter_context(profiles.visiting(own_site, **look))
            visitor.page.evaluate(f"location.hash = '#/models{part}'")
            visitor.page.wait_for_selector(".models:visible")
            return visitor

        yield make


def download(own_site: Site) -> Download:
    records = own_site.studio._queue.records("state != 'x'", ())
    return [job.task for job in records if isinstance(job.task, Download)][-1]


def test_all_kinds_are_listed_searched_and_opened(visit_models: Visit) -> None:
    page = visit_models().page
    expect(page.locator(".models .total")).to_have_text(f"{TOTAL} models")
    assert page.locator(".models .card").count() < 80, "only what can be seen is in the page"
    page.get_by_role("radio", name=f"LoRAs {LORAS + len(SHIPPED_LORAS)}").click()
    expect(page.locator(".models .total")).to_have_text(f"{LORAS + len(SHIPPED_LORAS)} models")
    page.keyboard.press("/")
    page.keyboard.type("style-000")
    expect(page.locator(".models .total")).to_have_text("1 model")
    page.locator("button.card").click()
    sheet = page.get_by_role("dialog", name="Model")
    expect(sheet).to_contain_text("Soft watercolor.")
    sheet.get_by_role("button", name="Add to the prompt").click()
    assert page.evaluate("darkroom.form.get().prompt").endswith("<lora:style-000:1>")
    page.fill(".models input[type=search]", "nothing like it")
    expect(page.locator(".models-list .none")).to_contain_text("No model matches “nothing like it”.")
    page.get_by_role("button", name="Show all").click()
    expect(page.locator(".models .total")).to_have_text(f"{TOTAL} models")


def test_the_end_of_a_long_list_is_reached_and_its_cards_are_there(visit_models: Visit) -> None:
    page = visit_models().page
    expect(page.locator("button.card").first).to_be_visible()
    page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
    expect(page.locator("button.card", has_text=f"style-{LORAS - 1}")).to_be_visible()
    page.evaluate("scrollTo(0, 0)")
    expect(page.locator("button.card", has_text="style-000")).to_be_visible()


def test_choosing_a_model_here_sets_it_for_generating(visit_models: Visit) -> None:
    page = visit_models().page
    page.locator("button.card", has_text="Spare").click()
    page.get_by_role("button", name="Use for pictures").click()
    expect(page.locator("button.card[aria-pressed=true]")).to_contain_text("Spare")
    expect(page.get_by_role("region", name="In memory")).to_contain_text("Spare")  # read ahead of its first picture
    expect(page.locator("button.card", has_text="Doomed")).to_contain_text("Loads in about")
    page.get_by_role("tab", name="Text to image").click()
    expect(page.locator(".model-row")).to_contain_text("Spare")


def test_a_persons_settings_for_a_model_are_remembered_come_back_and_are_forgotten(visit_models: Visit) -> None:
    page = visit_models().page
    sheet = page.get_by_role("dialog", name="Model")

    def use(title: str) -> None:
        page.locator("button.card", has_text=title).click()
        sheet.get_by_role("button", name="Use for pictures").click()

    def held() -> list[str]:
        return list(page.evaluate("(({steps, negative_prompt}) => [steps, negative_prompt])(darkroom.form.get())"))

    use("Spare")
    page.evaluate("darkroom.form.set({...darkroom.form.get(), steps: '9', negative_prompt: 'fog'})")
    page.locator("button.card", has_text="Spare").click()
    expect(sheet).to_contain_text("As the model has them.")
    sheet.get_by_role("button", name="Remember the form’s").click()
    expect(sheet).to_contain_text("9 steps · negative prompt “fog”")
    page.keyboard.press("Escape")
    use("Doomed")
    assert held() == ["4", ""]
    page.reload()
    page.wait_for_selector(".models:visible")
    use("Spare")
    assert held() == ["9", "fog"]
    page.locator("button.card", has_text="Spare").click()
    sheet.get_by_role("combobox", name="What Spare predicts").select_option("v_zero_snr")
    page.wait_for_function("darkroom.form.get().model.zero_snr")
    sheet.get_by_role("combobox", name="What Spare predicts").select_option("")
    page.wait_for_function("!darkroom.form.get().model.zero_snr")
    sheet.get_by_role("button", name="Forget").click()
    expect(sheet).to_contain_text("As the model has them.")
    assert held() == ["4", ""]
    sheet.get_by_role("button", name="Add", exact=True).click()
    sheet.get_by_role("textbox", name="Trigger words of Spare").fill("ink wash, , old paper")
    sheet.get_by_role("button", name="Save").click()
    sheet.get_by_role("button", name="old paper", exact=True).click()
    assert page.evaluate("darkroom.form.get().prompt") == "old paper"
    sheet.get_by_role("button", name="old paper", exact=True).click()
    assert page.evaluate("darkroom.form.get().prompt") == ""


def test_a_recipe_that_says_what_its_model_predicts_is_sent_so(visit_models: Visit, own_site: Site) -> None:
    page = visit_models().page
    page.evaluate("darkroom.form.set({...darkroom.form.get(), prompt: 'sea', prediction: 'v_prediction'})")
    page.get_by_role("tab", name="Text to image").click()
    page.get_by_role("button", name="Generate", exact=True).click()

    def predictions() -> list[str | None]:
        jobs = own_site.studio._queue.records("state != 'x'", ())
        return [job.task.recipe.model.prediction for job in jobs if isinstance(job.task, Generate)]

    until(lambda: predictions() == ["v_prediction"])


def test_whether_a_model_is_distilled_is_asked_once(visit_models: Visit) -> None:
    page = visit_models().page
    page.locator("button.card", has_text="Ink Lightning").click()
    page.get_by_role("button", name="Use for pictures").click()
    page.get_by_role("tab", name="Text to image").click()
    line = page.locator(".distilled:visible")
    expect(line).to_contain_text("This looks like a Lightning model: 4–8 steps, Euler, SGM Uniform, guidance 1–1.5.")
    line.get_by_role("button", name="Use these").click()
    expect(line).to_have_count(0)
    held = page.evaluate(
        "(({steps, guidance, sampler, schedule}) => [steps, guidance, sampler, schedule])(darkroom.form.get())"
    )
    assert held == ["8", "1", "euler", "sgm_uniform"]
    with page.expect_response("**/model-defaults"):
        page.reload()
    page.wait_for_selector(".model-row:visible")
    expect(line).to_have_count(0)


def test_several_cards_are_one_sentence_in_the_pill_and_a_list_each_in_the_tab(
    visit_models: Visit, own_site: Site
) -> None:
    held = ResidentModel(name="starter", kind="checkpoint", bytes=24_000_000, place="device")
    ready = EngineStatus(
        state="ready",
        text="Starter ready",
        device="A card",
        models=(held,),
        device_bytes=8 * 10**9,
        device_free_bytes=6 * 10**9,
    )
    working = ready.model_copy(update={"state": "working", "text": "Working", "models": ()})
    summary = summarize({"engine-1": ready, "engine-2": working})
    assert summary is not None
    own_site.worker._status = summary
    page = visit_models().page
    expect(page.locator(".engine-pill")).to_have_text("1 of 2 cards working")
    memory = page.get_by_role("region", name="In memory")
    first, second = "1. A card · ready · 6.0 GB free", "2. A card · working · 6.0 GB free"
    expect(memory.get_by_role("heading")).to_have_text(["In memory", first, second])
    expect(memory.get_by_role("list", name=first)).to_contain_text("Starter")
    expect(memory).to_contain_text("12.0 GB free on the cards")
    own_site.worker.say("ready", "Starter ready")
    expect(memory.get_by_role("heading")).to_have_text(["In memory"])


def test_what_is_in_memory_is_kept_and_evicted(visit_models: Visit, own_site: Site) -> None:
    page = visit_models().page
    memory = page.get_by_role("region", name="In memory")
    expect(memory).to_contain_text("Starter")
    memory.get_by_role("button", name="Keep Starter in memory").click()
    expect(memory).to_contain_text("kept")
    memory.get_by_role("button", name="Let Starter go").click()
    memory.get_by_role("button", name="Evict Starter").click()
    expect(page.get_by_role("button", name="Evict Starter")).to_have_count(0)
    assert [type(command).__name__ for command in own_site.worker.commands][-3:] == ["Pin", "Pin", "Evict"]


def test_a_model_is_deleted_only_after_it_was_asked_for_in_place(visit_models: Visit, own_site: Site) -> None:
    page = visit_models().page
    page.locator("button.card", has_text="Doomed").click()
    page.get_by_role("button", name="Delete the file").click()
    expect(page.get_by_role("button", name="Keep it")).to_be_focused()
    page.get_by_role("button", name="Keep it").click()
    page.get_by_role("button", name="Delete the file").click()
    page.get_by_role("button", name="Delete Doomed").click()
    expect(page.locator("button.card", has_text="Doomed")).to_have_count(0)
    assert not (own_site.studio.settings.models_dir / "doomed").exists()
    page.locator("button.card[data-key='checkpoint/starter']").click()
    page.get_by_role("button", name="Delete the file").click()
    page.get_by_role("button", name="Delete Starter").click()
    expect(page.get_by_role("alert").filter(has_text="part of Darkroom")).to_be_visible()


def test_a_catalog_model_is_downloaded_with_its_progress_and_then_is_here(
    visit_models: Visit, own_site: Site, hub: HubHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download_task, "pinned_sha256", lambda repository, path: "")  # the hub's is not the real file
    page = visit_models("/get").page
    catalog_model = page.locator(".offer[data-id=lcm-lora-sd15]")
    expect(catalog_model).to_contain_text("CreativeML Open RAIL++-M")
    expect(catalog_model).to_contain_text("135\u00a0MB")
    hub.gate.clear()
    catalog_model.get_by_role("button", name="Download LCM LoRA for SD 1.5").click()
    expect(catalog_model).to_contain_text("of 2\u00a0MB")
    expect(page.locator(".model-task", has_text="Download lcm-lora-sdv1-5")).to_be_visible()
    page.locator(".queue-button").click()
    expect(page.locator(".queue-row", has_text="Download lcm-lora")).to_contain_text("of 2\u00a0MB")
    page.keyboard.press("Escape")
    hub.gate.set()
    expect(catalog_model).to_contain_text("Here")
    assert (own_site.studio.settings.models_dir / "loras" / "lcm-lora-sdv1-5.safetensors").read_bytes() == DATA


def test_any_repository_shows_license_and_sizes_before_a_file_is_taken(visit_models: Visit, own_site: Site) -> None:
    page = visit_models("/get").page
    name = page.get_by_role("textbox", name="Repository")
    name.fill("nonsense")
    page.get_by_role("button", name="Look").click()
    expect(page.get_by_text("Write it as it stands on huggingface.co: owner/model.")).to_be_visible()
    name.fill("no/body")
    page.keyboard.press("Enter")
    expect(page.locator(".found-files")).to_contain_text("has no repository “no/body”")
    name.fill("owner/model")
    page.keyboard.press("Enter")
    expect(page.locator(".found-files")).to_contain_text("license: mit")
    expect(page.locator(".found-files .model-task", has_text="old.ckpt")).to_contain_text("can run code when opened")
    page.get_by_label("What it is").select_option("vae")
    page.get_by_role("button", name="Download a.safetensors").click()
    expect(page.locator(".model-task", has_text="Download a.safetensors")).to_contain_text("Done")
    assert download(own_site).kind == "vae"
    assert (own_site.studio.settings.models_dir / "vae" / "a.safetensors").exists()


def test_a_download_that_fails_says_why_and_what_to_do(visit_models: Visit, hub: HubHere) -> None:
    page = visit_models("/get").page
    hub.list_status = (403, {"X-Error-Code": "GatedRepo"})
    page.get_by_role("button", name="Download SD 3.5 medium").click()
    row = page.locator(".model-task", has_text="Download sd3.5_medium.safetensors")
    expect(row).to_contain_text("is given only to those who accepted its license.")
    expect(row).to_contain_text("start Darkroom with HF_TOKEN set.")
    hub.list_status = (200, {})


def test_a_merge_is_asked_for_with_all_it_needs(
    visit_models: Visit, own_site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Merge] = []
    queue_up = own_site.studio.model_tasks._queue_up
    monkeypatch.setattr(
        own_site.studio.model_tasks,
        "_queue_up",
        lambda task, owner, session: (
            asked.append(task),
            queue_up(Download(source="no/body"), owner, session),
        )[1],
    )
    page = visit_models("/merge").page
    page.get_by_role("button", name="Merge", exact=True).click()
    expect(page.get_by_role("alert").filter(has_text="Give the merge a name.")).to_be_visible()
    page.get_by_label("Name", exact=True).fill("both")
    page.get_by_label("Model A").select_option("starter")
    page.get_by_label("Model B").select_option("spare")
    page.get_by_label("Ratio").fill("0,3")
    page.get_by_role("button", name="Add a LoRA").click()
    page.get_by_label("LoRA 1", exact=True).select_option("style-001")
    page.get_by_role("button", name="Merge", exact=True).click()
    expect(page.get_by_role("radio", name="Get more")).to_have_attribute("aria-checked", "true")
    (task,) = asked
    assert (task.name, task.a.name, task.b and task.b.name, task.ratio) == ("both", "starter", "spare", 0.3)
    assert [lora.model.name for lora in task.loras] == ["style-001"]


@pytest.mark.parametrize("width", WIDTHS)
def test_every_part_fits_every_width(visit_models: Visit, width: int) -> None:
    touch = width < 860
    page = visit_models(width=width, height=800, touch=touch).page
    expect(page.locator("button.card").first).to_be_visible()
    check(page, touch)
    page.locator("button.card", has_text="Ink Lightning").click()
    page.get_by_role("button", name="Delete the file").click()
    check(page, touch)
    page.keyboard.press("Escape")
    for part in ("get", "merge"):
        page.evaluate(f"location.hash = '#/models/{part}'")
        expect(page.locator(".offer" if part == "get" else ".merge-form").first).to_be_visible()
        check(page, touch)
