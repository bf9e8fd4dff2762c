"""From prompt to picture and back, as a person does it, in the real page."""

from collections.abc import Callable

from playwright.sync_api import Route, expect

from catalog.samplers import SAMPLERS, SCHEDULES, schedules_for
from tests.support.browser_site import Visitor
from tests.support.browser_uploads import painted

Visit = Callable[..., Visitor]


def test_prompt_becomes_a_picture_that_can_be_found_and_used_again(visitor: Visitor) -> None:
    page = visitor.page
    expect(page.locator(".headline")).to_have_text("Nothing developed yet")
    visitor.ask("the sea at night [slow]", steps="30")
    page.wait_for_selector(".cell .preview:not([hidden])")
    assert page.locator(".cell .preview").get_attribute("src").startswith("data:image/jpeg")
    expect(page.locator(".status")).to_contain_text("Step ")
    visitor.wait_for("done")
    expect(page.locator(".cell .picture.shown")).to_be_visible()
    assert "30 steps" in visitor.status()
    seed = visitor.status().rsplit("seed ", 1)[1]

    page.get_by_role("tab", name="Gallery").click()
    page.locator(".tile").first.click()
    expect(page.locator(".recipe")).to_contain_text("the sea at night [slow]")
    expect(page.locator(".recipe")).to_contain_text(seed)
    page.evaluate("darkroom.form.set({ ...darkroom.form.get(), prompt: 'something else', steps: '7' })")
    page.get_by_role("button", name="Use settings").last.click()
    expect(page.locator("textarea[name=prompt]")).to_have_value("the sea at night [slow]")
    expect(page.locator("[data-field=steps] input.number")).to_have_value("30")
    expect(page.locator("[data-field=seed] input")).to_have_value(seed)
    page.get_by_role("button", name="Undo").click()
    expect(page.locator("textarea[name=prompt]")).to_have_value("something else")


def test_reload_in_mid_job_shows_the_running_preview_again_and_cancel_ends_it(visitor: Visitor) -> None:
    page = visitor.page
    visitor.ask("green hills [slow]", steps="60")
    page.wait_for_selector(".cell .preview:not([hidden])")
    visitor.site.worker.gate.clear()
    job = visitor.view()["id"]
    page.reload()
    visitor.wait_for("running")
    page.wait_for_selector(".cell .preview:not([hidden])")
    assert visitor.view()["id"] == job
    expect(page.locator("textarea[name=prompt]")).to_have_value("green hills [slow]")
    page.get_by_role("button", name="Cancel").click()
    visitor.wait_for("cancelled")
    assert visitor.status().startswith("Cancelled at step")
    expect(page.get_by_role("button", name="Run again")).to_be_visible()


def test_generate_while_one_runs_queues_the_next_and_the_window_goes_on_to_it(visitor: Visitor) -> None:
    page = visitor.page
    visitor.site.worker.gate.clear()
    visitor.ask("first")
    page.wait_for_function("darkroom.job.view.get().id")
    first = visitor.view()["id"]
    visitor.ask("second")
    expect(page.locator("#generate")).to_contain_text("Generate · 1 waiting")
    visitor.site.worker.gate.set()
    page.wait_for_function(f"darkroom.job.view.get().id && darkroom.job.view.get().id !== '{first}'")
    visitor.wait_for("done")
    assert visitor.view()["recipe"]["prompt"] == "second"
    expect(page.locator("#generate")).not_to_contain_text("waiting")


def test_a_closed_windows_job_is_taken_up_by_the_next_window(visitor: Visitor) -> None:
    visitor.ask("lake [slow]", steps="80")
    visitor.wait_for("running")
    visitor.site.worker.gate.clear()
    job = visitor.view()["id"]
    visitor.page.close()
    second = visitor.window()
    visitor.wait_for("running", second)
    assert visitor.view(second)["id"] == job
    second.keyboard.press("Escape")
    visitor.wait_for("cancelled", second)


def test_two_windows_never_see_each_others_job(visit: Visit) -> None:
    one, other = visit(), visit()
    twin = one.window()
    one.ask("mine [slow]", steps="40")
    one.wait_for("running")
    one.site.worker.gate.clear()
    for page in (twin, other.page):
        assert page.evaluate("darkroom.job.view.get().phase") == "idle"
        expect(page.locator(".cell .preview:not([hidden])")).to_have_count(0)
    other.ask("theirs")
    one.site.worker.gate.set()
    one.wait_for("done")
    other.wait_for("done")
    assert one.view()["recipe"]["prompt"] == "mine [slow]"
    assert other.view()["recipe"]["prompt"] == "theirs"
    assert twin.evaluate("darkroom.job.view.get().id") is None
    names = {
        page.evaluate("JSON.parse(sessionStorage['darkroom.window']).name") for page in (one.page, twin, other.page)
    }
    assert len(names) == 3


