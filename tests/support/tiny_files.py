"""Tiny models in the layout of the published ones, as a diffusers folder and as a file with the first programs' names.

`build_folder("sd1", folder)`, then `write_file(folder, file)`. They have what shapes don't tell: two layers a block,
norms in 32 groups, heads as their family has them, CLIP's whole vocabulary. Names are worked out here, apart from
the engine's way. What training leaves in real files is in these, too.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, get_args

import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    DPTConfig,
    DPTForDepthEstimation,
)

from contract.recipe import ModelRef
from engine.checkpoints.tokenizers import clip_tokenizer
from tests.support.tiny_controls import _OF_RESNETS, _chance

Kind = Literal[
    "sd1", "inpaint", "edit", "sd2", "sd2_v", "sd2_inpaint", "sd2_depth", "sdxl", "sdxl_inpaint", "sdxl_refiner"
]
KINDS: tuple[Kind, ...] = get_args(Kind)
_CHANNELS = {"sd2_depth": 5, "inpaint": 9, "sd2_inpaint": 9, "sdxl_inpaint": 9, "edit": 8}
_WORDS, _WIDTH, _WIDER = 49_408, 32, 64
_BETAS = {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
TELLTALE = "model.diffusion_model.output_blocks.11.1.transformer_blocks.0.norm1.bias"


def family_of(kind: Kind) -> str:
    """The family's id."""
    if kind == "sdxl_refiner":
        return kind
    return kind[:4] if kind.startswith("sdxl") else "sd2" if kind.startswith("sd2") else "sd1"


def ref_of(kind: Kind, name: str) -> ModelRef:
    """As a catalog would name such a model, were it of full size."""
    return ModelRef(name=name, family=family_of(kind))


def modules(kind: Kind) -> dict[str, nn.Module]:
    """The parts with weights, new and random."""
    family, channels = family_of(kind), _CHANNELS.get(kind, 4)
    if family.startswith("sdxl"):
        is_refiner = family == "sdxl_refiner"
        first = CLIPTextModel(_text_config(_WIDTH, 3, "quick_gelu"))
        second = CLIPTextModelWithProjection(_text_config(_WIDER, 3, "gelu"))
        down, up = ("DownBlock2D", "CrossAttnDownBlock2D"), ("CrossAttnUpBlock2D", "UpBlock2D")
        net = _unet(
            channels,
            _WIDER if is_refiner else _WIDTH + _WIDER,
            down,
            up,
            attention_head_dim=(1, 1),
            use_linear_projection=True,
            transformer_layers_per_block=(1, 2),
            addition_embed_type="text_time",
            addition_time_embed_dim=256,
            projection_class_embeddings_input_dim=_WIDER + (5 if is_refiner else 6) * 256,
        )
        if is_refiner:
            return {"unet": net, "vae": _vae(0.13025), "text_encoder_2": second}
        return {"unet": net, "vae": _vae(0.13025), "text_encoder": first, "text_encoder_2": second}
    heads: dict[str, object] = {"attention_head_dim": 8}
    if family == "sd2":
        heads = {"attention_head_dim": (1, 1), "use_linear_projection": True}
    width = _WIDER if family == "sd2" else _WIDTH
    down, up = ("CrossAttnDownBlock2D", "DownBlock2D"), ("UpBlock2D", "CrossAttnUpBlock2D")
    more = {"depth_estimator": _estimator()} if kind == "sd2_depth" else {}
    return {
        **more,
        "unet": _unet(channels, width, down, up, **heads),
        "vae": _vae(0.18215),
        "text_encoder": CLIPTextModel(_text_config(width, 2, "gelu" if family == "sd2" else "quick_gelu")),
    }


