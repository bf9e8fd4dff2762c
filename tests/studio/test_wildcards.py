"""Wildcards and dynamic prompts: what they draw, that they never leave their folder, that they end."""

import os
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract import events
from contract.errors import InvalidInput, InvalidRecipe, NotFound, RequestError
from contract.tasks import Generate
from studio.prompts.dynamic import MOST_COMBINATIONS, combinations, draw, is_dynamic
from studio.prompts.library import PromptLibrary
from studio.prompts.wildcards import Wildcards
from studio.studio import Studio
from tests.studio.conftest import ME, draft, run


@pytest.fixture
def wildcards(tmp_path: Path) -> Wildcards:
    folder = tmp_path / "wildcards"
    (folder / "places").mkdir(parents=True)
    (folder / "animals.txt").write_text("# mine\ncat\n\n dog \n3::fox\n", "utf-8")
    (folder / "places/sea.txt").write_bytes(b"caf\xe9 by the sea\r\n__animals__ on a beach\r\n")
    (folder / "self.txt").write_text("x __self__\n", "utf-8")
    return Wildcards(folder)


def drawn(text: str, wildcards: Wildcards, seed: int = 1) -> str:
    return draw([text], wildcards, seed, ["prompt"])[0]


@pytest.mark.parametrize(
    ("template", "means"),
    [
        ("a {red|blue} cat", {"a red cat", "a blue cat"}),
        ("{a|{b|c}}", {"a", "b", "c"}),
        ("{2$$a|b|c}", {f"{x},{y}" for x in "abc" for y in "abc" if x != y}),
        ("{2$$ and $$a|b}", {"a and b", "b and a"}),
        ("__places/sea__", {"café by the sea", "cat on a beach", "dog on a beach", "fox on a beach"}),
        ("(cat:1.2) [a:b:0.5] [c|d] {x}", {"(cat:1.2) [a:b:0.5] [c|d] x"}),
        ("<lora:ink:0.8> {x|y}", {"<lora:ink:0.8> x", "<lora:ink:0.8> y"}),
    ],
)
def test_a_template_draws_what_it_means_and_means_what_it_draws(
    template: str, means: set[str], wildcards: Wildcards
) -> None:
    assert {drawn(template, wildcards, seed) for seed in range(80)} == means
    assert set(combinations(template, wildcards, "prompt")) == means
    assert drawn(template, wildcards, 7) == drawn(template, wildcards, 7)


def test_weights_count(wildcards: Wildcards) -> None:
    assert drawn("{0.0001::a|b}", wildcards) == "b"
    found = [drawn("__animals__", wildcards, seed) for seed in range(500)]
    assert 240 <= found.count("fox") <= 360  # 3 of 5


@settings(max_examples=150, deadline=None)
@given(st.text("ab ()[]:|.12,\\\n<>#", max_size=40))
def test_text_without_the_grammar_is_never_changed(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    wildcards = Wildcards(Path("none"))
    assert not is_dynamic(text) and drawn(text, wildcards) == text
    assert combinations(text, wildcards, "prompt") == [text]


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("a {b", "can't be read"),
        ("{" * 5_000, "too deeply"),
        ("{a|" * 30 + "b" + "}" * 30, "too deeply"),
        ("x" * 20_000 + "{a|b}", "too long"),
        ("__self__", "names itself"),
        ("__nothing__", "no wildcard “nothing”"),
        ("__../animals__", "no wildcard"),
        ("__/etc/passwd__", "no wildcard"),
        ("__C:/x__", "no wildcard"),
        ("__animals/../animals__", "no wildcard"),
        ("cost $5 {a|b}", "can't be read"),
    ],
)
def test_what_can_not_be_drawn_is_refused_with_its_field(template: str, said: str, wildcards: Wildcards) -> None:
    began = time.thread_time()
    for act in (lambda: drawn(template, wildcards), lambda: combinations(template, wildcards, "prompt")):
        with pytest.raises(InvalidRecipe, match=said) as caught:
            act()
        assert caught.value.field == "prompt" and caught.value.hint
    assert time.thread_time() - began < 8


def test_two_to_the_thirty_is_refused_and_a_few_are_counted(tmp_path: Path) -> None:
    library = PromptLibrary(tmp_path)
    with pytest.raises(InvalidRecipe, match="more than 1,000 pictures"):
        library.combine(("{a|b}" * 30, ""))
    with pytest.raises(InvalidRecipe, match="more than 1,000 pictures"):
        library.combine(("{a|b}" * 9, "{c|d}"))
    assert library.combine(("{a|b} x", "{c|d}")) == [("a x", "c"), ("a x", "d"), ("b x", "c"), ("b x", "d")]
    assert MOST_COMBINATIONS == 1_000