def test_a_duplicated_tab_gets_a_name_of_its_own(visitor: Visitor) -> None:
    copied = visitor.page.evaluate("sessionStorage['darkroom.window']")
    twin = visitor.context.new_page()
    twin.add_init_script(f"if (!sessionStorage['darkroom.window']) sessionStorage['darkroom.window'] = {copied!r};")
    twin.goto(visitor.site.url)
    twin.wait_for_selector("#generate")
    assert twin.evaluate("sessionStorage['darkroom.window']") != copied


def test_a_typed_value_out_of_range_stays_in_red_with_the_sentence(visitor: Visitor) -> None:
    page = visitor.page
    steps = page.locator("[data-field=steps] input.number")
    steps.fill("999")
    page.click("#generate")
    expect(page.locator("[data-field=steps] .problem")).to_have_text("Steps is 999. Use a whole number, 1 to 150.")
    expect(steps).to_have_value("999")
    expect(steps).to_be_focused()
    expect(steps).to_have_attribute("aria-invalid", "true")
    assert visitor.view()["phase"] == "idle"
    page.get_by_role("radio", name="Custom").click()
    width = page.get_by_role("textbox", name="Width")
    width.fill("500")
    width.blur()
    expect(page.locator("[data-field=width] .problem").first).to_contain_text(
        "Width is 500. Use a multiple of 8: 496 or 504."
    )
    page.get_by_role("button", name="504").click()
    expect(width).to_have_value("504")


def test_a_refusal_of_the_server_stands_at_its_field(visitor: Visitor) -> None:
    page = visitor.page
    page.evaluate("darkroom.form.set({ ...darkroom.form.get(), sampler: 'nonsense' })")
    page.click("#generate")
    page.wait_for_selector(".result-pane[data-phase=failed], [data-field=sampler] .problem:not([hidden])")
    assert "nonsense" in page.locator(".result-pane, [data-field=sampler]").all_inner_texts().__str__()


def test_a_prompt_is_only_ever_text(visitor: Visitor) -> None:
    page = visitor.page
    evil = '<img src=x onerror="window.pwned=1"><script>window.pwned=1</script>${window.pwned=1}{{pwned}}'
    visitor.ask(evil)
    visitor.wait_for("done")
    page.locator(".queue-button").click()
    expect(page.locator(".queue-name").first).to_contain_text("<img src=x")
    page.keyboard.press("Escape")
    page.get_by_role("tab", name="Gallery").click()
    page.locator(".tile").first.click()
    expect(page.locator("dd.prompt")).to_have_text(evil)
    page.reload()
    page.wait_for_selector("dd.prompt")
    assert page.evaluate("window.pwned") is None
    assert page.locator("img[src=x]").count() == 0


def test_a_lost_connection_is_said_and_the_job_is_taken_up_again(visitor: Visitor) -> None:
    page = visitor.page
    visitor.ask("canyon [slow]", steps="120")
    visitor.wait_for("running")
    visitor.site.worker.gate.clear()
    visitor.context.set_offline(True)
    expect(page.locator(".status")).to_contain_text("No connection to Darkroom")
    expect(page.get_by_role("button", name="Try now")).to_be_visible()
    expect(page.locator(".pill").first).to_contain_text("No connection")
    visitor.context.set_offline(False)
    expect(page.locator(".status")).to_contain_text("Step ", timeout=15_000)
    before = visitor.view()["index"]
    visitor.site.worker.gate.set()
    page.wait_for_function(f"darkroom.job.view.get().index > {before} || darkroom.job.view.get().phase === 'done'")
    if visitor.view()["phase"] == "running":
        page.keyboard.press("Escape")
    page.wait_for_function("!darkroom.job.isActive()")


def test_four_pictures_are_a_contact_sheet_that_opens_one_large(visitor: Visitor) -> None:
    page = visitor.page
    page.get_by_role("radio", name="4", exact=True).click()
    visitor.ask("desert at noon")
    expect(page.locator(".cell")).to_have_count(4)
    visitor.wait_for("done")
    expect(page.locator(".cell .picture.shown")).to_have_count(4)
    seeds = [int(text) for text in page.locator(".seed").all_inner_texts()]
    assert seeds == list(range(seeds[0], seeds[0] + 4))
    assert visitor.status().startswith("4 pictures in ")
    page.locator(".cell").nth(2).click()
    expect(page.locator(".cell")).to_have_count(1)
    assert f"seed {seeds[2]}" in visitor.status()
    page.keyboard.press("ArrowRight")
    assert f"seed {seeds[3]}" in visitor.status()
    page.keyboard.press("Escape")
    expect(page.locator(".cell")).to_have_count(4)


