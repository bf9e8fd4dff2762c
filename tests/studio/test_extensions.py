"""Extensions come from folders; whatever one does, it is named and the rest goes on (EX01, EX03, EX15)."""

import json
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from contract.errors import InvalidRecipe
from contract.hooks import hookimpl
from contract.recipe import RecipeDraft
from contract.work import RawImage
from studio import extensions as module
from studio.extension_probe import state_of
from studio.extensions import MOST_PIXELS, Extensions, Limits

GOOD = """
from contract.hooks import hookimpl

@hookimpl
def adjust_recipe(draft):
    return draft.model_copy(update={"prompt": draft.prompt + " {name}"})
"""
SHORT = Limits(load_s=0.2, adjust_s=0.1, finish_s=0.1, watch_s=0.1)
IMAGE = RawImage(2, 1, bytes(6))


class OwnEnd(BaseException):
    """What nobody thinks of."""


RAISED = [
    KeyboardInterrupt(),
    SystemExit(3),
    GeneratorExit(),
    RecursionError(),
    MemoryError(),
    OwnEnd(),
    StopIteration(),
    ValueError("no"),
    ExceptionGroup("two", [ValueError(), KeyError()]),
]


def write(root: Path, name: str, code: str) -> Path:
    (root / name).mkdir(parents=True)
    (root / name / "extension.py").write_text(code)
    return root / name / "extension.py"


def with_hooks(limits: Limits | None = None, **functions: Callable[..., object]) -> Extensions:
    """One extension, “odd”, with these hooks."""
    extensions = Extensions(limits=limits)
    extensions.register(type("Odd", (), {name: hookimpl(function) for name, function in functions.items()}), "odd")
    return extensions


def test_extensions_are_loaded_in_order_and_bad_ones_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path, "a_first", GOOD.replace("{name}", "one"))
    write(tmp_path, "b_raises", "1 / 0")
    write(tmp_path, "c_exits", "import sys\nsys.exit(1)")
    write(tmp_path, "d_syntax", "def (")
    write(tmp_path, "e_unknown_hook", "from contract.hooks import hookimpl\n@hookimpl\ndef no_such_hook(): pass\n")
    write(tmp_path, "f_ends_all", "import os\nos._exit(7)")
    write(tmp_path, "g_interrupts", "raise KeyboardInterrupt")
    write(tmp_path, "h_changes_folder", "import os\nos.chdir('/')\nprint('hello')\n" + GOOD.replace("{name}", "two"))
    write(tmp_path, "i_goes_too_deep", "def f(): f()\nf()")
    write(tmp_path, ".hidden", "1 / 0")
    (tmp_path / "README.md").write_text("no extension")
    folder = os.getcwd()
    with caplog.at_level(logging.INFO):
        extensions = Extensions((tmp_path, tmp_path / "nothing"))
    assert extensions.names == ("a_first", "h_changes_folder")
    assert extensions.sentences == (
        "Extension “b_raises” could not be loaded (ZeroDivisionError).",
        "Extension “c_exits” could not be loaded (SystemExit).",
        "Extension “d_syntax” could not be loaded (SyntaxError).",
        "Extension “e_unknown_hook” could not be loaded (PluginValidationError).",
        "Extension “f_ends_all” ended the program that loaded it (status 7).",
        "Extension “g_interrupts” could not be loaded (KeyboardInterrupt).",
        "Extension “i_goes_too_deep” could not be loaded (RecursionError).",
    )
    assert all(sentence in caplog.text for sentence in extensions.sentences) and "1 / 0" in caplog.text
    assert "Extensions that are new or changed are tried first: a_first, b_raises" in caplog.text
    assert extensions.adjust(RecipeDraft(prompt="x")).prompt == "x one two"
    assert os.getcwd() == folder


def test_one_that_never_loads_is_named_and_the_start_goes_on(tmp_path: Path) -> None:
    write(tmp_path, "loops", "while True: pass")
    write(tmp_path, "sleeps", "import time\ntime.sleep(1000)")
    write(
        tmp_path,
        "waits_with_children",
        "import subprocess, sys\nsubprocess.run([sys.executable, '-c', 'import time; time.sleep(1000)'])",
    )
    extensions = Extensions((tmp_path,), limits=SHORT)
    assert extensions.names == ()
    assert extensions.failed == {
        name: f"Extension “{name}” did not load within 0.2 s." for name in ("loops", "sleeps", "waits_with_children")
    }


def test_one_that_hangs_here_though_it_loaded_before_is_named_too(tmp_path: Path) -> None:
    path = write(tmp_path, "waits", "import threading\nthreading.Event().wait(2)")
    kept = tmp_path / "kept.json"
    kept.write_text(json.dumps({str(path): state_of(path)}))
    extensions = Extensions((tmp_path,), kept, SHORT)
    assert extensions.sentences == ("Extension “waits” could not be loaded (no answer within 0.2 s).",)
    assert json.loads(kept.read_text()) == {}


