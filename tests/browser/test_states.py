"""Every state of the stage (specs: interface, section 5), drawn from a fixture: its words, and no jumps."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from tests.support.browser_site import Site, Visitor, visiting

STATES: list[dict[str, Any]] = json.loads(Path(__file__).with_name("states.json").read_text("utf-8"))
# One gray pixel.
PREVIEW = "data:image/gif;base64,R0lGODlhAQABAIAAAICAgAAAACwAAAAAAQABAAACAkQBADs="
RECIPE = {
    "prompt": "a fox",
    "model": "starter",
    "sampler": "euler_a",
    "schedule": "automatic",
    "steps": 20,
    "guidance": 7.0,
    "width": 128,
    "height": 128,
    "seed": "5",
    "count": 1,
}
_SHOW = """([view, engine, retry]) => {
  darkroom.engine.set(engine); darkroom.retry.set(retry); darkroom.job.view.set(view);
}"""
_READY = {"state": "ready", "text": "Starter ready", "resident": [], "versions": {}, "device": ""}


@pytest.fixture(scope="module")
def shown(browser: Browser, site: Site) -> Iterator[Visitor]:
    with visiting(browser, site) as visitor:
        visitor.page.wait_for_function("darkroom.engine.get()")
        # From here on only the fixtures speak.
        visitor.page.route("**/api/v1/engine", lambda route: route.fulfill(json=_READY))
        yield visitor


def view_of(state: dict[str, Any]) -> dict[str, Any]:
    given = state["view"]
    count = given.get("count", 1)
    seeds = given.pop("saved", [])
    cells = [
        {"id": f"none-{seed}", "seed": str(seed), "width": 128, "height": 128, "favorite": False} for seed in seeds
    ]
    preview = {"image": given.get("image", 0), "url": PREVIEW} if given.pop("preview", False) else None
    start = {"id": state["name"], "recipe": {**RECIPE, "count": count}, "width": 128, "height": 128, "behind": None}
    if state.get("isFirst"):
        start = {"id": None, "recipe": None, "behind": None}
    empty = [None] * (count - len(cells)) if not state.get("isFirst") else []
    return {**start, "count": count, "notices": [], **given, "cells": cells + empty, "preview": preview}


def texts(page: Page, selector: str) -> list[str]:
    return [text.replace("\u00a0", " ") for text in page.locator(selector).all_inner_texts()]


def show(page: Page, state: dict[str, Any]) -> None:
    page.evaluate(_SHOW, [view_of(json.loads(json.dumps(state))), state.get("engine", _READY), state.get("retry")])


@pytest.mark.parametrize("state", STATES, ids=[state["name"].replace(" ", "-") for state in STATES])
def test_state_says_what_it_should(shown: Visitor, state: dict[str, Any]) -> None:
    page = shown.page
    show(page, state)
    assert texts(page, ".headline") == ([state["headline"]] if "headline" in state else [])
    assert texts(page, ".notice:not([hidden]) .line") == state["lines"]
    assert shown.status() == state["status"]
    assert texts(page, ".actions button .words") == state["actions"]
    assert texts(page, ".side-note:not([hidden])") == ([state["aside"]] if "aside" in state else [])
    assert page.locator(".chip").count() == state.get("chips", 0)
    assert page.locator(".notice.bad").count() == int(state.get("isBad", False))
    progress = page.locator(".progress:not([hidden])")
    values = [int(node.get_attribute("aria-valuenow") or "") for node in progress.all()]
    assert values == ([state["progress"]] if "progress" in state else [])
    if "cells" in state:
        assert state["cells"] in texts(page, ".cell-words")


def test_no_state_moves_frame_status_or_generate(shown: Visitor) -> None:
    page = shown.page
    boxes = set()
    for state in STATES:
        if state["view"].get("count", 1) > 1:
            continue
        show(page, state)
        boxes.add(
            page.evaluate("""() => JSON.stringify([".frame", ".status-row", ".actions", ".recent-strip", "#generate"]
            .map((one) => document.querySelector(one).getBoundingClientRect()))""")
        )
    assert len(boxes) == 1, boxes


def test_listeners_hear_states_and_quarters_but_not_every_step(shown: Visitor) -> None:
    page = shown.page
    show(page, STATES[0])
    heard = page.evaluate("""() => {
      const said = [];
      const region = document.querySelector("#heard");
      for (let index = 1; index <= 20; index += 1) {
        darkroom.job.view.set({ ...darkroom.job.view.get(), id: "heard", phase: "running", count: 1, image: 0, index,
          total: 20, left_s: null, cells: [null], preview: null });
        if (said.at(-1) !== region.textContent) said.push(region.textContent);
      }
      return said;
    }""")
    assert [text for text in heard if text.startswith(("Step", "Finishing"))] == [
        "Step 1 of 20",
        "Step 5 of 20",
        "Step 10 of 20",
        "Step 15 of 20",
        "Finishing · picture 1 of 1",
    ]
    failed = next(state for state in STATES if state["name"] == "failed")
    show(page, failed)
    assert page.inner_text("#alerted").replace("\u00a0", " ").startswith("The graphics card ran out of memory. 1536")
    assert page.get_attribute("#heard", "role") == "status" and page.get_attribute("#alerted", "role") == "alert"


def test_what_was_wrong_at_the_start_is_said_until_it_is_closed(shown: Visitor) -> None:
    page = shown.page
    show(page, STATES[0])
    assert not page.locator(".start-notice").is_visible()
    sentences = ["owner.key was damaged (it is empty).", "settings.toml is empty; settings.toml.bak is used."]
    page.evaluate("status => darkroom.engine.set(status)", {**_READY, "notices": sentences})
    for sentence in sentences:
        assert page.inner_text(".start-notice .words") == sentence
        page.locator(".start-notice").get_by_role("button", name="Close").click()
    assert not page.locator(".start-notice").is_visible()
    page.evaluate("status => darkroom.engine.set(status)", {**_READY, "notices": sentences})
    assert not page.locator(".start-notice").is_visible()


def test_a_paused_queue_and_a_silent_engine_are_said_over_the_page(shown: Visitor) -> None:
    page = shown.page
    show(page, STATES[0])
    assert not page.locator(".held").is_visible()
    held = "No space left in outputs/ (0 bytes free). Free some; what waits goes on by itself."
    page.evaluate("status => darkroom.engine.set(status)", {**_READY, "held": held, "text": "Not responding for 8 s"})
    assert page.inner_text(".held") == f"The queue is paused. {held}"
    assert page.get_attribute(".held", "role") == "status"
    assert page.get_attribute(".pill", "data-tone") == "bad"
    page.evaluate("status => darkroom.engine.set(status)", _READY)
    assert not page.locator(".held").is_visible()
