"""Tiny real ControlNets and adapters with random weights, made for the models of `tiny.py`.

`build_controlnet("sd1", folder)` for "sd1", "sd2" and "sdxl"; `build_union`, of SDXL; `build_adapter`, for all;
`build_ip_adapter` for a given U-Net: a file, its encoder beside it. The same seed gives the same bytes.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from diffusers import ControlNetModel, ControlNetUnionModel, T2IAdapter
from safetensors.torch import save_file
from torch import nn
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

_BLOCKS = {
    "block_out_channels": (16, 32),
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "attention_head_dim": 2,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "conditioning_embedding_out_channels": (4, 8, 8, 8),
}
_XL = {
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 16 + 6 * 8,
}
FACE_VECTOR = 512
_PICTURE_WIDTH, _HIDDEN_WIDTH = 24, 16  # what the image encoder gives: of a picture, of its patches


@contextmanager
def _chance(seed: int) -> Iterator[None]:
    state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    try:
        yield
    finally:
        torch.random.set_rng_state(state)


def build_controlnet(kind: str, folder: Path, seed: int = 10, **more: object) -> Path:
    """A ControlNet folder."""
    with _chance(seed):
        net = ControlNetModel(**{"cross_attention_dim": _width(kind), **_BLOCKS, **_xl(kind), **more})
        _save(net, folder)
    return folder


def build_union(folder: Path, seed: int = 20, types: int = 6) -> Path:
    """A union ControlNet folder, of as many types."""
    with _chance(seed):
        net = ControlNetUnionModel(
            cross_attention_dim=_width("sdxl"),
            num_control_type=types,
            num_trans_channel=16,
            num_trans_head=2,
            num_proj_channel=16,
            **_BLOCKS,
            **_XL,
        )
        _save(net, folder)
    return folder


def build_adapter(folder: Path, seed: int = 30, **more: object) -> Path:
    """A T2I-Adapter folder: SDXL's form is the one that fits the tiny U-Nets, of every family."""
    with _chance(seed):
        _save(
            T2IAdapter(
                **{
                    "channels": (16, 32),
                    "num_res_blocks": 1,
                    "adapter_type": "full_adapter_xl",
                    "downscale_factor": 16,
                    **more,
                }
            ),
            folder,
        )
    return folder


def build_ip_adapter(
    unet: nn.Module, file: Path, seed: int = 40, kind: str = "plain", *, with_encoder: bool = True
) -> Path:
    """An IP-Adapter file for a U-Net, and a folder image_encoder beside it.

    kind: plain, plus, full face, faceid, faceid plus.
    """
    with _chance(seed):
        width = unet.config.cross_attention_dim
        made = _PROJECTIONS[kind](width)
        tensors = {f"image_proj.{name}": tensor for name, tensor in made.items()}
        layers = [module for name, module in unet.named_modules() if name.endswith("attn2.to_k")]
        for number, layer in enumerate(layers):
            for part in ("to_k_ip", "to_v_ip"):
                tensors[f"ip_adapter.{2 * number + 1}.{part}.weight"] = torch.randn_like(layer.weight) * 0.5
        if kind.startswith("faceid"):
            tensors |= _lora_inside(unet)
        file.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, file)
        if with_encoder:
            _encoder().save_pretrained(file.parent / "image_encoder", safe_serialization=True)
    return file


def _plain_projection(width: int, tokens: int = 4) -> dict[str, torch.Tensor]:
    return {
        "proj.weight": torch.randn(tokens * width, _PICTURE_WIDTH) * 0.3,
        "proj.bias": torch.randn(tokens * width),
        "norm.weight": torch.ones(width),
        "norm.bias": torch.zeros(width),
    }


def _plus_projection(width: int, tokens: int = 6) -> dict[str, torch.Tensor]:
    return {"latents": torch.randn(1, tokens, 16), **_resampler(width, 16)}


def _resampler(width: int, hidden: int, depth: int = 4) -> dict[str, torch.Tensor]:
    """By the names of its authors' program."""
    inner = 64
    tensors = {
        "proj_in.weight": torch.randn(hidden, _HIDDEN_WIDTH) * 0.3,
        "proj_in.bias": torch.randn(hidden),
        "proj_out.weight": torch.randn(width, hidden) * 0.3,
        "proj_out.bias": torch.randn(width),
        "norm_out.weight": 1 + 0.1 * torch.randn(width),
        "norm_out.bias": torch.randn(width),
    }
    for number in range(depth):
        attention, forward = f"layers.{number}.0", f"layers.{number}.1"
        for norm in (f"{attention}.norm1", f"{attention}.norm2", f"{forward}.0"):
            tensors |= {f"{norm}.weight": 1 + 0.1 * torch.randn(hidden), f"{norm}.bias": 0.1 * torch.randn(hidden)}
        tensors |= {
            f"{attention}.to_q.weight": torch.randn(inner, hidden) * 0.3,
            f"{attention}.to_kv.weight": torch.randn(2 * inner, hidden) * 0.3,
            f"{attention}.to_out.weight": torch.randn(hidden, inner) * 0.3,
            f"{forward}.1.weight": torch.randn(4 * hidden, hidden) * 0.3,
            f"{forward}.3.weight": torch.randn(hidden, 4 * hidden) * 0.3,
        }
    return tensors


