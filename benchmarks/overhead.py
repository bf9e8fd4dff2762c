"""Figures 1, 2, 3 and 18 of the performance page: what loop, previews, worker and queue cost.
Also the loop with a ControlNet, a mask, and regions; and each solver beside the scheduler that solves the same.

`python -m benchmarks.overhead` measures them on the starter and on an SD 1.5-shaped checkpoint of random
weights at 256², against a bare diffusers loop in the same process, on the same weights, noise and threads.
"""

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from diffusers import EulerDiscreteScheduler

from benchmarks.controls import control_loop
from benchmarks.jobs import through_the_process, through_the_queue
from benchmarks.masks import inpaint_loop
from benchmarks.measure import ROUNDS, Figure, Work, figure, report
from benchmarks.regions import regional_loop
from benchmarks.samplers import solver_steps
from benchmarks.subjects.checkpoints import checkpoints
from benchmarks.subjects.shapes import SD15
from catalog.models import ModelEntry, describe
from contract.recipe import Recipe
from contract.tasks import Generate
from contract.work import WorkDone, WorkItem, path_key
from engine.adapters.prompt_encoder import EmbeddingCache, encode_prompts
from engine.device.devices import choose_device
from engine.engine import Engine, EngineOptions
from engine.families.unet import predict_with
from engine.models.bundle import Bundle
from engine.models.manager import ModelManager
from engine.pipeline import first_noise, sampling_of
from engine.sampling.denoise import Controls, denoise
from engine.sampling.noise import OwnNoise

STARTER = Path(__file__).resolve().parent.parent / "models" / "starter"
FIGURES = ("1", "2", "3", "18", "control", "inpaint", "regions", "samplers")
WITHOUT_A_MODEL = frozenset({"samplers"})
PROMPT = "green hills at sunset, a sailboat on the lake"


@dataclass(frozen=True, slots=True)
class Subject:
    """A model and the job that is timed on it. preview_goal: the performance page's for this size."""

    entry: ModelEntry
    steps: int
    side: int
    preview_goal: float

    def recipe(self) -> Recipe:
        return Recipe(
            prompt=PROMPT,
            model=self.entry.ref,
            sampler="euler",
            schedule="simple",
            steps=self.steps,
            guidance=7.0,
            width=self.side,
            height=self.side,
            seed=1,
        )

    def work_item(self, *, wants_previews: bool) -> WorkItem:
        return WorkItem(
            "bench",
            1,
            Generate(recipe=self.recipe()),
            wants_previews=wants_previews,
            model_paths={path_key(self.entry.ref): str(self.entry.path)},
        )


def bare_loop(bundle: Bundle, recipe: Recipe) -> Callable[[], torch.Tensor]:
    """What anyone would write over diffusers: U-Net, guidance, scheduler.step."""
    unet = bundle.onload("unet")
    context = encode_prompts(recipe, bundle, EmbeddingCache()).at(0).prompt_embeds
    noise = first_noise(recipe, OwnNoise(torch.Generator().manual_seed(recipe.seed))).to(bundle.device.torch_device)
    config = {key: value for key, value in bundle.scheduler_config.items() if not key.startswith("_")}
    scheduler = EulerDiscreteScheduler.from_config(config, timestep_spacing="trailing", steps_offset=0)

    @torch.inference_mode()
    def run() -> torch.Tensor:
        scheduler.set_timesteps(recipe.steps, device=bundle.device.torch_device)
        latents = noise * scheduler.init_noise_sigma
        for t in scheduler.timesteps:
            rows = scheduler.scale_model_input(torch.cat([latents] * 2), t)
            uncond, cond = unet(rows, t, encoder_hidden_states=context, return_dict=False)[0].chunk(2)
            latents = scheduler.step(uncond + recipe.guidance * (cond - uncond), t, latents, return_dict=False)[0]
        return latents

    return run


