"""Names and shapes of full-size models, made by rule: what the headers of real files hold, without their weights.

Layouts of the first programs (LDM, SGM), diffusers, OpenAI's and LAION's text encoders, SD 3, Flux; and of LoRAs in
the forms that people train. Counts of tensors are those of the published files (test_sniff.py).
"""

import json
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path

from catalog.files.headers import TensorInfo

Shapes = dict[str, tuple[int, ...]]
_BYTES = {"F16": 2, "F32": 4, "BF16": 2, "F8_E4M3": 1, "I64": 8}


def below(prefix: str, shapes: Shapes) -> Shapes:
    return {prefix + name: shape for name, shape in shapes.items()}


def layer(name: str, out: int, taken: int, *kernel: int, bias: bool = True) -> Shapes:
    return {f"{name}.weight": (out, taken, *kernel), **({f"{name}.bias": (out,)} if bias else {})}


def norm(name: str, channels: int) -> Shapes:
    return {f"{name}.weight": (channels,), f"{name}.bias": (channels,)}


def tensors(shapes: Mapping[str, tuple[int, ...]], dtype: str = "F16") -> dict[str, TensorInfo]:
    """As catalog.files.headers reads them."""
    found, end = {}, 0
    for name, shape in shapes.items():
        size = _BYTES[dtype]
        for side in shape:
            size *= side
        found[name] = TensorInfo(dtype, shape, end, end + size)
        end += size
    return found


def write(
    path: Path, shapes: Mapping[str, tuple[int, ...]], metadata: Mapping[str, str] | None = None, dtype: str = "F16"
) -> Path:
    """A file with this header and a hole for its weights, which takes no room on the disk."""
    table: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name, info in tensors(shapes, dtype).items():
        table[name] = {"dtype": dtype, "shape": list(info.shape), "data_offsets": [info.begin, info.end]}
        end = info.end
    raw = json.dumps(table).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(raw)) + raw)
        file.truncate(8 + len(raw) + end)
    return path


# U-Nets


def _residual(name: str, taken: int, out: int, time: int) -> Shapes:
    shapes = {
        **norm(f"{name}.in_layers.0", taken),
        **layer(f"{name}.in_layers.2", out, taken, 3, 3),
        **layer(f"{name}.emb_layers.1", out, time),
        **norm(f"{name}.out_layers.0", out),
        **layer(f"{name}.out_layers.3", out, out, 3, 3),
    }
    return shapes if taken == out else {**shapes, **layer(f"{name}.skip_connection", out, taken, 1, 1)}


def _transformer_layers(name: str, size: int, width: int, depth: int, is_linear: bool) -> Shapes:
    kernel = () if is_linear else (1, 1)
    shapes = {
        **norm(f"{name}.norm", size),
        **layer(f"{name}.proj_in", size, size, *kernel),
        **layer(f"{name}.proj_out", size, size, *kernel),
    }
    for number in range(depth):
        block = f"{name}.transformer_blocks.{number}"
        for attention, taken in (("attn1", size), ("attn2", width)):
            shapes |= layer(f"{block}.{attention}.to_q", size, size, bias=False)
            shapes |= layer(f"{block}.{attention}.to_k", size, taken, bias=False)
            shapes |= layer(f"{block}.{attention}.to_v", size, taken, bias=False)
            shapes |= layer(f"{block}.{attention}.to_out.0", size, size)
        shapes |= layer(f"{block}.ff.net.0.proj", 8 * size, size) | layer(f"{block}.ff.net.2", size, 4 * size)
        for place in ("norm1", "norm2", "norm3"):
            shapes |= norm(f"{block}.{place}", size)
    return shapes


def ldm_unet(
    channels: int = 4,
    *,
    base: int = 320,
    factors: tuple[int, ...] = (1, 2, 4, 4),
    depths: tuple[int, ...] = (1, 1, 1, 0),
    middle: int = 1,
    width: int = 768,
    is_linear: bool = False,
    labels: int = 0,
    is_control: bool = False,
) -> Shapes:
    """A U-Net with the first programs' names, or the half of it that a ControlNet is."""
    time = 4 * base
    shapes = layer("time_embed.0", time, base) | layer("time_embed.2", time, time)
    if labels:
        shapes |= layer("label_emb.0.0", time, labels) | layer("label_emb.0.2", time, time)
    shapes |= layer("input_blocks.0.0", base, channels, 3, 3)
    sizes, now, place = [base], base, 0
    for level, (factor, depth) in enumerate(zip(factors, depths, strict=True)):
        for _ in range(2):
            place += 1
            shapes |= _residual(f"input_blocks.{place}.0", now, base * factor, time)
            now = base * factor
            if depth:
                shapes |= _transformer_layers(f"input_blocks.{place}.1", now, width, depth, is_linear)
            sizes.append(now)
        if level < len(factors) - 1:
            place += 1
            shapes |= layer(f"input_blocks.{place}.0.op", now, now, 3, 3)
            sizes.append(now)
    for number, kind in enumerate(("residual", "attention", "residual")):
        shapes |= (
            _residual(f"middle_block.{number}", now, now, time)
            if kind == "residual"
            else _transformer_layers(f"middle_block.{number}", now, width, middle, is_linear)
        )
    if is_control:
        return shapes | _control_layers(sizes, now)
    place = -1
    for level in reversed(range(len(factors))):
        for number in range(3):
            place += 1
            shapes |= _residual(f"output_blocks.{place}.0", now + sizes.pop(), base * factors[level], time)
            now = base * factors[level]
            if depths[level]:
                shapes |= _transformer_layers(f"output_blocks.{place}.1", now, width, depths[level], is_linear)
            if level and number == 2:
                shapes |= layer(f"output_blocks.{place}.{2 if depths[level] else 1}.conv", now, now, 3, 3)
    return shapes | norm("out.0", base) | layer("out.2", 4, base, 3, 3)


