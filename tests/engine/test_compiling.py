"""torch.compile in idle time: with a backend that runs what torch traced, so that it takes seconds; on a card for real."""

import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from catalog.models import ModelEntry, describe
from contract.work import WorkDone, WorkImage, WorkItem, path_key
from engine.device import card_evaluator, compiling
from engine.device.card_evaluator import CardEvaluator
from engine.device.compiling import MOST_SHAPES, Compiler, can_compile
from engine.device.devices import Device
from engine.engine import Engine, EngineOptions
from tests.support.tiny_loras import ATTENTION, chosen, dotted, make

CARD = Device(torch.device("cpu"), "a card", copies_weights=True)
ROOT = Path(__file__).resolve().parent.parent.parent
Make = Callable[..., Any]


class Counting:
    """A backend that runs the traced operations as they are, and counts."""

    def __init__(self) -> None:
        self.compiled = self.runs = 0
        self.noise = 0.0

    def __call__(self, traced: torch.fx.GraphModule, _: list[Tensor]) -> Callable[..., Any]:
        self.compiled += 1

        def run(*inputs: Tensor) -> Any:
            self.runs += 1
            return [one + self.noise for one in traced(*inputs)]

        return run


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counting]:
    """Tiny models on a busy machine: compiled code counts as quick enough, whatever its time."""
    monkeypatch.setattr(compiling, "_LEAST_GAIN", 1000.0)
    torch.compiler.reset()
    yield Counting()
    torch.compiler.reset()


