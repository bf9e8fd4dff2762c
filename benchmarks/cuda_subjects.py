"""Models of random weights in memory, without files, and the loops that `cuda.py` measures on them.

The weights are drawn on the device, so that 7 GB take seconds. They go through the manager like any others.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from diffusers import EulerDiscreteScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline
from torch import Tensor

from catalog.families import sd1, sdxl
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

Config = Mapping[str, Any]
Loop = Callable[[], Tensor]
TOKENS = 77
_SCHEDULER = MappingProxyType(
    {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
)


@dataclass(frozen=True, slots=True)
class Kind:
    """A model's form.

    Attributes:
        parts: The configuration of each component.
        side: Pixels, of its figures.
        sides: Of its batch curve.
    """

    name: str
    family: str
    parts: Mapping[str, Config]
    side: int
    sides: tuple[int, ...]

    @property
    def is_xl(self) -> bool:
        return "text_encoder_2" in self.parts


def _text(width: int, layers: int, heads: int) -> Config:
    sizes = {"hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": layers}
    return {**sizes, "num_attention_heads": heads, "projection_dim": width}


def _vae(widths: tuple[int, ...], layers: int) -> Config:
    count, groups = len(widths), min(32, widths[0])
    kinds = {"down_block_types": ("DownEncoderBlock2D",) * count, "up_block_types": ("UpDecoderBlock2D",) * count}
    sizes = {"block_out_channels": widths, "layers_per_block": layers, "norm_num_groups": groups}
    return {**kinds, **sizes, "latent_channels": 4, "force_upcast": False}


_XL_UNET = MappingProxyType(
    {
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "addition_embed_type": "text_time",
        "use_linear_projection": True,
    }
)
SD15 = Kind(
    "SD 1.5",
    sd1.FAMILY.id,
    {
        "unet": {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8},
        "vae": _vae((128, 256, 512, 512), 2),
        "text_encoder": _text(768, 12, 12),
    },
    512,
    (512, 768, 1024),
)
SDXL = Kind(
    "SDXL",
    sdxl.FAMILY.id,
    {
        "unet": {
            **_XL_UNET,
            "sample_size": 128,
            "block_out_channels": (320, 640, 1280),
            "transformer_layers_per_block": (1, 2, 10),
            "attention_head_dim": (5, 10, 20),
            "cross_attention_dim": 2048,
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": 1280 + 6 * 256,
        },
        "vae": _vae((128, 256, 512, 512), 2),
        "text_encoder": _text(768, 12, 12),
        "text_encoder_2": _text(1280, 32, 20),
    },
    1024,
    (512, 768, 1024),
)
# Of the same make, for `--dry-run`: one step takes milliseconds on a CPU.
TINY = Kind(
    "tiny",
    sd1.FAMILY.id,
    {
        "unet": {
            "sample_size": 8,
            "block_out_channels": (16, 32),
            "layers_per_block": 1,
            "norm_num_groups": 4,
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
            "attention_head_dim": 2,
            "cross_attention_dim": 32,
        },
        "vae": _vae((8, 8, 8, 8), 1),
        "text_encoder": _text(32, 2, 2),
    },
    64,
    (64, 128),
)
TINY_XL = Kind(
    "tiny XL",
    sdxl.FAMILY.id,
    {
        "unet": {
            **_XL_UNET,
            "sample_size": 8,
            "block_out_channels": (16, 16, 32),
            "layers_per_block": 1,
            "norm_num_groups": 4,
            "transformer_layers_per_block": (1, 1, 1),
            "attention_head_dim": 2,
            "cross_attention_dim": 64,
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 32 + 6 * 8,
        },
        "vae": _vae((8, 8, 8, 8), 1),
        "text_encoder": _text(32, 2, 2),
        "text_encoder_2": _text(32, 2, 2),
    },
    64,
    (64,),
)


def add_model(models: ModelManager, device: Device, kind: Kind, seed: int = 0) -> tuple[ModelRef, str]:
    """Put a model of random weights into the manager's memory."""
    family = family_of(kind.family)
    components = {name: Component(config, builder_of(family, name), tuple) for name, config in kind.parts.items()}
    shape = json.dumps(["checkpoint", kind.name, {name: dict(config) for name, config in kind.parts.items()}])
    slot = next((slot for slot in models._slots if slot.shape == shape), None)
    if slot is None:
        slot = build(shape, components, device)
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
    ref = ModelRef(name=f"{kind.name} {seed}", family=kind.family, fingerprint=f"{kind.name}-{seed}")
    path = f"/nowhere/{kind.name}-{seed}"
    tokenizers = (make_tokenizer(), make_tokenizer("!")) if kind.is_xl else (make_tokenizer(),)
    digests = dict.fromkeys(components, f"{kind.name}-{seed}")
    model = HostModel(ref, Path(path), shape, components, buffer, tokenizers, _SCHEDULER, digests)
    models._keep(_cache_key(ref, path), model)
    return ref, path