def _control_layers(sizes: Iterable[int], last: int) -> Shapes:
    shapes: Shapes = {}
    hints = (16, 16, 32, 32, 96, 96, 256, 320)
    for number, (taken, out) in enumerate(zip((3, *hints), hints, strict=False)):
        shapes |= layer(f"input_hint_block.{2 * number}", out, taken, 3, 3)
    for number, size in enumerate(sizes):
        shapes |= layer(f"zero_convs.{number}.0", size, size, 1, 1)
    return shapes | layer("middle_block_out.0", last, last, 1, 1)


SD1 = {"width": 768}
SD2 = {"width": 1024, "is_linear": True}
SDXL = {"width": 2048, "is_linear": True, "factors": (1, 2, 4), "depths": (0, 2, 10), "middle": 10, "labels": 2816}
REFINER = {"width": 1280, "is_linear": True, "base": 384, "depths": (0, 4, 4, 0), "middle": 4, "labels": 2560}


# VAEs and text encoders


def _vae_block(name: str, taken: int, out: int) -> Shapes:
    shapes = {
        **norm(f"{name}.norm1", taken),
        **layer(f"{name}.conv1", out, taken, 3, 3),
        **norm(f"{name}.norm2", out),
        **layer(f"{name}.conv2", out, out, 3, 3),
    }
    return shapes if taken == out else shapes | layer(f"{name}.nin_shortcut", out, taken, 1, 1)


def _vae_middle(name: str, size: int) -> Shapes:
    shapes = _vae_block(f"{name}.mid.block_1", size, size) | _vae_block(f"{name}.mid.block_2", size, size)
    shapes |= norm(f"{name}.mid.attn_1.norm", size)
    for part in ("q", "k", "v", "proj_out"):
        shapes |= layer(f"{name}.mid.attn_1.{part}", size, size, 1, 1)
    return shapes


def ldm_vae(channels: int = 4, has_quant: bool = True) -> Shapes:
    """The autoencoder with the first programs' names."""
    sizes = (128, 256, 512, 512)
    shapes = layer("encoder.conv_in", 128, 3, 3, 3) | layer("decoder.conv_in", 512, channels, 3, 3)
    now = 128
    for level, size in enumerate(sizes):
        for number in range(2):
            shapes |= _vae_block(f"encoder.down.{level}.block.{number}", now, size)
            now = size
        if level < 3:
            shapes |= layer(f"encoder.down.{level}.downsample.conv", now, now, 3, 3)
    shapes |= _vae_middle("encoder", 512) | norm("encoder.norm_out", 512)
    shapes |= layer("encoder.conv_out", 2 * channels, 512, 3, 3) | _vae_middle("decoder", 512)
    for level in reversed(range(4)):
        for number in range(3):
            shapes |= _vae_block(f"decoder.up.{level}.block.{number}", now, sizes[level])
            now = sizes[level]
        if level:
            shapes |= layer(f"decoder.up.{level}.upsample.conv", now, now, 3, 3)
    shapes |= norm("decoder.norm_out", 128) | layer("decoder.conv_out", 3, 128, 3, 3)
    if has_quant:
        shapes |= layer("quant_conv", 2 * channels, 2 * channels, 1, 1) | layer(
            "post_quant_conv", channels, channels, 1, 1
        )
    return shapes


def clip_text(width: int = 768, layers: int = 12) -> Shapes:
    """OpenAI's, with transformers' names."""
    shapes: Shapes = {
        "embeddings.position_ids": (1, 77),
        "embeddings.token_embedding.weight": (49408, width),
        "embeddings.position_embedding.weight": (77, width),
    }
    for number in range(layers):
        place = f"encoder.layers.{number}"
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            shapes |= layer(f"{place}.self_attn.{part}", width, width)
        shapes |= layer(f"{place}.mlp.fc1", 4 * width, width) | layer(f"{place}.mlp.fc2", width, 4 * width)
        shapes |= norm(f"{place}.layer_norm1", width) | norm(f"{place}.layer_norm2", width)
    return below("text_model.", shapes | norm("final_layer_norm", width))