def test_only_what_is_new_or_changed_is_tried_in_a_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, bad = write(tmp_path / "all", "first", GOOD), write(tmp_path / "all", "second", "1 / 0")
    kept = tmp_path / "kept.json"
    asked: list[list[Path]] = []
    monkeypatch.setattr(module, "probe", lambda paths, limit_s: asked.append(list(paths)) or {})
    for content in (None, "{ damaged", "[]", '{"x": 1}'):
        if content is not None:
            kept.write_text(content)
        assert Extensions((tmp_path / "all",), kept).names == ("first",)
        assert asked.pop() == [path, bad]  # what failed is tried each time
    for _ in range(2):
        assert Extensions((tmp_path / "all",), kept).names == ("first",)
        assert asked.pop() == [bad]
    (path.parent / "part.py").write_text("X = 1")  # any file of it may matter
    Extensions((tmp_path / "all",), kept)
    assert asked.pop() == [path, bad]


def test_one_that_ends_the_program_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "all", "first", GOOD)
    kept = tmp_path / "kept.json"
    monkeypatch.setattr(module, "probe", lambda paths, limit_s: {})
    Extensions((tmp_path / "all",), kept)
    assert json.loads(kept.read_text())

    def end(*_: object) -> None:
        raise OwnEnd

    with monkeypatch.context() as patch, pytest.raises(OwnEnd):
        patch.setattr(module, "call_within", end)
        Extensions((tmp_path / "all",), kept)
    assert json.loads(kept.read_text()) == {}


def test_without_extensions_nothing_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "probe", None)
    (tmp_path / "extensions").mkdir()
    threads = threading.active_count()
    extensions = Extensions((tmp_path / "extensions",), tmp_path / "kept.json")
    draft = RecipeDraft(prompt="x")
    assert extensions.adjust(draft) is draft and extensions.finish(IMAGE, {}) == (IMAGE, ())
    extensions.watch("on_start")
    assert threading.active_count() == threads and not (tmp_path / "kept.json").exists()


def test_of_two_with_one_name_the_first_is_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "probe", lambda paths, limit_s: {})
    for folder in ("one", "two"):
        write(tmp_path / folder, "same", GOOD.replace("{name}", folder))
    extensions = Extensions((tmp_path / "one", tmp_path / "two"))
    assert extensions.adjust(RecipeDraft(prompt="x")).prompt == "x one"
    assert "is there twice" in extensions.sentences[0]


@pytest.mark.parametrize("raised", RAISED, ids=lambda error: type(error).__name__)
def test_whatever_a_hook_raises_is_named(raised: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    def fail(**_: object) -> None:
        raise raised

    extensions = with_hooks(
        adjust_recipe=lambda draft: fail(), finish_image=lambda image: fail(), on_start=lambda: fail()
    )
    with pytest.raises(
        InvalidRecipe, match=f"Extension “odd” could not change the recipe \\({type(raised).__name__}\\)"
    ) as caught:
        extensions.adjust(RecipeDraft(prompt="x"))
    assert caught.value.code == "extension_failed"
    kept, notices = extensions.finish(IMAGE, {})
    assert kept is IMAGE
    assert notices == (("extension_failed", "Extension “odd” failed; the picture is saved without it."),)
    extensions.watch("on_start")
    extensions.watch("on_start")
    assert caplog.text.count("failed in on_start") == 1 and extensions.names == ("odd",)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda draft: RecipeDraft.model_construct(), "“prompt” is missing"),
        (lambda draft: draft.model_copy(update={"prompt": None}), "Prompt is empty"),
        (lambda draft: draft.model_copy(update={"steps": -1}), "Steps is -1"),
        (lambda draft: draft.model_copy(update={"steps": "abc"}), "Steps is "),
        (lambda draft: draft.model_copy(update={"width": 65}), "Width is 65"),
        (lambda draft: draft.model_copy(update={"loras": 3}), "LoRA"),
        (lambda draft: draft.model_copy(update={"prompt": "x" * 200_001}), "Prompt"),
        (lambda draft: draft.model_copy(update={"hires": {"scale": 99}}), "99"),
        (lambda draft: draft.model_copy(update={"guidance": float("nan")}), "ValueError"),
        (lambda draft: draft.model_copy(update={"prompt": "\ud800"}), ""),
        (lambda draft: draft.model_copy(update={"extras": {"odd": object()}}), ""),
        (lambda draft: "a prompt", "TypeError"),
        (lambda draft: draft.model_dump(), "TypeError"),
        (lambda draft: 0, "TypeError"),
    ],
    ids=range(14),
)
def test_a_draft_that_a_hook_spoils_is_refused_by_its_name(change: Callable[[RecipeDraft], object], words: str) -> None:
    extensions = with_hooks(adjust_recipe=change)
    with pytest.raises(InvalidRecipe, match="^Extension “odd” ") as caught:
        extensions.adjust(RecipeDraft(prompt="x"))
    assert caught.value.code == "extension_failed" and words in caught.value.message and len(caught.value.message) < 300


