"""What else can come between Generate and a job: proxies, passwords, an event that fails or never answers, a restart."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.support.browser_site import Site, Visitor, visiting
from tests.support.browser_uploads import painted, picture_file

JOIN, JOBS = "**/gradio_api/queue/join*", "**/api/v1/jobs"
SAID = ".generate-problem .problem"


def jobs_of(site: Site, prompt: str) -> int:
    return sum(recipe.prompt == prompt for recipe in painted(site))


def refusing(status: int, body: str, kind: str) -> Callable[[Route], None]:
    return lambda route: route.fulfill(status=status, body=body, content_type=kind)


def send(page: Page, prompt: str = "sea") -> None:
    page.fill("textarea[name=prompt]", prompt)
    page.keyboard.press("Control+Enter")


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("<html>no</html>", "text/html"),
        ('{"detail": "no"}', "application/json"),
        ('{"code": ', "application/json"),
        (json.dumps({"code": "x", "message": "The proxy says no.", "hint": "Ask it."}), "application/json"),
    ],
)
def test_every_bare_status_is_said_at_generate(visitor: Visitor, body: str, kind: str) -> None:
    page = visitor.page
    for status in (401, 403, 413, 421, 429, 500, 502, 503) if "html" in kind else (403, 503):
        refuse = refusing(status, body, kind)
        page.route(JOIN, refuse)
        page.route(JOBS, refuse)
        send(page)
        expect(page.locator(SAID)).to_be_visible()
        text = page.inner_text(SAID)
        assert text.endswith(".") and "undefined" not in text and ("proxy" in text or len(text) > 30), text
        assert page.inner_text("#alerted") == text
        assert visitor.view()["phase"] == "idle"
        expect(page.locator(".toast-wrap")).to_be_hidden()  # gradio's own words would only say that an error occurred
        page.unroute(JOIN)
        page.unroute(JOBS)
        page.click(".generate-problem button[aria-label=Close]")
    send(page, "and now it works")
    visitor.wait_for("done")
    expect(page.locator(SAID)).to_be_hidden()


def test_what_the_page_does_by_itself_takes_no_refusal_away(visit: Callable[..., Visitor]) -> None:
    # Sections that no tab has shown are made when there is time: on a busy computer after the first refusal.
    visitor = visit(in_new_profile=True)
    visitor.context.add_init_script(
        "localStorage.removeItem('darkroom.form'); window.later = []; window.requestIdleCallback = (work) => later.push(work);"
    )
    page = visitor.window()
    page.route(JOBS, refusing(503, '{"detail": "no"}', "application/json"))
    page.route(JOIN, refusing(503, '{"detail": "no"}', "application/json"))
    send(page)
    expect(page.locator(SAID)).to_be_visible()
    before = page.evaluate("JSON.stringify(darkroom.form.get())")
    page.wait_for_function("later.length > 0")  # a second after the page is there
    page.evaluate("for (const work of later) work({ timeRemaining: () => 50 })")
    assert page.evaluate("JSON.stringify(darkroom.form.get())") == before
    expect(page.locator(SAID)).to_be_visible()


def test_an_event_that_is_refused_is_sent_by_the_api_at_once(visitor: Visitor) -> None:
    page = visitor.page
    page.route(JOIN, lambda route: route.fulfill(status=400, body="{}", content_type="application/json"))
    send(page, "by another way")
    visitor.wait_for("done")  # the event never answers, so that the end comes from the API, too
    assert visitor.view()["recipe"]["prompt"] == "by another way"
    assert jobs_of(visitor.site, "by another way") == 1


def test_an_event_that_never_answers_ends_in_a_picture_all_the_same(visitor: Visitor) -> None:
    page = visitor.page
    page.evaluate("darkroom.job.bindTrigger(() => {})")
    send(page, "unheard of")
    visitor.wait_for("done")
    assert visitor.view()["recipe"]["prompt"] == "unheard of"
    assert jobs_of(visitor.site, "unheard of") == 1


def test_an_event_that_never_answers_says_what_the_api_refuses(visitor: Visitor) -> None:
    page = visitor.page
    page.evaluate("darkroom.job.bindTrigger(() => {})")
    page.evaluate("darkroom.form.set({ ...darkroom.form.get(), prompt: '<lora:nowhere:1>' })")
    page.keyboard.press("Control+Enter")
    expect(page.locator("[data-field=prompt] > .problem").first).to_contain_text("LoRA “nowhere” is not here.")


def test_without_a_connection_the_status_says_so_and_the_job_goes_when_it_is_back(visitor: Visitor) -> None:
    page = visitor.page
    visitor.context.set_offline(True)
    send(page, "after the break")
    expect(page.locator(".status")).to_contain_text("No connection to Darkroom")
    visitor.context.set_offline(False)
    # Gradio loads the page anew when the server is back.
    page.wait_for_function(
        "window.darkroom?.job?.view?.get().recipe?.prompt === 'after the break' && !darkroom.job.isActive()"
    )
    assert jobs_of(visitor.site, "after the break") == 1


def test_a_late_answer_of_before_a_reload_does_not_forget_what_was_sent_since(visitor: Visitor) -> None:
    page, held = visitor.page, []
    page.evaluate(
        "sessionStorage.setItem('darkroom.unheard', JSON.stringify({ draft: { prompt: 'before' }, key: 'k1', at: Date.now() }))"
    )
    page.route(JOBS, lambda route: held.append(route) if route.request.method == "POST" else route.continue_())
    page.reload()
    page.wait_for_selector("#generate")
    page.wait_for_function("window.darkroom?.job")
    page.evaluate("darkroom.job.bindTrigger(() => {})")
    send(page, "since")
    page.wait_for_function("sessionStorage.getItem('darkroom.unheard')?.includes('since')")
    assert held[0].request.post_data_json == {"prompt": "before"}
    held[0].continue_()
    page.unroute(JOBS)
    visitor.wait_for("done")
    assert jobs_of(visitor.site, "since") == jobs_of(visitor.site, "before") == 1


def test_half_a_character_is_named_at_once_and_by_the_server(visitor: Visitor) -> None:
    page = visitor.page
    asked: list[str] = []
    page.on("request", lambda request: asked.append(f"{request.url} {request.post_data_buffer or b''!r}"))
    page.evaluate("darkroom.form.set({ ...darkroom.form.get(), prompt: 'a cat \\ud83d' })")
    page.click("#generate")
    problem = page.locator("[data-field=prompt] > .problem").first
    expect(problem).to_contain_text("Prompt has half of a character at place 7")
    assert not any("queue/join" in one and "a cat" in one for one in asked)
    answer = page.evaluate("""async () => (await fetch("/api/v1/jobs", { method: "POST",
      headers: { "Content-Type": "application/json" }, body: JSON.stringify({ prompt: "a cat \\ud83d" }) })).json()""")
    assert answer["field"] == "prompt" and answer["code"] == "invalid_prompt"
    page.evaluate("""() => { darkroom.form.set({ ...darkroom.form.get(), prompt: "a" });
      darkroom.job.submit(async () => ({ prompt: "b \\ud83d" }), { width: 64, height: 64, count: 1 }); }""")
    expect(problem).to_contain_text("Prompt has half of a character at place 3")


def test_a_refusal_goes_with_the_form_with_a_press_and_by_hand(visitor: Visitor) -> None:
    page = visitor.page
    page.route(
        JOBS, lambda route: route.fulfill(status=429, json={"code": "queue_full", "message": "Full.", "hint": "Wait."})
    )
    page.route(JOIN, lambda route: route.fulfill(status=400, body="{}", content_type="application/json"))
    send(page)
    said = page.locator(SAID)
    expect(said).to_have_text("Full. Wait.")
    page.fill("textarea[name=prompt]", "sea and sky")
    expect(said).to_be_hidden()
    send(page)
    expect(said).to_be_visible()
    page.unroute(JOBS)
    page.unroute(JOIN)
    page.keyboard.press("Control+Enter")
    expect(said).to_be_hidden()
    visitor.wait_for("done")


def test_a_swept_control_picture_is_named_at_its_unit_and_forgotten_when_it_is_back(
    visitor: Visitor, tmp_path: Path
) -> None:
    page = visitor.page
    page.goto(f"{visitor.site.url}#/controlnet")
    page.wait_for_selector("[data-field='controls.model-0'] select")
    page.evaluate(
        """(sha) => darkroom.form.set({ ...darkroom.form.get(), prompt: "sea",
      controls: [{ ...darkroom.form.get().controls[0], model: "canny-small", image: { sha256: sha, width: 64, height: 64 } }] })""",
        "0" * 64,
    )
    page.click("#generate")
    problem = page.locator("[data-field='controls.image-0'] > .problem")
    expect(problem).to_have_text("The control picture is not here. Add it again.")
    page.set_input_files("[data-field='controls.image-0'] input[type=file]", picture_file(tmp_path))
    expect(problem).to_be_hidden()
    page.click("#generate")
    visitor.wait_for("done")


def test_a_page_that_stays_open_over_a_restart_makes_its_next_picture(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> None:
    first = Site(tmp_path_factory.mktemp("restarted"))
    try:
        with visiting(browser, first) as visitor:
            send(visitor.page, "before")
            visitor.wait_for("done")
            first.stop_serving()
            send(visitor.page, "after")
            expect(visitor.page.locator(".status")).to_contain_text("No connection to Darkroom")
            first.serve()
            visitor.page.wait_for_function(
                "window.darkroom?.job?.view?.get().recipe?.prompt === 'after' && !darkroom.job.isActive()"
            )
            assert jobs_of(first, "after") == 1
    finally:
        first.stop()