def build_folder(kind: Kind, folder: Path, seed: int = 0) -> Path:
    """Write a diffusers folder and return it."""
    with _chance(seed):
        for name, module in modules(kind).items():
            module.save_pretrained(folder / name, safe_serialization=True)
    paddings = ("!",) if family_of(kind) == "sd2" else ("<|endoftext|>", "!")[: 1 + (family_of(kind) == "sdxl")]
    for number, padding in enumerate(("", "!") if kind == "sdxl_refiner" else paddings, 1):
        if not padding:
            continue
        clip_tokenizer(padding).save_pretrained(folder / ("tokenizer" if number == 1 else f"tokenizer_{number}"))
    EulerDiscreteScheduler(**_BETAS, prediction_type="v_prediction" if kind == "sd2_v" else "epsilon").save_pretrained(
        folder / "scheduler"
    )
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline"}), "utf-8")
    return folder


def write_file(
    folder: Path,
    file: Path,
    *,
    dtype: torch.dtype = torch.float32,
    has_vae: bool = True,
    more: Mapping[str, Tensor] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """The weights of such a folder as one checkpoint with the first programs' names."""
    tensors = {path.parent.name: load_file(path) for path in folder.glob("*/*.safetensors")}
    is_xl, is_refiner = "text_encoder_2" in tensors, "text_encoder" not in tensors
    found = original_unet(tensors["unet"])
    if has_vae:
        found |= original_vae(tensors["vae"], "first_stage_model.")
    first = tensors.get("text_encoder", {})
    if is_refiner:
        pass
    elif _is_open(folder):
        found |= _with_leftovers(open_clip(first, "cond_stage_model.model."), "cond_stage_model.model.")
    else:
        place = "conditioner.embedders.0.transformer." if is_xl else "cond_stage_model.transformer."
        found |= {f"{place}text_model.{_bare(name)}": tensor for name, tensor in first.items()}
        found[f"{place}text_model.embeddings.position_ids"] = torch.arange(77)[None]
        found[f"{place.removesuffix('transformer.')}logit_scale"] = torch.tensor(4.6)
    if "depth_estimator" in tensors:
        found |= original_estimator(tensors["depth_estimator"], "depth_model.model.")
    if is_xl:
        place = f"conditioner.embedders.{0 if is_refiner else 1}.model."
        found |= open_clip(tensors["text_encoder_2"], place)
        found[f"{place}logit_scale"] = torch.tensor(4.6)
    found |= {
        "alphas_cumprod": torch.rand(1000),
        "model_ema.decay": torch.tensor(0.9999),
        "model_ema.diffusion_modelout2bias": torch.rand(4),
    }
    found = {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in found.items()}
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: tensor.clone().contiguous() for name, tensor in {**found, **(more or {})}.items()},
        file,
        metadata=dict(metadata) if metadata else None,
    )
    return file


def _unet(channels: int, width: int, down: tuple[str, ...], up: tuple[str, ...], **more: object) -> nn.Module:
    return UNet2DConditionModel(
        in_channels=channels,
        block_out_channels=(32, 64),
        layers_per_block=2,
        cross_attention_dim=width,
        down_block_types=down,
        up_block_types=up,
        **more,
    )


def _vae(scale: float) -> nn.Module:
    return AutoencoderKL(
        block_out_channels=(32, 32, 32, 64),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
        layers_per_block=2,
        scaling_factor=scale,
        force_upcast=False,
    )


def _estimator() -> nn.Module:
    return DPTForDepthEstimation(estimator_config(64, 4, [128, 128, 128], [1, 1, 1], [128, 128, 64, 64], 32))