def _face_projection(width: int, tokens: int = 4) -> dict[str, torch.Tensor]:
    return {
        "proj.0.weight": torch.randn(2 * FACE_VECTOR, FACE_VECTOR) * 0.3,
        "proj.0.bias": torch.randn(2 * FACE_VECTOR),
        "proj.2.weight": torch.randn(tokens * width, 2 * FACE_VECTOR) * 0.1,
        "proj.2.bias": torch.randn(tokens * width),
        "norm.weight": 1 + 0.1 * torch.randn(width),
        "norm.bias": torch.randn(width),
    }


def _face_plus_projection(width: int) -> dict[str, torch.Tensor]:
    inside = {f"perceiver_resampler.{name}": tensor for name, tensor in _resampler(width, width).items()}
    return {**_face_projection(width), **inside}


def _lora_inside(unet: nn.Module, rank: int = 2) -> dict[str, torch.Tensor]:
    """Of all attentions, by their number."""
    tensors = {}
    for number, name in enumerate(unet.attn_processors):
        attention = unet.get_submodule(name.removesuffix(".processor"))
        for role, layer in (
            ("to_q", attention.to_q),
            ("to_k", attention.to_k),
            ("to_v", attention.to_v),
            ("to_out", attention.to_out[0]),
        ):
            made, taken = layer.weight.shape
            tensors[f"ip_adapter.{number}.{role}_lora.down.weight"] = torch.randn(rank, taken) * 0.2
            tensors[f"ip_adapter.{number}.{role}_lora.up.weight"] = torch.randn(made, rank) * 0.2
    return tensors


def _full_projection(width: int) -> dict[str, torch.Tensor]:
    return {
        "proj.0.weight": torch.randn(_HIDDEN_WIDTH, _HIDDEN_WIDTH) * 0.3,
        "proj.0.bias": torch.randn(_HIDDEN_WIDTH),
        "proj.2.weight": torch.randn(width, _HIDDEN_WIDTH) * 0.3,
        "proj.2.bias": torch.randn(width),
        "proj.3.weight": 1 + 0.1 * torch.randn(width),
        "proj.3.bias": torch.randn(width),
    }


_PROJECTIONS = {
    "plain": _plain_projection,
    "plus": _plus_projection,
    "full face": _full_projection,
    "faceid": _face_projection,
    "faceid plus": _face_plus_projection,
}


def _encoder() -> nn.Module:
    return CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=_HIDDEN_WIDTH,
            intermediate_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=32,
            patch_size=16,
            projection_dim=_PICTURE_WIDTH,
        )
    )


def _save(net: nn.Module, folder: Path) -> None:
    """ControlNets begin as zeros; these say something."""
    for weight in net.parameters():
        if not weight.detach().any():
            nn.init.normal_(weight, std=0.2)
    net.save_pretrained(folder, safe_serialization=True)
    assert json.loads((folder / "config.json").read_text())["_class_name"] == type(net).__name__


def _width(kind: str) -> int:
    return 1024 if kind == "sd2" else 32


def _xl(kind: str) -> dict[str, object]:
    return dict(_XL) if kind == "sdxl" else {}


def build_controlnet_file(folder: Path, file: Path, *, is_diffusers: bool = False) -> Path:
    """The weights of a ControlNet folder as one file, with diffusers' names or those of the first programs."""
    net = ControlNetModel.from_pretrained(str(folder))
    file.parent.mkdir(parents=True, exist_ok=True)
    rename = str if is_diffusers else _first_name
    save_file({rename(name): tensor.clone() for name, tensor in net.state_dict().items()}, file)
    return file


