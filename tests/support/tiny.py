"""Tiny real models with random weights, as diffusers folders: the real classes, a few kilobytes of numbers.

`build(kind, folder, seed)` for kind "sd1", "sd2" (v-prediction), "zero_snr" (SD 1.x shape) and "sdxl".
And what begins from a picture: "inpaint", "sdxl_inpaint", "edit", "sdxl_edit" and "depth" (of SD 2.x's shape), "sdxl_refiner".
Made offline, tokenizer included; the same seed gives the same bytes.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, UNet2DConditionModel
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    DPTConfig,
    DPTForDepthEstimation,
)

Kind = Literal[
    "sd1", "sd2", "zero_snr", "sdxl", "inpaint", "sdxl_inpaint", "edit", "depth", "sdxl_edit", "sdxl_refiner"
]
KINDS: tuple[Kind, ...] = ("sd1", "sd2", "zero_snr", "sdxl")
VARIANTS: tuple[Kind, ...] = ("inpaint", "sdxl_inpaint", "edit", "depth", "sdxl_edit", "sdxl_refiner")
_CHANNELS = {"inpaint": 9, "sdxl_inpaint": 9, "edit": 8, "sdxl_edit": 8, "depth": 5}
WORDS = ("cat", "dog", "sea", "sun", "red", "a", "of", "the", "at", "night")
_SD2, _XL = ("sd2", "depth"), ("sdxl", "sdxl_inpaint", "sdxl_edit")
_BETAS = {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def build(kind: Kind, folder: Path, seed: int = 0, *, side_file: dict[str, object] | None = None) -> Path:
    """Write a model folder and return it."""
    state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    width = 1024 if kind in _SD2 else 32  # the width of SD 2.x is how it is told from 1.x
    parts: dict[str, torch.nn.Module] = {"vae": _vae()}
    if kind in _XL:
        parts["text_encoder"] = CLIPTextModel(_text_config(16, layers=3))
        parts["text_encoder_2"] = CLIPTextModelWithProjection(_text_config(16, layers=3))
        parts["unet"] = _unet(
            32,
            _CHANNELS.get(kind, 4),
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=16 + 6 * 8,
        )
    elif kind == "sdxl_refiner":
        parts["text_encoder_2"] = CLIPTextModelWithProjection(_text_config(16, layers=3))
        parts["unet"] = _unet(
            16,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=16 + 5 * 8,
        )
    else:
        parts["text_encoder"] = CLIPTextModel(_text_config(width, layers=1 if kind in _SD2 else 3))
        parts["unet"] = _unet(width, _CHANNELS.get(kind, 4))
    if kind == "depth":
        parts["depth_estimator"] = DPTForDepthEstimation(_depth_config())
    for name, module in parts.items():
        module.save_pretrained(folder / name, safe_serialization=True)
    torch.random.set_rng_state(state)
    if kind != "sdxl_refiner":
        make_tokenizer("<|endoftext|>" if kind not in _SD2 else "!").save_pretrained(folder / "tokenizer")
    if kind in (*_XL, "sdxl_refiner"):
        make_tokenizer("!").save_pretrained(folder / "tokenizer_2")
    predicts = "epsilon" if kind not in ("sd2", "zero_snr") else "v_prediction"
    EulerDiscreteScheduler(
        **_BETAS,
        prediction_type=predicts,
        steps_offset=1,
        timestep_spacing="leading",
        rescale_betas_zero_snr=kind == "zero_snr",
    ).save_pretrained(folder / "scheduler")
    _write_json(folder / "model_index.json", _index(kind))
    if side_file is not None:
        _write_json(folder / "darkroom.json", side_file)
    return folder


def _unet(cross: int, channels: int = 4, **more: object) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=channels,
        block_out_channels=(16, 32),
        layers_per_block=1,
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=2,
        cross_attention_dim=cross,
        **more,
    )


def _vae() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8, 8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
        norm_num_groups=2,
        layers_per_block=1,
        scaling_factor=0.18215,
        force_upcast=False,
    )


def _depth_config() -> DPTConfig:
    return DPTConfig(
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=16,
        patch_size=96,
        image_size=384,
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8,
        reassemble_factors=[4, 2, 1, 0.5],
        is_hybrid=False,
    )


def _text_config(width: int, layers: int, projection: int = 16) -> CLIPTextConfig:
    ids = make_vocabulary()
    return CLIPTextConfig(
        vocab_size=len(ids),
        hidden_size=width,
        intermediate_size=32,
        num_hidden_layers=layers,
        num_attention_heads=2,
        max_position_embeddings=77,
        projection_dim=projection,
        bos_token_id=ids["<|startoftext|>"],
        eos_token_id=ids["<|endoftext|>"],
        pad_token_id=ids["<|endoftext|>"],
    )


def _alphabet() -> Iterator[str]:
    """The 256 characters that byte-level BPE gives to bytes."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    yield from (chr(byte) for byte in plain)
    yield from (chr(256 + n) for n in range(256 - len(plain)))


def _merges() -> list[tuple[str, str]]:
    merges = []
    for word in WORDS:
        symbols = [*word[:-1], f"{word[-1]}</w>"]
        while len(symbols) > 1:
            pair = (symbols[0], symbols[1])
            if pair not in merges:
                merges.append(pair)
            symbols[:2] = ["".join(pair)]
    return merges


def make_vocabulary() -> dict[str, int]:
    """Symbols to ids; "!" is 0, as in CLIP."""
    letters = list(_alphabet())
    names = [
        *letters,
        *(f"{letter}</w>" for letter in letters),
        *("".join(pair) for pair in _merges()),
        "<|startoftext|>",
        "<|endoftext|>",
    ]
    return {name: number for number, name in enumerate(dict.fromkeys(names))}


def make_tokenizer(pad_token: str = "<|endoftext|>") -> CLIPTokenizer:
    """A CLIP tokenizer whose WORDS are one token each; other words fall into letters."""
    return CLIPTokenizer(vocab=make_vocabulary(), merges=_merges(), pad_token=pad_token, model_max_length=77)


def _index(kind: Kind) -> dict[str, object]:
    xl = "XL" if kind in _XL else ""
    index: dict[str, object] = {
        "_class_name": f"StableDiffusion{xl}Pipeline",
        "_diffusers_version": "0.42.1",
        "feature_extractor": [None, None],
        "image_encoder": [None, None],
        "scheduler": ["diffusers", "EulerDiscreteScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    if kind == "sdxl_refiner":
        return {
            **index,
            "_class_name": "StableDiffusionXLImg2ImgPipeline",
            "text_encoder": [None, None],
            "tokenizer": [None, None],
            "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
            "tokenizer_2": ["transformers", "CLIPTokenizer"],
            "force_zeros_for_empty_prompt": False,
            "requires_aesthetics_score": True,
        }
    if kind in _XL:
        return {
            **index,
            "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
            "tokenizer_2": ["transformers", "CLIPTokenizer"],
            "force_zeros_for_empty_prompt": True,
        }
    return {**index, "requires_safety_checker": False, "safety_checker": [None, None]}


def _write_json(path: Path, data: dict[str, object]) -> None:
    path.write_text(json.dumps(data, indent=1), "utf-8")