def estimator_config(
    width: int, layers: int, channels: list[int], depths: list[int], necks: list[int], fused: int
) -> DPTConfig:
    """Of a hybrid as SD 2 depth has one, of any size."""
    return DPTConfig(
        is_hybrid=True,
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        patch_size=16,
        num_attention_heads=width // 64,
        backbone_out_indices=[layers * n // 4 - 1 for n in (1, 2, 3, 4)],
        reassemble_factors=[1, 1, 1, 0.5],
        neck_ignore_stages=[0, 1],
        neck_hidden_sizes=necks,
        fusion_hidden_size=fused,
        backbone_featmap_shape=[1, channels[-1], 24, 24],
        backbone_config={
            "model_type": "bit",
            "layer_type": "bottleneck",
            "global_padding": "same",
            "embedding_dynamic_padding": True,
            "depths": depths,
            "hidden_sizes": channels,
            "out_features": ["stage1", "stage2", "stage3"],
        },
    )


def _text_config(width: int, layers: int, activation: str) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=_WORDS,
        hidden_size=width,
        intermediate_size=64,
        num_hidden_layers=layers,
        num_attention_heads=max(1, width // 64),
        max_position_embeddings=77,
        projection_dim=width,
        hidden_act=activation,
        bos_token_id=_WORDS - 2,
        eos_token_id=_WORDS - 1,
    )


def _is_open(folder: Path) -> bool:
    return json.loads((folder / "text_encoder" / "config.json").read_text("utf-8"))["hidden_act"] == "gelu"


def _bare(name: str) -> str:
    return name.removeprefix("text_model.")


_UNET_NAMES = {
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
}


def original_unet(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A U-Net of two layers a block with the first programs' names."""
    attending = {
        int(name.split(".")[1]) for name in tensors if name.startswith("up_blocks.") and ".attentions." in name
    }
    found = {}
    for name, tensor in tensors.items():
        module, _, leaf = name.rpartition(".")
        place = _UNET_NAMES.get(module) or _unet_module(module.split("."), attending)
        found[f"model.diffusion_model.{place}.{leaf}"] = tensor
    return found


def _unet_module(steps: list[str], attending: set[int]) -> str:
    if steps[0] == "mid_block":
        _, kind, number, *rest = steps
        place = f"middle_block.{2 * int(number) if kind == 'resnets' else 1}"
    else:
        block, kind, number, rest = int(steps[1]), steps[2], int(steps[3]), steps[4:]
        if kind == "downsamplers":
            return f"input_blocks.{3 * (block + 1)}.0.op"
        if kind == "upsamplers":  # behind the attention, where the block has one
            return f"output_blocks.{3 * block + 2}.{2 if block in attending else 1}.conv"
        side, first = ("input_blocks", 1) if steps[0] == "down_blocks" else ("output_blocks", 0)
        place = f"{side}.{first + 3 * block + number}.{0 if kind == 'resnets' else 1}"
    inner = ".".join(rest)
    return f"{place}.{_OF_RESNETS[inner] if kind == 'resnets' else inner}"


_OF_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def original_vae(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """A VAE of four levels with the first programs' names; its attention is 1×1 convolutions there."""
    found = {}
    for name, tensor in tensors.items():
        module, _, leaf = name.rpartition(".")
        is_layer = ".attentions." in name and tensor.dim() == 2
        found[f"{prefix}{_vae_module(module)}.{leaf}"] = tensor[:, :, None, None] if is_layer else tensor
    return found


def _vae_module(module: str) -> str:
    side, _, inner = module.partition(".")
    steps = inner.split(".")
    if steps[0] in ("down_blocks", "up_blocks"):
        level = int(steps[1]) if steps[0] == "down_blocks" else 3 - int(steps[1])
        place = f"{side}.{steps[0].removesuffix('_blocks')}.{level}"
        if steps[2] != "resnets":
            return f"{place}.{steps[2].removesuffix('rs')}.conv"
        return f"{place}.block.{steps[3]}." + ".".join(steps[4:]).replace("conv_shortcut", "nin_shortcut")
    if steps[:2] == ["mid_block", "resnets"]:
        return f"{side}.mid.block_{int(steps[2]) + 1}." + ".".join(steps[3:])
    if steps[:2] == ["mid_block", "attentions"]:
        return f"{side}.mid.attn_1." + _OF_ATTENTION[".".join(steps[3:])]
    return module.replace("conv_norm_out", "norm_out")


_OF_DPT = (
    ("dpt.embeddings.cls_token", "pretrained.model.cls_token"),
    ("dpt.embeddings.position_embeddings", "pretrained.model.pos_embed"),
    ("dpt.embeddings.projection", "pretrained.model.patch_embed.proj"),
    ("head.head", "scratch.output_conv"),
    ("dpt.embeddings.backbone.bit.embedder.convolution", "pretrained.model.patch_embed.backbone.stem.conv"),
    ("dpt.embeddings.backbone.bit.embedder", "pretrained.model.patch_embed.backbone.stem"),
    ("dpt.embeddings.backbone.bit.encoder", "pretrained.model.patch_embed.backbone"),
    ("dpt.encoder.layer", "pretrained.model.blocks"),
    ("dpt.layernorm", "pretrained.model.norm"),
    ("layernorm_before", "norm1"),
    ("layernorm_after", "norm2"),
    ("attention.output.dense", "attn.proj"),
    ("intermediate.dense", "mlp.fc1"),
    ("output.dense", "mlp.fc2"),
    ("residual_layer", "resConfUnit"),
    ("convolution", "conv"),
)


def original_estimator(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """A DPT hybrid as MiDaS names it."""
    found = {"pretrained.model.head.weight": torch.zeros(2, 2)}
    for name, tensor in tensors.items():
        for ours, theirs in _OF_DPT:
            name = name.replace(ours, theirs)
        if "backbone.stages" in name:
            name = name.replace(".layers.", ".blocks.")
        elif name.startswith("neck."):
            number = int(next(step for step in name.split(".") if step.isdigit()))
            name = (
                name.replace(f"neck.fusion_stage.layers.{number}", f"scratch.refinenet{4 - number}")
                .replace("projection", "out_conv" if "fusion" in name else "3")
                .replace("resize", "4")
                .replace(f"neck.convs.{number}", f"scratch.layer{number + 1}_rn")
                .replace(f"neck.reassemble_stage.layers.{number}", f"pretrained.act_postprocess{number + 1}")
                .replace(
                    f"neck.reassemble_stage.readout_projects.{number}.0",
                    f"pretrained.act_postprocess{number + 1}.0.project.0",
                )
            )
        found[name] = tensor
    for name in [name for name in found if ".attention.attention.query." in name]:
        three = [found.pop(name.replace("query", part)) for part in ("query", "key", "value")]
        found[name.replace("attention.attention.query", "attn.qkv")] = torch.cat(three)
    return {prefix + name: tensor for name, tensor in found.items()}


_OF_TRANSFORMERS = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "self_attn.out_proj": "attn.out_proj",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}


def open_clip(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """A text encoder as OpenCLIP names it: q, k and v in one, the projection turned."""
    bare = {_bare(name): tensor for name, tensor in tensors.items()}
    found = {
        "token_embedding.weight": bare.pop("embeddings.token_embedding.weight"),
        "positional_embedding": bare.pop("embeddings.position_embedding.weight"),
        "ln_final.weight": bare.pop("final_layer_norm.weight"),
        "ln_final.bias": bare.pop("final_layer_norm.bias"),
    }
    if "text_projection.weight" in bare:
        found["text_projection"] = bare.pop("text_projection.weight").T
    for name, tensor in bare.items():
        _, _, number, *steps, leaf = name.split(".")
        inner, block = ".".join(steps), f"transformer.resblocks.{number}."
        if inner == "self_attn.q_proj":
            three = [bare[name.replace("q_proj", f"{letter}_proj")] for letter in "qkv"]
            found[f"{block}attn.in_proj_{leaf}"] = torch.cat(three)
        elif inner in _OF_TRANSFORMERS:
            found[f"{block}{_OF_TRANSFORMERS[inner]}.{leaf}"] = tensor
    return {prefix + name: tensor for name, tensor in found.items()}


def _with_leftovers(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """SD 2 reads the layer before the last; files have the last one too, and a projection."""
    blocks = f"{prefix}transformer.resblocks."
    last = max(int(name[len(blocks) :].split(".")[0]) for name in tensors if name.startswith(blocks))
    unread = {
        name.replace(f"{blocks}{last}.", f"{blocks}{last + 1}."): torch.rand_like(tensor)
        for name, tensor in tensors.items()
        if name.startswith(f"{blocks}{last}.")
    }
    width = tensors[f"{prefix}ln_final.weight"].shape[0]
    return {
        **tensors,
        **unread,
        f"{prefix}text_projection": torch.rand(width, width),
        f"{prefix}logit_scale": torch.tensor(4.6),
    }