class Small(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(3, 3)

    def forward(self, latents: Tensor, t: Tensor, *, prompt: Tensor, return_dict: bool) -> tuple[Tensor]:
        return (torch.tanh(self.layer(latents)) * t + prompt,)


def call(module: torch.nn.Module, latents: Tensor, t: Tensor, prompt: Tensor) -> tuple[Tensor, ...]:
    made: tuple[Tensor, ...] = module(latents, t, prompt=prompt, return_dict=False)
    return made


def given(batch: int = 1) -> tuple[Tensor, ...]:
    return torch.randn(batch, 3), torch.tensor(2.0), torch.randn(batch, 3)


def compiled(backend: Counting, module: torch.nn.Module, inputs: tuple[Tensor, ...]) -> CardEvaluator:
    evaluator = CardEvaluator(None, Compiler("small", backend=backend))
    with torch.inference_mode():
        evaluator(module, call, inputs)
    assert evaluator.compile_wanted(module) and not evaluator.compile_wanted(module)
    return evaluator


def test_only_idle_time_compiles_and_only_what_was_used(backend: Counting) -> None:
    module, inputs = Small(), given()
    evaluator = compiled(backend, module, inputs)
    assert backend.compiled == 1 and evaluator.used == set()
    runs = backend.runs
    with torch.inference_mode():
        expected = call(module, *inputs)[0]
        assert torch.equal(evaluator(module, call, inputs), expected)
        assert backend.runs == runs + 1 and evaluator.used == {"compiled"}
        evaluator(module, call, given(batch=2))
    assert backend.compiled == 1, "a job waits for no compiler"
    evaluator.compile_wanted(module)
    assert backend.compiled == 2


def test_changed_weights_change_what_compiled_code_computes(backend: Counting) -> None:
    module, inputs = Small(), given()
    evaluator = compiled(backend, module, inputs)
    with torch.inference_mode():
        before, runs = evaluator(module, call, inputs), backend.runs
        module.layer.weight.data.mul_(3)  # a LoRA on a card
        after = evaluator(module, call, inputs)
        assert not torch.equal(before, after)
        assert torch.equal(after, call(module, *inputs)[0])
        assert backend.runs == runs + 1


def test_what_is_not_as_it_was_compiled_is_evaluated_eagerly(backend: Counting) -> None:
    module, inputs = Small(), given()
    evaluator = compiled(backend, module, inputs)
    other = Small().double().float()
    other.layer.bias = None
    with torch.inference_mode():
        assert torch.equal(evaluator(other, call, inputs), call(other, *inputs)[0])
    assert backend.compiled == 1


def test_what_is_far_from_the_eager_result_is_not_used(backend: Counting) -> None:
    backend.noise = 1.0
    evaluator = compiled(backend, Small(), given())
    with torch.inference_mode():
        evaluator(Small(), call, given())
    assert evaluator.used == set()


def test_what_is_no_quicker_is_not_used(backend: Counting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "_seconds", lambda *_: 1.0)
    monkeypatch.setattr(compiling, "_LEAST_GAIN", 0.97)
    evaluator = compiled(backend, Small(), given())
    with torch.inference_mode():
        evaluator(Small(), call, given())
    assert evaluator.used == set()


def test_a_compiler_that_fails_costs_nothing_but_a_line(backend: Counting, caplog: pytest.LogCaptureFixture) -> None:
    def broken(*_: Any) -> Any:
        raise OSError("no compiler here")

    module, inputs = Small(), given()
    evaluator = CardEvaluator(None, Compiler("small", backend=broken))
    with torch.inference_mode(), caplog.at_level(logging.WARNING):
        expected = evaluator(module, call, inputs)
        evaluator.compile_wanted(module)
        assert torch.equal(evaluator(module, call, inputs), expected)
    assert "no compiler here" in caplog.text
    assert evaluator.used == set()


def test_shapes_are_kept_up_to_a_number(backend: Counting) -> None:
    module, evaluator = Small(), CardEvaluator(None, Compiler("small", backend=backend))
    with torch.inference_mode():
        for batch in range(1, MOST_SHAPES + 3):
            evaluator(module, call, given(batch))
    while evaluator.compile_wanted(module):
        pass
    assert backend.compiled == MOST_SHAPES


def test_only_cards_that_triton_knows_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not can_compile(torch.device("cpu"))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (6, 1))
    assert not can_compile(torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert not can_compile(torch.device("cuda"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    assert can_compile(torch.device("cuda"))


def test_elsewhere_the_option_is_said_to_do_nothing(caplog: pytest.LogCaptureFixture) -> None:
    engine = Engine(EngineOptions(device="cpu", threads=1, compile=True))
    assert not engine._device.compiles
    assert "no compiler that torch can use" in caplog.text


def pixels(engine: Engine, work_item: WorkItem) -> WorkImage:
    events = list(engine.generate(work_item, lambda: False))
    assert isinstance(events[-1], WorkDone), events[-1]
    (image,) = [event for event in events if isinstance(event, WorkImage)]
    return image


def test_jobs_use_it_and_a_lora_set_later_changes_the_image(
    backend: Counting,
    engine: Engine,
    entries: dict[str, ModelEntry],
    make_recipe: Make,
    make_work_item: Make,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(card_evaluator, "Compiler", lambda stamp, _: Compiler(stamp, backend=backend))
    monkeypatch.setattr("engine.engine.choose_device", lambda *_: CARD)
    monkeypatch.setattr("engine.options.can_compile", lambda _: True)
    card = Engine(EngineOptions(compile=True))
    plain = make_work_item(make_recipe())
    unet = UNet2DConditionModel.from_pretrained(str(entries["sd1"].path / "unet"))
    found = describe(make(chosen({"unet": unet}, ATTENTION), dotted).save(tmp_path / "ink.safetensors"), "ink")
    with_lora = make_work_item(make_recipe(loras=({"model": found.ref, "weight": 1.0},)))
    with_lora = replace(with_lora, model_paths={**with_lora.model_paths, path_key(found.ref): str(found.path)})
    expected, expected_lora = pixels(engine, plain), pixels(engine, with_lora)
    assert expected.pixels.rgb != expected_lora.pixels.rgb
    assert pixels(card, plain).pixels.rgb == expected.pixels.rgb
    while card.tidy():
        pass
    runs = backend.runs
    for work_item, right in ((plain, expected), (with_lora, expected_lora), (plain, expected)):
        image = pixels(card, work_item)
        assert image.pixels.rgb == right.pixels.rgb
        assert image.provenance["evaluated"] == "compiled"
    assert backend.runs == runs + 3 * 3, "every evaluation of three jobs of three steps"


def test_what_was_compiled_is_kept_on_the_disk(
    backend: Counting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[bytes] = []
    monkeypatch.setattr(torch.compiler, "save_cache_artifacts", lambda: (b"code", None))
    monkeypatch.setattr(torch.compiler, "load_cache_artifacts", loaded.append)
    for _ in range(2):
        module, evaluator = Small(), CardEvaluator(None, Compiler("small", tmp_path, backend))
        with torch.inference_mode():
            evaluator(module, call, given())
        evaluator.compile_wanted(module)
    assert loaded == [b"code"]
    (file,) = tmp_path.iterdir()
    assert file.read_bytes() == b"code"
    assert Compiler("other", tmp_path, backend)._path() != file


_AFTER_LEAN_IMPORTS = """
from engine.lean_imports import lean_imports
with lean_imports():
    import engine.engine
import sys, torch
assert not [name for name in sys.modules if name.startswith("torch._dynamo.")]
from tests.engine.test_compiling import Counting, Small, call, compiled, given
from engine.device import compiling
compiling._LEAST_GAIN = 1000.0
module, inputs, backend = Small(), given(), Counting()
evaluator = compiled(backend, module, inputs)
with torch.inference_mode():
    evaluator(module, call, inputs)
assert evaluator.used == {"compiled"} and backend.compiled == 1
"""


def test_the_worker_gets_the_compiler_when_it_asks_for_it() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _AFTER_LEAN_IMPORTS], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.gpu
def test_on_a_card_compiled_code_is_near_the_eager_one(make_recipe: Make, make_work_item: Make, tmp_path: Path) -> None:
    card = Engine(EngineOptions(device="cuda", compile=True, cache_dir=tmp_path))
    eager = Engine(EngineOptions(device="cuda", cuda_graphs=False))
    work_item = make_work_item(make_recipe(steps=6))
    expected = pixels(eager, work_item).pixels.rgb
    pixels(card, work_item)
    while card.tidy():
        pass
    image = pixels(card, work_item)
    apart = max(abs(ours - theirs) for ours, theirs in zip(image.pixels.rgb, expected, strict=True))
    assert apart <= 8
    assert list(tmp_path.glob("compiled-*.bin")) or image.provenance["evaluated"] == "CUDA graph"