def test_links_pipes_folders_and_binaries_stay_out(wildcards: Wildcards, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("secret", "utf-8")
    (wildcards.folder / "link.txt").symlink_to(secret)
    (wildcards.folder / "outside").symlink_to(tmp_path)
    os.mkfifo(wildcards.folder / "pipe.txt")
    (wildcards.folder / "binary.txt").write_bytes(b"a\0b")
    (wildcards.folder / ".hidden.txt").write_text("hidden")
    with (wildcards.folder / "huge.txt").open("wb") as file:
        file.truncate(100_000_000)
    found = {one.name: one for one in wildcards.all()}
    assert set(found) == {"animals", "places/sea", "self", "pipe", "binary", "huge"}
    assert found["animals"].preview == ("cat", "dog", "3::fox") and found["animals"].count == 3
    assert all(found[name].problem for name in ("pipe", "binary", "huge"))
    with pytest.raises(InvalidInput, match=r"pipe\.txt is no plain file"):
        drawn("__pipe__", wildcards)
    assert drawn("__anim*__", wildcards) in ("cat", "dog", "fox")
    with pytest.raises(InvalidRecipe):
        drawn("__outside/secret__", wildcards)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "..",
        "../x",
        "/x",
        "x/../y",
        "a//b",
        "C:x",
        "a\\b",
        "a__b",
        "con",
        "x/NUL",
        "x.",
        "a\0",
        "x" * 300,
        ".x",
        "a/b/c/d/e/f/g/h/i",
        "_x",
    ],
)
def test_names_that_leave_the_folder_or_break_elsewhere_are_refused(name: str, wildcards: Wildcards) -> None:
    before = sorted(wildcards.folder.parent.rglob("*"))
    with pytest.raises(RequestError, match="can't be the name"):
        wildcards.put(name, "x")
    assert sorted(wildcards.folder.parent.rglob("*")) == before


def test_a_wildcard_is_written_changed_removed_and_comes_back(wildcards: Wildcards, tmp_path: Path) -> None:
    wildcards.put("colors/warm tones", "red\norange", is_new=True)
    assert wildcards.text("colors/warm tones") == "red\norange\n"
    with pytest.raises(RequestError, match="already"):
        wildcards.put("colors/warm tones", "x", is_new=True)
    with pytest.raises(RequestError, match="already"):
        wildcards.put("Animals", "x")
    wildcards.put("colors/warm tones", "red")
    assert (wildcards.folder / "colors/warm tones.txt.bak").read_text("utf-8") == "red\norange\n"
    assert wildcards.remove("colors/warm tones") == "red\n"
    with pytest.raises(NotFound):
        wildcards.text("colors/warm tones")
    (wildcards.folder / "linked").symlink_to(tmp_path)
    with pytest.raises(RequestError, match="is a link"):
        wildcards.put("linked/x", "x")


def test_a_job_is_drawn_by_its_seed_and_keeps_its_template(studio: Studio) -> None:
    studio.prompts.wildcards.put("animals", "cat\ndog\nfox\nowl\n")
    words = "a {red|blue|green} __animals__"

    def made(**fields: object) -> tuple[str, int]:
        said = run(studio, words, dynamic=True, negative_prompt="{dull|gray}", **fields)
        recipe = next(event.record.recipe for event in said if isinstance(event, events.Saved))
        assert recipe and recipe.template and recipe.template.prompt == words
        assert recipe.template.negative_prompt == "{dull|gray}" and recipe.negative_prompt in ("dull", "gray")
        return recipe.prompt, recipe.seed

    first, seed = made()
    assert made(seed=seed) == (first, seed)
    assert len({made(seed=number)[0] for number in range(12)}) > 3
    literal = next(event.record.recipe for event in run(studio, words) if isinstance(event, events.Saved))
    assert literal and literal.prompt == words and literal.template is None
    assert studio.prompts.concrete(draft("a cat", dynamic=True)) == (draft("a cat"),)


def test_each_picture_is_drawn_anew_and_is_a_job(studio: Studio) -> None:
    studio.prompts.wildcards.put("animals", "cat\ndog\nfox\nowl\nhen\nkoi\n")
    words = "a {red|blue|green} __animals__"
    alone = [studio.prompts.concrete(draft(words, dynamic=True, seed=seed))[0] for seed in (7, 8, 9)]
    together = studio.prompts.concrete(draft(words, dynamic=True, seed=7, count=3, styles=()))
    assert list(together) == alone and len({one.prompt for one in together}) > 1
    handle = studio.submit(draft(words, dynamic=True, seed=7, count=3, steps=1), ME, key="one")
    assert studio.submit(draft(words, dynamic=True, seed=7, count=3, steps=1), ME, key="one") == handle
    jobs = [studio.job(job_id, ME).job.task for job_id in (handle.id, *handle.further)]
    recipes = [task.recipe for task in jobs if isinstance(task, Generate)]
    assert [(one.prompt, one.seed, one.count) for one in recipes] == [(one.prompt, one.seed, 1) for one in alone]
    assert all(one.template and one.template.prompt == words for one in recipes)
    assert handle.further == tuple(sorted(handle.further)) and handle.id < handle.further[0]


def test_pictures_that_share_a_seed_are_drawn_anew_too(studio: Studio) -> None:
    walk = {"noise": {"variation_strength": 1.0, "walk_from": 0.0}, "dynamic": True, "seed": 3, "count": 8, "steps": 1}
    handle = studio.submit(draft("a {red|blue|green} barn", **walk), ME)
    tasks = [studio.job(job_id, ME).job.task for job_id in (handle.id, *handle.further)]
    recipes = [task.recipe for task in tasks if isinstance(task, Generate)]
    assert len({one.prompt for one in recipes}) == 3 and {one.seed for one in recipes} == {3}
    noises = [one.noise for one in recipes]
    assert noises[0] is None and len({noise.variation_seed for noise in noises if noise}) == 1
    assert [noise.variation_strength for noise in noises if noise][-1] == 1.0