def test_a_hook_may_refuse_with_its_own_words() -> None:
    def refuse(draft: RecipeDraft) -> None:
        raise InvalidRecipe("No cats today.", "Ask for a dog.")

    extensions = with_hooks(adjust_recipe=refuse)
    for _ in range(4):
        with pytest.raises(InvalidRecipe, match="Extension “odd”: No cats today.") as caught:
            extensions.adjust(RecipeDraft(prompt="x"))
        assert caught.value.hint == "Ask for a dog."
    assert extensions.names == ("odd",)


def test_one_that_keeps_failing_is_switched_off() -> None:
    extensions = with_hooks(adjust_recipe=lambda draft: 1 / 0)
    for _ in range(3):
        with pytest.raises(InvalidRecipe) as caught:
            extensions.adjust(RecipeDraft(prompt="x"))
    assert caught.value.hint == "It was switched off: try again."
    assert extensions.adjust(RecipeDraft(prompt="x")).prompt == "x"
    assert extensions.sentences == ("Extension “odd” failed three times and was switched off.",)


def test_hooks_get_copies() -> None:
    def spoil(draft: RecipeDraft) -> None:
        draft.extras["odd"]["list"].append(1)

    def spoil_too(image: RawImage, extras: dict[str, object]) -> None:
        extras.clear()

    extensions = with_hooks(adjust_recipe=spoil, finish_image=spoil_too)
    draft = RecipeDraft(prompt="x", extras={"odd": {"list": []}})
    extras: dict[str, object] = dict(draft.extras)
    assert extensions.adjust(draft).extras == {"odd": {"list": []}}
    extensions.finish(IMAGE, extras)
    assert extras == draft.extras == {"odd": {"list": []}}


@pytest.mark.parametrize(
    "made",
    [
        "picture",
        b"bytes",
        RawImage(2, 1, bytes(2)),
        RawImage(0, 0, b""),
        RawImage(-2, -1, bytes(6)),
        RawImage(2.0, 1, bytes(6)),
        RawImage(2, 1, bytearray(6)),
        RawImage(2, 1, [0] * 6),
        RawImage(True, 2, bytes(6)),
        RawImage("2", "1", bytes(6)),
        RawImage(2, 1, None),
        RawImage(10**9, 10**9, b""),
        RawImage(MOST_PIXELS + 1, 1, b""),
    ],
    ids=range(13),
)
def test_what_is_no_picture_is_not_taken(made: object) -> None:
    kept, notices = with_hooks(finish_image=lambda image: made).finish(IMAGE, {})
    assert kept is IMAGE and len(notices) == 1


def test_a_picture_of_another_size_is_taken() -> None:
    larger = RawImage(4, 2, bytes(24))
    assert with_hooks(finish_image=lambda image: larger).finish(IMAGE, {}) == (larger, ())


def test_a_hook_that_does_not_return_is_switched_off_at_once() -> None:
    released = threading.Event()
    wait = lambda **_: released.wait(10)  # noqa: E731
    try:
        finishing = with_hooks(SHORT, finish_image=lambda image: wait())
        said = "Extension “odd” gave no answer within 0.1 s and was switched off."
        assert finishing.finish(IMAGE, {}) == (IMAGE, (("extension_failed", said),))
        assert finishing.finish(IMAGE, {}) == (IMAGE, ()) and finishing.names == ()
        adjusting = with_hooks(SHORT, adjust_recipe=lambda draft: wait())
        with pytest.raises(InvalidRecipe, match="no answer within") as caught:
            adjusting.adjust(RecipeDraft(prompt="x"))
        assert "switched off" in caught.value.hint and adjusting.adjust(RecipeDraft(prompt="x")).prompt == "x"
        watching = with_hooks(SHORT, on_start=lambda: wait())
        watching.watch("on_start")
        assert watching.sentences == (said,) and watching.names == ()
    finally:
        released.set()


def test_a_hook_that_changes_the_working_folder_changes_nothing(tmp_path: Path) -> None:
    folder = os.getcwd()

    def wander(image: RawImage) -> None:
        os.chdir(tmp_path)

    with_hooks(finish_image=wander).finish(IMAGE, {})
    assert os.getcwd() == folder