def open_clip_text(width: int = 1024, layers: int = 24) -> Shapes:
    """LAION's, with its own names."""
    shapes: Shapes = {
        "positional_embedding": (77, width),
        "text_projection": (width, width),
        "logit_scale": (),
        "token_embedding.weight": (49408, width),
    }
    for number in range(layers):
        place = f"transformer.resblocks.{number}"
        shapes |= {f"{place}.attn.in_proj_weight": (3 * width, width), f"{place}.attn.in_proj_bias": (3 * width,)}
        shapes |= layer(f"{place}.attn.out_proj", width, width) | norm(f"{place}.ln_1", width)
        shapes |= norm(f"{place}.ln_2", width) | layer(f"{place}.mlp.c_fc", 4 * width, width)
        shapes |= layer(f"{place}.mlp.c_proj", width, 4 * width)
    return shapes | norm("ln_final", width)


# Whole checkpoints


def checkpoint(family: str, channels: int = 4, *, has_vae: bool = True, has_text: bool = True) -> Shapes:
    """A single file as it is published."""
    unet = {"sd1": SD1, "sd2": SD2, "sdxl": SDXL, "sdxl_refiner": REFINER}[family]
    shapes = below("model.diffusion_model.", ldm_unet(channels, **unet))  # type: ignore[arg-type]
    if has_vae:
        shapes |= below("first_stage_model.", ldm_vae())
    if not has_text:
        return shapes
    if family == "sd1":
        return shapes | below("cond_stage_model.transformer.", clip_text())
    if family == "sd2":
        return shapes | below("cond_stage_model.model.", open_clip_text())
    big = open_clip_text(1280, 32)
    if family == "sdxl_refiner":
        return shapes | below("conditioner.embedders.0.model.", big)
    return (
        shapes
        | below("conditioner.embedders.0.transformer.", clip_text())
        | below("conditioner.embedders.1.model.", big)
    )


def sd3_transformer(
    blocks: int = 24, size: int = 1536, *, places: int = 192, is_35: bool = False, dual: int = 0
) -> Shapes:
    """places: On each side of the table of positions; dual: blocks with a second attention (13 of 3.5 medium)."""
    shapes: Shapes = {
        "pos_embed": (1, places**2, size),
        **layer("x_embedder.proj", size, 16, 2, 2),
        **layer("context_embedder", size, 4096),
        **layer("t_embedder.mlp.0", size, 256),
        **layer("t_embedder.mlp.2", size, size),
        **layer("y_embedder.mlp.0", size, 2048),
        **layer("y_embedder.mlp.2", size, size),
        **layer("final_layer.linear", 64, size),
        **layer("final_layer.adaLN_modulation.1", 2 * size, size),
    }
    for number in range(blocks):
        for part in ("context_block", "x_block"):
            place = f"joint_blocks.{number}.{part}"
            numbers = 9 if part == "x_block" and number < dual else 6
            if part == "context_block" and number == blocks - 1:
                numbers = 2
            shapes |= layer(f"{place}.adaLN_modulation.1", numbers * size, size)
            shapes |= layer(f"{place}.attn.qkv", 3 * size, size)
            if is_35:
                shapes |= {f"{place}.attn.ln_q.weight": (64,), f"{place}.attn.ln_k.weight": (64,)}
            if number < blocks - 1 or part == "x_block":
                shapes |= layer(f"{place}.attn.proj", size, size) | layer(f"{place}.mlp.fc1", 4 * size, size)
                shapes |= layer(f"{place}.mlp.fc2", size, 4 * size)
        if number < dual:
            place = f"joint_blocks.{number}.x_block.attn2"
            shapes |= layer(f"{place}.qkv", 3 * size, size) | layer(f"{place}.proj", size, size)
            shapes |= {f"{place}.ln_q.weight": (64,), f"{place}.ln_k.weight": (64,)}
    return shapes


SD3: Mapping[str, Mapping[str, object]] = {
    "SD 3": {},
    "SD 3.5 medium": {"is_35": True, "dual": 13, "places": 384},
    "SD 3.5 large": {"blocks": 38, "size": 2432, "is_35": True},
}


def flux_transformer(*, has_guidance: bool = True) -> Shapes:
    size = 3072
    shapes = {
        **layer("img_in", size, 64),
        **layer("txt_in", size, 4096),
        **layer("time_in.in_layer", size, 256),
        **layer("vector_in.in_layer", size, 768),
        **layer("final_layer.linear", 64, size),
    }
    if has_guidance:
        shapes |= layer("guidance_in.in_layer", size, 256)
    for number in range(19):
        for part in ("img", "txt"):
            place = f"double_blocks.{number}.{part}"
            shapes |= layer(f"{place}_attn.qkv", 3 * size, size) | layer(f"{place}_attn.proj", size, size)
            shapes |= {f"{place}_attn.norm.key_norm.scale": (128,), f"{place}_attn.norm.query_norm.scale": (128,)}
            shapes |= layer(f"{place}_mlp.0", 4 * size, size) | layer(f"{place}_mlp.2", size, 4 * size)
            shapes |= layer(f"{place}_mod.lin", 6 * size, size)
    for number in range(38):
        place = f"single_blocks.{number}"
        shapes |= layer(f"{place}.linear1", 7 * size, size) | layer(f"{place}.linear2", size, 5 * size)
        shapes |= layer(f"{place}.modulation.lin", 3 * size, size)
    return shapes
