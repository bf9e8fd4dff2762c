"""Models of random weights in memory, without files, and the loops that `cuda.py` measures on them.

The weights are drawn on the device, so that 7 GB take seconds. They go through the manager like any others.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers import EulerDiscreteScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline
from torch import Tensor

from benchmarks.subjects.shapes import SCHEDULER, Shape
from contract.recipe import ModelRef, SizeConditioning
from engine.checkpoints.component import Component
from engine.device.card_evaluator import CardEvaluator
from engine.device.devices import Device
from engine.device.evaluations import Call, Outputs
from engine.families import builder_of, family_of
from engine.models.bundle import Bundle
from engine.models.loading import HostModel
from engine.models.manager import ModelManager, _cache_key
from engine.models.module_slot import build
from engine.sampling.denoise import Conditions, denoise
from engine.sampling.samplers import sampling_for
from engine.weights.weight_buffer import WeightBuffer
from tests.support.tiny import make_tokenizer

Loop = Callable[[], Tensor]
TOKENS = 77


def add_model(models: ModelManager, device: Device, shape: Shape, seed: int = 0) -> tuple[ModelRef, str]:
    """Put a model of random weights into the manager's memory."""
    family = family_of(shape.family)
    components = {name: Component(config, builder_of(family, name), tuple) for name, config in shape.parts.items()}
    layout = json.dumps(["checkpoint", shape.name, {name: dict(config) for name, config in shape.parts.items()}])
    slot = next((slot for slot in models._slots if slot.shape == layout), None)
    if slot is None:
        slot = build(layout, components, device)
        models._slots.append(slot)
    buffer = WeightBuffer.empty(slot.layout, pinned=device.pins_memory)
    chance = torch.Generator(device.torch_device).manual_seed(seed)
    for spec in slot.layout.specs:
        target = buffer.tensor(spec)
        if not spec.dtype.is_floating_point:
            target.copy_(torch.arange(target.numel()).view(spec.shape))
            continue
        value = torch.randn(spec.shape, generator=chance, device=device.torch_device)
        fan_in = torch.Size(spec.shape[1:]).numel()
        value = value * fan_in**-0.5 if len(spec.shape) > 1 else value * 0.02 + spec.name.endswith("weight")
        if spec.is_channels_last:
            value = value.contiguous(memory_format=torch.channels_last)
        target.copy_(value.to(spec.dtype))
    ref = ModelRef(name=f"{shape.name} {seed}", family=shape.family, fingerprint=f"{shape.name}-{seed}")
    path = f"/nowhere/{shape.name}-{seed}"
    tokenizers = (make_tokenizer(), make_tokenizer("!")) if shape.is_xl else (make_tokenizer(),)
    digests = dict.fromkeys(components, f"{shape.name}-{seed}")
    model = HostModel(ref, Path(path), layout, components, buffer, tokenizers, SCHEDULER, digests)
    models._keep(_cache_key(ref, path), model)
    return ref, path


@contextmanager
def leased(device: Device, shape: Shape) -> Iterator[Bundle]:
    """A model of random weights on the device, gone afterwards."""
    models = ModelManager(device, budget_bytes=2**40)
    with models.lease(*add_model(models, device, shape)) as bundle:
        yield bundle
    models.evict_all()


def conditions_of(bundle: Bundle, shape: Shape, jobs: int = 1) -> Conditions:
    """Guided prompt embeddings for so many jobs: random ones, (2 · jobs, tokens, width)."""
    device, dtype = bundle.device.torch_device, bundle.device.dtype
    chance = torch.Generator(device).manual_seed(1)
    width = shape.parts["unet"]["cross_attention_dim"]
    embeds = torch.randn(2 * jobs, TOKENS, width, generator=chance, device=device).to(dtype)
    added = None
    if shape.is_xl:
        pooled_width = shape.parts["text_encoder_2"]["projection_dim"]
        pooled = torch.randn(2 * jobs, pooled_width, generator=chance, device=device).to(dtype)
        added = family_of(shape.family).added(pooled, SizeConditioning().filled(shape.side, shape.side), False)
    return Conditions(embeds, is_guided=True, added=added)


def _noise(device: torch.device, side: int) -> Tensor:
    return torch.randn(1, 4, side // 8, side // 8, generator=torch.Generator().manual_seed(7)).to(device)


def our_loop(bundle: Bundle, shape: Shape, steps: int, evaluator: CardEvaluator | None = None) -> Loop:
    """`engine/sampling/denoise.py` as a job runs it; eager without an evaluator."""
    device = bundle.device

    def evaluate(component: str, call: Call, *inputs: Tensor) -> Outputs:
        module = bundle.onload(component)
        return call(module, *inputs) if evaluator is None else (evaluator(module, call, inputs),)

    predict = bundle.family.predict(bundle.onload, device.dtype, evaluate=evaluate)
    conditions, noise = conditions_of(bundle, shape), _noise(device.torch_device, shape.side)

    def run() -> Tensor:
        sampling = sampling_for("euler", "simple", steps, SCHEDULER, device.torch_device)
        *_, last = denoise(lambda _: predict, lambda _: conditions, sampling, noise, 7.0)
        return last.latents

    return run


def pipeline_loop(bundle: Bundle, shape: Shape, steps: int) -> Loop:
    """diffusers' own pipeline on the same modules, from prompt embeddings to latents: the peer of figures 19 to 21."""
    scheduler = EulerDiscreteScheduler(**SCHEDULER, timestep_spacing="trailing", steps_offset=1)
    parts: dict[str, Any] = {"unet": bundle.onload("unet"), "vae": bundle.onload("vae"), "scheduler": scheduler}
    if shape.is_xl:
        pipeline = StableDiffusionXLPipeline(
            **parts, text_encoder=None, text_encoder_2=None, tokenizer=None, tokenizer_2=None, add_watermarker=False
        )
    else:
        pipeline = StableDiffusionPipeline(
            **parts,
            text_encoder=None,
            tokenizer=None,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    pipeline.set_progress_bar_config(disable=True)
    conditions = conditions_of(bundle, shape)
    negative, positive = conditions.prompt_embeds.split(1)
    inputs: dict[str, Any] = {"prompt_embeds": positive, "negative_prompt_embeds": negative}
    if conditions.added is not None:
        pooled = conditions.added["text_embeds"].split(1)
        inputs |= {"negative_pooled_prompt_embeds": pooled[0], "pooled_prompt_embeds": pooled[1]}
    noise = _noise(bundle.device.torch_device, shape.side).to(bundle.device.dtype)

    def run() -> Tensor:
        made = pipeline(
            **inputs,
            latents=noise,
            height=shape.side,
            width=shape.side,
            num_inference_steps=steps,
            guidance_scale=7.0,
            output_type="latent",
        )
        latents: Tensor = made.images
        return latents

    return run
