"""The measured parts of `python -m benchmarks.cuda`, in their order; each yields rows as it has them."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from benchmarks.measure import Ratio, Work, against_itself, compare
from benchmarks.subjects.in_memory import add_model, conditions_of, leased, our_loop
from benchmarks.subjects.in_memory import pipeline_loop as pipeline
from benchmarks.subjects.shapes import SD15, SDXL, TINY, TINY_XL, Shape
from contract.errors import StudioError
from contract.recipe import LoraUse, ModelRef, Recipe
from contract.tasks import Generate
from contract.work import WorkDone, WorkFailed, WorkItem, path_key
from engine.device.card_evaluator import CardEvaluator
from engine.device.compiling import Compiler
from engine.device.cuda_graphs import Graphs, Recorded
from engine.device.devices import Device, second_card
from engine.engine import Engine, EngineOptions
from engine.families.unet import UNetCall
from engine.images.vae import unscale
from engine.lora.patch import LoadedLora, patch_loras
from engine.models.bundle import Bundle
from engine.models.manager import ModelManager

_WARM_UPS = 3
_RAW_BYTES = 2**28
_LORA_RANK = 16


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    Attributes:
        figure: Its number on the performance page; "" for what has none.
        goal, limit: What the value has to reach; None where there is none.
        is_higher_better: Of value, goal and limit.
    """

    figure: str
    name: str
    value: float
    unit: str = ""
    low: float | None = None
    high: float | None = None
    goal: float | None = None
    limit: float | None = None
    is_higher_better: bool = False
    note: str = ""

    @property
    def verdict(self) -> str:
        """ "goal", "limit", "MISSED", or "" where nothing is asked for."""
        if self.goal is None or self.limit is None:
            return ""
        sign = -1 if self.is_higher_better else 1
        if sign * self.value <= sign * self.goal:
            return "goal"
        return "limit" if sign * self.value <= sign * self.limit else "MISSED"


class ComputeAgain:
    """Stands in for the recording of a CUDA graph where there is no card: `--dry-run`."""

    def __call__(self, evaluate: Callable[[], Tensor]) -> Recorded:
        output = evaluate()
        return Recorded(lambda: output.copy_(evaluate()), output)