def our_loop(bundle: Bundle, recipe: Recipe, controls: Controls | None = None) -> Callable[[], torch.Tensor]:
    """The same through `engine/sampling/denoise.py`."""
    told = encode_prompts(recipe, bundle, EmbeddingCache())
    noise = first_noise(recipe, OwnNoise(torch.Generator().manual_seed(recipe.seed))).to(bundle.device.torch_device)
    predict = predict_with(bundle.onload, bundle.device.dtype)

    def run() -> torch.Tensor:
        sampling = sampling_of(recipe, bundle)
        *_, last = denoise(lambda _: predict, told.at, sampling, noise, recipe.guidance, controls=controls)
        return last.latents

    return run


def loop(subject: Subject, name: str, rounds: int) -> Figure:
    """Figure 1."""
    models = ModelManager(choose_device())
    recipe = subject.recipe()
    with models.lease(subject.entry.ref, str(subject.entry.path)) as bundle:
        bare, ours = bare_loop(bundle, recipe), our_loop(bundle, recipe)
        difference = float((bare() - ours()).abs().max())
        made = figure(
            "1", f"loop, {name}", bare, ours, peer="bare diffusers loop", goal=1.005, limit=1.03, rounds=rounds
        )
        return replace(made, note=f"{made.note}, latents differ by {difference:.1e}")


def job(engine: Engine, work_item: WorkItem) -> Work:
    """A whole job through the engine; every event is taken."""

    def run() -> None:
        *_, ending = engine.generate(work_item, lambda: False)
        assert isinstance(ending, WorkDone), ending

    return run


def previews(subject: Subject, name: str, rounds: int) -> Figure:
    """Figure 2, the engine's part."""
    engine = Engine(EngineOptions())
    engine.warm(str(subject.entry.path), subject.entry.ref)
    return figure(
        "2",
        f"previews, {name}",
        job(engine, subject.work_item(wants_previews=False)),
        job(engine, subject.work_item(wants_previews=True)),
        peer="job without previews",
        goal=subject.preview_goal,
        limit=1.03,
        rounds=rounds,
    )


@contextmanager
def sd15_shaped() -> Iterator[Subject]:
    """A checkpoint of SD 1.5's shape with random half-precision weights (2.1 GB), gone afterwards."""
    with checkpoints(SD15) as (entry,):
        yield Subject(entry, steps=3, side=256, preview_goal=1.01)


def starter() -> Subject:
    """The bundled model at its own size and steps."""
    return Subject(describe(STARTER, "starter"), steps=20, side=128, preview_goal=1.03)


def measure(subject: Subject, name: str, wanted: argparse.Namespace) -> Iterator[Figure]:
    """The wanted figures of one model, each when it is measured."""
    rounds = wanted.rounds
    subject = replace(subject, steps=wanted.steps or subject.steps)
    by_number: dict[str, Callable[[], Figure]] = {
        "1": lambda: loop(subject, name, rounds),
        "2": lambda: previews(subject, name, rounds),
        "3": lambda: through_the_process(subject, name, rounds),
        "18": lambda: through_the_queue(subject, name, rounds, bare_loop),
        "control": lambda: control_loop(subject.entry, subject.recipe(), name, rounds, our_loop),
        "inpaint": lambda: inpaint_loop(subject.entry, subject.recipe(), name, rounds),
        "regions": lambda: regional_loop(subject.entry, subject.recipe(), name, rounds),
    }
    for number in wanted.figures:
        if number not in WITHOUT_A_MODEL:
            yield by_number[number]()


def measure_all(wanted: argparse.Namespace) -> Iterator[Figure]:
    """The wanted figures of the wanted models."""
    if WITHOUT_A_MODEL & set(wanted.figures):
        yield from solver_steps(wanted.rounds)
    if set(wanted.figures) <= WITHOUT_A_MODEL:
        return
    if wanted.only != "sd15":
        yield from measure(starter(), "starter", wanted)
    if wanted.only != "starter":
        with sd15_shaped() as subject:
            yield from measure(subject, "SD 1.5-shaped", wanted)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="the first one is dropped")
    parser.add_argument("--figures", nargs="+", default=list(FIGURES), choices=FIGURES)
    parser.add_argument("--steps", type=int, help="of every job, instead of 20 on the starter and 3 on the other")
    parser.add_argument("--only", choices=["starter", "sd15"], help="one model instead of both")
    report("overhead", measure_all(parser.parse_args()))


if __name__ == "__main__":
    main()