def build_control_lora(unet: nn.Module, file: Path, seed: int = 60, rank: int = 2) -> Path:
    """A Control-LoRA for a tiny U-Net: matrices as up and down, vectors and new layers whole."""
    with _chance(seed):
        net = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(4, 8, 8, 8))
        tensors = {"lora_controlnet": torch.zeros(0)}
        for name, tensor in net.state_dict().items():
            module, _, leaf = first_name(name).rpartition(".")
            is_new = name.startswith("controlnet_")
            if is_new or tensor.dim() == 1:
                tensors[f"{module}.{leaf}"] = torch.randn_like(tensor) * (0.2 if is_new else 0.05) + tensor
            elif not name.endswith("attn2.to_v.weight"):  # one that it leaves alone
                columns = tensor[0].numel()
                tensors[f"{module}.up"] = torch.randn(tensor.shape[0], rank) * 0.1
                tensors[f"{module}.down"] = torch.randn(rank, columns).reshape(rank, *tensor.shape[1:]) * 0.1
        file.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, file)
    return file


def build_lllite(unet: nn.Module, file: Path, seed: int = 70) -> Path:
    """A ControlNet-LLLite for a tiny U-Net, before the layers that kohya's has them before."""
    with _chance(seed):
        tensors = {}
        for name, module in unet.named_modules():
            if not name.startswith(("down_blocks.", "mid_block.")) or not isinstance(module, nn.Linear):
                continue
            if not name.endswith(("attn1.to_q", "attn1.to_k", "attn1.to_v", "attn2.to_q")):
                continue
            place = first_name(f"{name}.weight").removesuffix(".weight")
            own = f"lllite_unet_{place.replace('.', '_')}"
            shapes = {
                "conditioning1.0": (4, 3, 4, 4),
                "conditioning1.2": (8, 4, 4, 4),
                "down.0": (5, module.in_features),
                "mid.0": (5, 13),
                "up.0": (module.in_features, 5),
            }
            for layer, shape in shapes.items():
                tensors[f"{own}.{layer}.weight"] = torch.randn(shape) * 0.2
                tensors[f"{own}.{layer}.bias"] = torch.randn(shape[0]) * 0.2
        file.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, file)
    return file


def build_adapter_file(folder: Path, file: Path, *, is_diffusers: bool = False) -> Path:
    """The weights of a T2I-Adapter folder as one file, with diffusers' names or those of the first program."""
    net = T2IAdapter.from_pretrained(str(folder))
    is_light = net.config.adapter_type == "light_adapter"
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file(
        {
            name if is_diffusers else _first_adapter_name(name, is_light): tensor.clone()
            for name, tensor in net.state_dict().items()
        },
        file,
    )
    return file


def _first_adapter_name(name: str, is_light: bool) -> str:
    _, *steps = name.split(".")
    if steps[0] != "body":
        return ".".join(steps)
    if is_light:
        return ".".join("body" if step == "resnets" else step for step in steps)
    block, inner = 2 * int(steps[1]), steps[2:]
    if inner[0] == "resnets":
        block, inner = block + int(inner[1]), inner[2:]
    return ".".join(["body", str(block), *inner])


_FIRST_NAMES = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "controlnet_cond_embedding.conv_in": "input_hint_block.0",
    "controlnet_cond_embedding.conv_out": "input_hint_block.14",
    "controlnet_mid_block": "middle_block_out.0",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
}
_OF_RESNETS = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}


def first_name(name: str, layers: int = 1) -> str:
    """As the first programs would have named a tensor of a ControlNet of so many layers a block, without a prefix."""
    return _first_name(name, layers).removeprefix("control_model.")


def _first_name(name: str, layers: int = 2) -> str:
    """As the first programs named a tensor of a ControlNet with so many layers a block."""
    module, _, leaf = name.rpartition(".")
    steps = module.split(".")
    if module in _FIRST_NAMES:
        new = _FIRST_NAMES[module]
    elif steps[0] == "controlnet_down_blocks":
        new = f"zero_convs.{steps[1]}.0"
    elif steps[0] == "controlnet_cond_embedding":
        new = f"input_hint_block.{2 * (int(steps[2]) + 1)}"
    elif steps[2] == "downsamplers":
        new = f"input_blocks.{(layers + 1) * (int(steps[1]) + 1)}.0.op"
    else:
        is_middle, rest = steps[0] == "mid_block", steps[3:] if steps[0] == "mid_block" else steps[4:]
        kind, number = (steps[1], int(steps[2])) if is_middle else (steps[2], int(steps[3]))
        rest = _OF_RESNETS[".".join(rest)].split(".") if kind == "resnets" else rest
        if is_middle:
            place = f"middle_block.{2 * number if kind == 'resnets' else 1}"
        else:
            place = f"input_blocks.{1 + (layers + 1) * int(steps[1]) + number}.{0 if kind == 'resnets' else 1}"
        new = ".".join([place, *rest])
    return f"control_model.{new}.{leaf}"