@dataclass(slots=True)
class Bench:
    """What the parts share.

    Attributes:
        curves: Milliseconds of an evaluation by model, mode, side and jobs: the profile table.
        speeds: Bytes a second of raw copies.
    """

    device: Device
    folder: Path
    is_dry: bool
    rounds: int
    steps: int
    curves: dict[str, float] = field(default_factory=dict)
    speeds: dict[str, float] = field(default_factory=dict)

    @property
    def sd15(self) -> Shape:
        return TINY if self.is_dry else SD15

    @property
    def sdxl(self) -> Shape:
        return TINY_XL if self.is_dry else SDXL

    def steps_of(self, shape: Shape) -> int:
        """Of a loop; half as many of a large model."""
        return max(2, self.steps // 2) if shape.is_xl else self.steps

    def wait(self) -> None:
        """Until the card has done all its work."""
        if self.device.torch_device.type == "cuda":
            torch.cuda.synchronize(self.device.torch_device)

    def whole(self, work: Callable[[], object]) -> Work:
        """A work that ends when the card has done it."""

        def run() -> None:
            work()
            self.wait()

        return run

    def seconds(self, work: Callable[[], object], times: int = 5) -> float:
        """The median of some runs, after warm-ups."""
        run, taken = self.whole(work), []
        warm_ups, times = (1, 1) if self.is_dry else (_WARM_UPS, times)
        for number in range(warm_ups + times):
            began = time.perf_counter()
            run()
            if number >= warm_ups:
                taken.append(time.perf_counter() - began)
        return median(taken)

    def ratio(self, bare: Callable[[], object], ours: Callable[[], object]) -> Ratio:
        """ours / bare, after warm-ups."""
        for _ in range(1 if self.is_dry else _WARM_UPS):
            bare()
            ours()
        return compare(self.whole(bare), self.whole(ours), self.rounds)

    def graphs(self, bundle: Bundle) -> CardEvaluator:
        """The bundle's evaluator; in a dry run one that records nothing."""
        if self.is_dry:
            return CardEvaluator(Graphs(ComputeAgain()))
        assert bundle.evaluator is not None
        return bundle.evaluator


def difference(one: Tensor, other: Tensor) -> str:
    """For the note: how far apart two results are."""
    return f"max |Δ| {float((one.float() - other.float()).abs().max()):.1e}"


def raw(bench: Bench) -> Iterator[Row]:
    """Copies and a launch, as the card can do them."""
    device = bench.device.torch_device
    size = 2**20 if bench.is_dry else _RAW_BYTES
    target, other = (torch.empty(size, dtype=torch.uint8, device=device) for _ in range(2))
    pageable = torch.empty(size, dtype=torch.uint8)
    sources = {"pageable": pageable, "device": other}
    if bench.device.pins_memory:
        sources["pinned"] = pageable.pin_memory()
    for name, source in sources.items():
        bench.speeds[name] = size / bench.seconds(lambda source=source: target.copy_(source, non_blocking=True))
        yield Row("", f"copy, {name} to device", bench.speeds[name] / 1e9, "GB/s")
    small = torch.zeros(1, device=device)
    count = 1000

    def launches() -> None:
        for _ in range(count):
            small.add_(1)

    yield Row("", "launch of a kernel", bench.seconds(launches) / count * 1e6, "µs")


def _against_pipeline(bench: Bench, shape: Shape, goals: dict[str, tuple[float, float]]) -> Iterator[Row]:
    """Figures 19 and 20: the eager loop and the loop with graphs against diffusers' pipeline."""
    with leased(bench.device, shape) as bundle:
        peer, eager = pipeline(bundle, shape, bench.steps_of(shape)), our_loop(bundle, shape, bench.steps_of(shape))
        noise = against_itself(bench.whole(eager), bench.rounds)
        yield Row("", f"A/A, {shape.name} {shape.side}²", noise.wall, "", noise.low, noise.high)
        expected = eager()
        one = bench.ratio(peer, eager)
        note = f"{difference(peer(), expected)} to the pipeline"
        yield Row("19", f"eager, {shape.name}", one.wall, "", one.low, one.high, *goals["19"], note=note)
        evaluator = bench.graphs(bundle)
        recorded = our_loop(bundle, shape, bench.steps_of(shape), evaluator)
        one = bench.ratio(recorded, peer)
        note = f"{difference(recorded(), expected)} to eager; {', '.join(evaluator.used) or 'not recorded'}"
        yield Row("20", f"CUDA graph, {shape.name}", one.wall, "x", one.low, one.high, *goals["20"], True, note)


def _compiled(bench: Bench, shape: Shape, goal: float, limit: float) -> Iterator[Row]:
    """Figure 21: compiled, and recorded as a graph, against diffusers' pipeline."""
    backend = "eager" if bench.is_dry else "inductor"
    with leased(bench.device, shape) as bundle:
        compiler = Compiler(shape.name, bench.folder / "compiled", backend)
        evaluator = replace(bench.graphs(bundle), compiler=compiler)
        steps = bench.steps_of(shape)
        ours, eager = our_loop(bundle, shape, steps, evaluator), our_loop(bundle, shape, steps)
        expected = eager()
        ours()
        began = time.perf_counter()
        while evaluator.compile_wanted(bundle.onload("unet")):
            pass
        took = time.perf_counter() - began
        yield Row("", f"compiling, {shape.name}", took, "s")
        evaluator.used.clear()
        one = bench.ratio(ours, pipeline(bundle, shape, bench.steps_of(shape)))
        note = f"{difference(ours(), expected)} to eager; {', '.join(sorted(evaluator.used)) or 'not compiled'}"
        yield Row("21", f"compiled, {shape.name}", one.wall, "x", one.low, one.high, goal, limit, True, note)


def _batches(bench: Bench, shape: Shape, goals: dict[str, tuple[float, float]]) -> Iterator[Row]:
    """Figure 22's ground: one evaluation for 1, 2, 4 and 8 guided jobs at each size. This is the profile table."""
    with leased(bench.device, shape) as bundle:
        unet, device = bundle.onload("unet"), bench.device
        t = torch.tensor(500.0, device=device.torch_device)
        for side in shape.sides:
            for mode in ("eager", "graph"):
                evaluator = CardEvaluator() if mode == "eager" else bench.graphs(bundle)
                for jobs in (1, 2, 4, 8):
                    conditions = conditions_of(bundle, shape, jobs)
                    added = conditions.added or {}
                    latents = torch.randn(2 * jobs, 4, side // 8, side // 8, device=device.torch_device)
                    inputs = (latents.to(device.dtype), t, conditions.prompt_embeds, *added.values())
                    with torch.inference_mode():
                        taken = bench.seconds(partial(evaluator, unet, UNetCall(tuple(added)), inputs), 3)
                    bench.curves[f"{shape.name}/{mode}/{side}/{jobs}"] = 1000 * taken
                    yield Row("", f"evaluation, {shape.name} {side}², {jobs} jobs, {mode}", 1000 * taken, "ms")
        for mode, (goal, limit) in goals.items():
            alone = bench.curves[f"{shape.name}/{mode}/{shape.side}/1"]
            together = bench.curves[f"{shape.name}/graph/{shape.side}/4"]
            yield Row(
                "22",
                f"4 jobs at once / one by one ({mode}), {shape.name}",
                4 * alone / together,
                "x",
                None,
                None,
                goal,
                limit,
                True,
                "evaluations alone",
            )


def sd15(bench: Bench) -> Iterator[Row]:
    """Figures 19 and 20."""
    yield from _against_pipeline(bench, bench.sd15, {"19": (1.0, 1.02), "20": (1.8, 1.5)})


def sd15_compiled(bench: Bench) -> Iterator[Row]:
    """Figure 21."""
    yield from _compiled(bench, bench.sd15, 2.0, 1.6)


def sd15_batches(bench: Bench) -> Iterator[Row]:
    """Figure 22."""
    yield from _batches(bench, bench.sd15, {"eager": (2.0, 1.5), "graph": (1.3, 1.15)})


def sdxl(bench: Bench) -> Iterator[Row]:
    """Figures 19 and 20."""
    yield from _against_pipeline(bench, bench.sdxl, {"19": (1.0, 1.02), "20": (1.05, 1.0)})


def sdxl_compiled(bench: Bench) -> Iterator[Row]:
    """Figure 21."""
    yield from _compiled(bench, bench.sdxl, 1.3, 1.2)


def sdxl_batches(bench: Bench) -> Iterator[Row]:
    """Figure 22."""
    yield from _batches(bench, bench.sdxl, {"graph": (1.0, 0.95)})


def _swap_seconds(bench: Bench, device: Device) -> tuple[float, int, float]:
    """Between two SDXL-shaped models: seconds of a swap, its bytes, seconds of a guided step."""
    shape, models = bench.sdxl, ModelManager(device, budget_bytes=2**40)
    turn = [add_model(models, device, shape, seed) for seed in (0, 1)]

    def swap() -> None:
        turn.reverse()
        with models.lease(*turn[0]) as bundle:
            bundle.onload("unet")

    taken = bench.seconds(swap)
    with models.lease(*turn[0]) as bundle:
        size = bundle._slot.layout.size
        steps = bench.steps_of(shape)
        step_s = bench.seconds(our_loop(bundle, shape, steps, bench.graphs(bundle))) / steps
    models.evict_all()
    return taken, size, step_s


def swaps(bench: Bench) -> Iterator[Row]:
    """Figures 23 and 24."""
    speed = bench.speeds.get("pinned") or bench.speeds["pageable"]
    taken, size, _ = _swap_seconds(bench, replace(bench.device, keeps_copies=False))
    note = f"{size / 1e9:.2f} GB in {1000 * taken:.0f} ms"
    yield Row("23", "swap from pinned memory", size / taken / speed, "of raw", None, None, 0.9, 0.8, True, note)
    taken, size, step_s = _swap_seconds(bench, replace(bench.device, keeps_copies=True))
    note = f"{1000 * taken:.1f} ms; a step is {1000 * step_s:.1f} ms"
    yield Row("24", "swap from a copy on the card", taken / step_s, "steps", None, None, 0.5, 1.0, note=note)


def random_lora(bundle: Bundle, folder: Path) -> LoadedLora:
    """A LoRA of rank 16 on every linear layer of the U-Net, its tensors on the device as a lease has them."""
    file = folder / "lora.safetensors"
    save_file({"none": torch.zeros(1)}, file)  # its header is read for alphas
    device, module = bundle.device, torch.nn.Module()
    for name, layer in bundle.modules["unet"].named_modules():
        if isinstance(layer, torch.nn.Linear):
            shapes = {"down": (_LORA_RANK, layer.in_features), "up": (layer.out_features, _LORA_RANK)}
            for role, shape in shapes.items():
                value = (torch.randn(shape, device=device.torch_device) * 0.01).to(device.dtype)
                module.register_buffer(f"lora_unet_{name.replace('.', '_')}={role}", value)
    named = {key.replace("=", ".lora_") + ".weight": value for key, value in module._buffers.items()}
    module.state_dict = lambda *_, **__: named  # type: ignore[method-assign]
    ref = ModelRef(kind="lora", name="random", family=bundle.ref.family, fingerprint="random")
    return LoadedLora(LoraUse(model=ref, weight=0.8), module, file)


def lora(bench: Bench) -> Iterator[Row]:
    """Figure 25."""
    shape = bench.sdxl
    with leased(bench.device, shape) as bundle:
        steps = bench.steps_of(shape)
        step_s = bench.seconds(our_loop(bundle, shape, steps, bench.graphs(bundle))) / steps
        loaded = random_lora(bundle, bench.folder)
        eager = our_loop(bundle, shape, bench.steps_of(shape))
        plain = eager()
        times: dict[str, list[float]] = {"apply": [], "restore": []}
        for _ in range(bench.rounds):
            for name, loras in (("apply", [loaded]), ("restore", [])):
                bench.wait()
                began = time.perf_counter()
                patch_loras(bundle, loras)
                bench.wait()
                times[name].append(time.perf_counter() - began)
        note = f"{1000 * median(times['apply'][1:]):.1f} ms; a step is {1000 * step_s:.1f} ms"
        yield Row("25", "LoRA applied", median(times["apply"][1:]) / step_s, "steps", None, None, 1.0, 3.0, note=note)
        note = f"{difference(eager(), plain)} to before"
        yield Row("", "LoRA restored", median(times["restore"][1:]) / step_s, "steps", note=note)


class NotHere(StudioError):
    """What a part needs is not on this machine: no failure."""


def two_cards(bench: Bench) -> Iterator[Row]:
    """A loop whose batch is shared by two cards, against one."""
    second = bench.device.torch_device if bench.is_dry else second_card(bench.device.torch_device)
    if second is None:
        raise NotHere("there is no second card")
    for shape in (bench.sd15, bench.sdxl):
        with leased(bench.device, shape) as one, leased(replace(bench.device, second=second), shape) as two:
            assert two.evaluator is not None
            evaluator = replace(bench.graphs(two), elsewhere=two.evaluator.elsewhere)
            alone = our_loop(one, shape, bench.steps_of(shape), bench.graphs(one))
            together = our_loop(two, shape, bench.steps_of(shape), evaluator)
            ratio = bench.ratio(together, alone)
            note = f"{difference(alone(), together())}; {', '.join(sorted(evaluator.used))}"
            yield Row("", f"two cards, {shape.name}", ratio.wall, "x", ratio.low, ratio.high, note=note)


def vae(bench: Bench) -> Iterator[Row]:
    """Figure 27."""
    shape = bench.sdxl
    latents = torch.randn(1, 4, shape.side // 8, shape.side // 8, device=bench.device.torch_device)
    decodes: dict[str, Callable[[], Tensor]] = {}
    alone = replace(shape, name=f"{shape.name} VAE", parts={"vae": shape.parts["vae"]})
    with ExitStack() as leases:
        for name, dtype in (("float32", torch.float32), ("ours", bench.device.vae_dtype)):
            bundle = leases.enter_context(leased(replace(bench.device, vae_dtype=dtype), alone))
            module: Any = bundle.onload("vae")
            scaled = unscale(latents, module.config).to(dtype)
            decodes[name] = torch.inference_mode()(lambda module=module, scaled=scaled: module.decode(scaled).sample)
        note = f"{difference(decodes['float32'](), decodes['ours']())}; {bench.device.vae_dtype}"
        one = bench.ratio(decodes["ours"], decodes["float32"])
        yield Row("27", f"VAE decode, {shape.side}²", one.wall, "x", one.low, one.high, 2.0, 1.5, True, note)


def _engine_with(bench: Bench, shape: Shape, batch_jobs: int = 1) -> tuple[Engine, Callable[[bool, int], Work]]:
    """An engine with a model in host memory, and its work: so many jobs at once, with previews or without."""
    device, threads = ("cpu", 1) if bench.is_dry else ("cuda", None)
    engine = Engine(EngineOptions(device=device, threads=threads, cache_dir=bench.folder, batch_jobs=batch_jobs))
    ref, path = add_model(engine._models, engine._device, shape)
    recipe = Recipe(
        prompt="a red cat at sea",
        model=ref,
        sampler="euler",
        schedule="simple",
        steps=max(bench.steps, 4),
        guidance=7.0,
        width=shape.side,
        height=shape.side,
        seed=1,
    )

    def work(wants_previews: bool, jobs: int = 1) -> Work:
        first, *others = [
            WorkItem(
                f"bench{number}",
                1,
                Generate(recipe=recipe.model_copy(update={"seed": number})),
                wants_previews=wants_previews,
                model_paths={path_key(ref): path},
            )
            for number in range(jobs)
        ]

        def run() -> None:
            waiting, endings = list(others), 0
            for event in engine.generate(first, lambda: False):
                while waiting:  # with the first event of the first
                    assert engine.join(waiting.pop(), lambda: False)
                assert not isinstance(event, WorkFailed), event
                endings += isinstance(event, WorkDone)
            assert endings == jobs

        return run

    return engine, work


def people(bench: Bench) -> Iterator[Row]:
    """Figure 22: four people's whole jobs side by side, against one after another, and against a fixed batch."""
    for shape, goal, limit in ((bench.sd15, 1.3, 1.15), (bench.sdxl, 1.0, 0.95)):
        engine, work = _engine_with(bench, shape, batch_jobs=4)
        alone, together = work(True, 1), work(True, 4)
        one = bench.ratio(together, alone)
        name = f"4 people's jobs / one by one, {shape.name}"
        yield Row("22", name, 4 * one.wall, "x", 4 * one.low, 4 * one.high, goal, limit, True)
        curve = {jobs: bench.curves.get(f"{shape.name}/graph/{shape.side}/{jobs}") for jobs in (1, 4)}
        if curve[1] is not None and curve[4] is not None:
            steps = max(bench.steps, 4)
            alone_ms, together_ms = 1000 * bench.seconds(alone), 1000 * bench.seconds(together)
            fixed_ms = steps * curve[4] + 4 * (alone_ms - steps * curve[1])
            name = f"a fixed batch of 4 / the scheduler, {shape.name}"
            yield Row("22", name, fixed_ms / together_ms, "", None, None, 0.95, 0.9, True)
        engine._models.evict_all()


def previews(bench: Bench) -> Iterator[Row]:
    """Figure 26."""
    for shape in (bench.sd15, bench.sdxl):
        engine, work = _engine_with(bench, shape)
        engine._preview_interval_s = min(engine._preview_interval_s, 0.25)
        one = bench.ratio(work(False, 1), work(True, 1))
        yield Row("26", f"previews, {shape.name}", one.wall, "", one.low, one.high, 1.01, 1.02)
        engine._models.evict_all()


def first_press(bench: Bench) -> Iterator[Row]:
    """Figure 28: the first job of a model that is in host memory / the third."""
    for shape in (bench.sd15, bench.sdxl):
        engine, work = _engine_with(bench, shape)
        taken = []
        for _ in range(3):
            began = time.perf_counter()
            bench.whole(work(True, 1))()
            taken.append(time.perf_counter() - began)
        note = " ".join(f"{1000 * one:.0f} ms" for one in taken)
        yield Row("28", f"first press, {shape.name}", taken[0] / taken[2], "", None, None, 1.2, 2.0, note=note)
        engine._models.evict_all()