def test_what_was_set_is_there_after_a_reload(visitor: Visitor) -> None:
    page = visitor.page
    page.fill("textarea[name=negative_prompt]", "fog")
    page.get_by_role("radio", name="Tall").click()
    page.select_option("[data-field=sampler] select", "euler_a")
    page.get_by_text("More", exact=True).click()
    page.get_by_role("button", name="Theme: auto").click()
    page.get_by_role("button", name="Theme: light").click()
    page.reload()
    page.wait_for_selector("#generate")
    expect(page.locator("textarea[name=negative_prompt]")).to_have_value("fog")
    expect(page.get_by_role("radio", name="Tall")).to_be_checked()
    expect(page.locator("[data-field=sampler] select")).to_have_value("euler_a")
    assert page.locator("#more-section > details").get_attribute("open") is not None
    assert "dark" in (page.locator("html").get_attribute("class") or "")


def test_only_pairs_of_sampler_and_schedule_that_make_sense_are_offered(visitor: Visitor) -> None:
    page = visitor.page
    offered = page.locator("[data-field=schedule] option")
    for sampler in ("lcm", "dpmpp_2m"):
        page.select_option("[data-field=sampler] select", sampler)
        zero_snr = page.evaluate("darkroom.form.get().model.zero_snr")
        ids = schedules_for(SAMPLERS[sampler], zero_snr=zero_snr)
        assert offered.all_inner_texts() == [SCHEDULES[id].label for id in ids]
    assert zero_snr and "karras" not in ids, "the starter has zero terminal SNR"


def test_a_cancel_that_met_a_refusal_leaves_the_next_job_alone(visitor: Visitor) -> None:
    page = visitor.page
    held: list[Route] = []
    # Only what this asks is held: a page that has just opened asks by the same way for what it left behind.
    page.route(
        "**/queue/join*",
        lambda route: held.append(route) if "nonsense" in (route.request.post_data or "") else route.continue_(),
    )
    page.evaluate("darkroom.form.set({ ...darkroom.form.get(), sampler: 'nonsense' })")
    page.click("#generate")
    visitor.wait_for("sending")
    page.get_by_role("button", name="Cancel").click()
    for _ in range(150):
        if held:
            break
        page.wait_for_timeout(100)  # until the request has come here
    held[0].continue_()
    page.wait_for_function("!darkroom.job.isActive()")
    page.select_option("[data-field=sampler] select", "euler_a")
    visitor.ask("a lighthouse")
    page.wait_for_function("['done', 'cancelled'].includes(darkroom.job.view.get().phase)")
    assert visitor.view()["phase"] == "done" and visitor.view()["recipe"]["prompt"] == "a lighthouse"


def test_a_deleted_picture_is_no_failure_and_what_is_missing_keeps_its_seed(visitor: Visitor) -> None:
    page = visitor.page
    page.get_by_role("radio", name="4", exact=True).click()
    visitor.ask("desert at noon")
    visitor.wait_for("done")
    seeds = [int(text) for text in page.locator(".seed").all_inner_texts()]
    page.locator(".cell").nth(1).click()
    page.get_by_role("button", name="Delete").click()
    page.locator(".cell").first.press("Escape")
    expect(page.locator(".cell")).to_have_count(3)
    assert visitor.status().startswith("3 pictures in ")
    expect(page.get_by_role("button", name="Try the missing one")).to_be_hidden()
    # As if the last had failed.
    page.evaluate("""darkroom.job.view.set({ ...darkroom.job.view.get(), phase: "failed", code: "out_of_memory", message: "The card is full.",
      hint: "Use 64 × 64.", cells: darkroom.job.view.get().cells.map((cell, at) => (at < 3 ? cell : null)) })""")
    assert visitor.status() == "2 of 3 pictures · 1 failed: the card is full"
    expect(page.locator(".side-note summary")).to_have_text("Use 64 × 64.")
    page.get_by_role("button", name="Try the missing one").click()
    page.wait_for_function("darkroom.job.view.get().phase === 'done' && darkroom.job.view.get().count === 1")
    again = painted(visitor.site)[-1]
    assert (again.seed, again.count) == (seeds[3], 1)


def test_what_is_no_longer_kept_in_memory_is_painted_again(visitor: Visitor) -> None:
    page = visitor.page
    visitor.ask("a pond")
    visitor.wait_for("done")
    before = len(painted(visitor.site))
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.evaluate("""darkroom.job.view.set({ ...darkroom.job.view.get(), phase: "failed", code: "storage_refused", cells: [null],
      message: "outputs/ can't be written.", hint: "Correct its permissions, then press Try again; the picture is kept in memory." })""")
    page.get_by_role("button", name="Try again").click()
    visitor.wait_for("done")
    assert [url for url in asked if url.endswith("/retry_save")]
    assert len(painted(visitor.site)) == before + 1


def test_undo_is_offered_no_longer_than_the_server_keeps_what_was_deleted(visitor: Visitor) -> None:
    page = visitor.page
    page.clock.install()
    page.locator(".chip").first.click()
    page.locator(".undo-bar").hover()
    page.clock.fast_forward(60_000)
    expect(page.locator(".undo-bar")).to_be_visible()
    page.clock.fast_forward(52_000)
    expect(page.locator(".undo-bar")).to_be_hidden()