@contextmanager
def leased(device: Device, kind: Kind) -> Iterator[Bundle]:
    """A model of random weights on the device, gone afterwards."""
    models = ModelManager(device, budget_bytes=2**40)
    with models.lease(*add_model(models, device, kind)) as bundle:
        yield bundle
    models.evict_all()


def conditions_of(bundle: Bundle, kind: Kind, jobs: int = 1) -> Conditions:
    """Guided prompt embeddings for so many jobs: random ones, (2 · jobs, tokens, width)."""
    device, dtype = bundle.device.torch_device, bundle.device.dtype
    chance = torch.Generator(device).manual_seed(1)
    width = kind.parts["unet"]["cross_attention_dim"]
    embeds = torch.randn(2 * jobs, TOKENS, width, generator=chance, device=device).to(dtype)
    added = None
    if kind.is_xl:
        pooled_width = kind.parts["text_encoder_2"]["projection_dim"]
        pooled = torch.randn(2 * jobs, pooled_width, generator=chance, device=device).to(dtype)
        added = family_of(kind.family).added(pooled, SizeConditioning().filled(kind.side, kind.side), False)
    return Conditions(embeds, is_guided=True, added=added)


def _noise(device: torch.device, side: int) -> Tensor:
    return torch.randn(1, 4, side // 8, side // 8, generator=torch.Generator().manual_seed(7)).to(device)


def our_loop(bundle: Bundle, kind: Kind, steps: int, evaluator: CardEvaluator | None = None) -> Loop:
    """`engine/sampling/denoise.py` as a job runs it; eager without an evaluator."""
    device = bundle.device

    def evaluate(component: str, call: Call, *inputs: Tensor) -> Outputs:
        module = bundle.onload(component)
        return call(module, *inputs) if evaluator is None else (evaluator(module, call, inputs),)

    predict = bundle.family.predict(bundle.onload, device.dtype, evaluate=evaluate)
    conditions, noise = conditions_of(bundle, kind), _noise(device.torch_device, kind.side)

    def run() -> Tensor:
        sampling = sampling_for("euler", "simple", steps, _SCHEDULER, device.torch_device)
        *_, last = denoise(lambda _: predict, lambda _: conditions, sampling, noise, 7.0)
        return last.latents

    return run


def pipeline_loop(bundle: Bundle, kind: Kind, steps: int) -> Loop:
    """diffusers' own pipeline on the same modules, from prompt embeddings to latents: the peer of figures 19 to 21."""
    scheduler = EulerDiscreteScheduler(**_SCHEDULER, timestep_spacing="trailing", steps_offset=1)
    parts: dict[str, Any] = {"unet": bundle.onload("unet"), "vae": bundle.onload("vae"), "scheduler": scheduler}
    if kind.is_xl:
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
    conditions = conditions_of(bundle, kind)
    negative, positive = conditions.prompt_embeds.split(1)
    inputs: dict[str, Any] = {"prompt_embeds": positive, "negative_prompt_embeds": negative}
    if conditions.added is not None:
        pooled = conditions.added["text_embeds"].split(1)
        inputs |= {"negative_pooled_prompt_embeds": pooled[0], "pooled_prompt_embeds": pooled[1]}
    noise = _noise(bundle.device.torch_device, kind.side).to(bundle.device.dtype)

    def run() -> Tensor:
        made = pipeline(
            **inputs,
            latents=noise,
            height=kind.side,
            width=kind.side,
            num_inference_steps=steps,
            guidance_scale=7.0,
            output_type="latent",
        )
        latents: Tensor = made.images
        return latents

    return run
