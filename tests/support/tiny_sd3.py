"""A tiny SD 3.5 in the layouts of the published ones: a diffusers folder, and files with original names.

`build_folder(folder)`, then `write_file(folder, file)`. Names are worked out here, apart from the engine's way. Its T5
has a small vocabulary of its own.
"""

import json
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, SD3ControlNetModel, SD3Transformer2DModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, T5Config, T5EncoderModel, T5Tokenizer

from contract.recipe import ModelRef
from engine.checkpoints.tokenizers import clip_tokenizer
from tests.support.tiny_controls import _chance
from tests.support.tiny_files import original_vae

ENCODERS = ("text_encoder", "text_encoder_2", "text_encoder_3")
_VOCABULARY, _NARROW, _WIDE, _JOINT = 49_408, 32, 64, 128
_T5_WORDS = ("▁a", "▁cat", "▁dog", "▁red", "▁at", "▁sea", "▁sun", "▁of", "▁the", "▁night", "s", ",", "▁")
PREFIXES = {
    "text_encoder": "text_encoders.clip_l.transformer.",
    "text_encoder_2": "text_encoders.clip_g.transformer.",
    "text_encoder_3": "text_encoders.t5xxl.transformer.",
}
_TRANSFORMER = "model.diffusion_model."


def ref_of(name: str) -> ModelRef:
    """As a catalog would name it."""
    return ModelRef(name=name, family="sd3")


def transformer(*, is_35: bool = True, layers: int = 3) -> SD3Transformer2DModel:
    """Two heads, three layers, of which the first has two attentions."""
    return SD3Transformer2DModel(
        sample_size=16,
        num_layers=layers,
        attention_head_dim=64,
        num_attention_heads=2,
        joint_attention_dim=_JOINT,
        caption_projection_dim=128,
        pooled_projection_dim=_NARROW + _WIDE,
        pos_embed_max_size=12,
        dual_attention_layers=(0,) if is_35 else (),
        qk_norm="rms_norm" if is_35 else None,
    )


def modules(*, is_35: bool = True) -> dict[str, nn.Module]:
    """The parts with weights, new and random."""
    return {
        "transformer": transformer(is_35=is_35),
        "vae": AutoencoderKL(
            block_out_channels=(32, 32, 32, 64),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            latent_channels=16,
            layers_per_block=2,
            scaling_factor=1.5305,
            shift_factor=0.0609,
            use_quant_conv=False,
            use_post_quant_conv=False,
            force_upcast=False,
        ),
        "text_encoder": CLIPTextModelWithProjection(_clip_config(_NARROW, "quick_gelu")),
        "text_encoder_2": CLIPTextModelWithProjection(_clip_config(_WIDE, "gelu")),
        "text_encoder_3": T5EncoderModel(
            T5Config(
                vocab_size=256,
                d_model=_JOINT,
                d_kv=16,
                d_ff=64,
                num_layers=2,
                num_heads=2,
                feed_forward_proj="gated-gelu",
            )
        ),
    }


def t5_tokenizer() -> T5Tokenizer:
    """Letters, and a few words that are one token each."""
    letters = [*map(chr, range(ord("a"), ord("z") + 1)), *".()"]
    scored = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    scored += [(word, -2.0) for word in _T5_WORDS] + [(letter, -9.0) for letter in letters]
    return T5Tokenizer(vocab=scored, extra_ids=0)


def build_folder(folder: Path, seed: int = 0, *, is_35: bool = True) -> Path:
    """Write a diffusers folder and return it."""
    with _chance(seed):
        parts = modules(is_35=is_35)
        with torch.no_grad():  # as trained: what is 0 at the start is not
            for name, weight in parts["transformer"].named_parameters():
                if "norm" not in name:
                    weight.copy_(torch.randn_like(weight) * 0.06)
    for name, module in parts.items():
        module.save_pretrained(folder / name, safe_serialization=True)
    clip_tokenizer("<|endoftext|>").save_pretrained(folder / "tokenizer")
    clip_tokenizer("!").save_pretrained(folder / "tokenizer_2")
    t5_tokenizer().save_pretrained(folder / "tokenizer_3")
    FlowMatchEulerDiscreteScheduler(shift=3.0).save_pretrained(folder / "scheduler")
    index = {
        "_class_name": "StableDiffusion3Pipeline",
        "transformer": ["diffusers", "SD3Transformer2DModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
        "text_encoder": ["transformers", "CLIPTextModelWithProjection"],
        "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
        "text_encoder_3": ["transformers", "T5EncoderModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "tokenizer_2": ["transformers", "CLIPTokenizer"],
        "tokenizer_3": ["transformers", "T5TokenizerFast"],
        "image_encoder": [None, None],
        "feature_extractor": [None, None],
    }
    (folder / "model_index.json").write_text(json.dumps(index), "utf-8")
    return folder


def without_t5(folder: Path, other: Path) -> Path:
    """The same folder without its third text encoder."""
    shutil.copytree(folder, other, ignore=shutil.ignore_patterns("text_encoder_3", "tokenizer_3"))
    index = json.loads((other / "model_index.json").read_text("utf-8"))
    index |= {"text_encoder_3": [None, None], "tokenizer_3": [None, None]}
    (other / "model_index.json").write_text(json.dumps(index), "utf-8")
    return other


def write_file(
    folder: Path,
    file: Path,
    *,
    inside: Collection[str] = ENCODERS,
    dtype: torch.dtype = torch.float32,
    has_vae: bool = True,
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """The weights of such a folder as one file, with the text encoders that are to be inside."""
    tensors = {path.parent.name: load_file(path) for path in folder.glob("*/*.safetensors")}
    found = original_transformer(tensors["transformer"], _TRANSFORMER)
    if has_vae:
        found |= original_vae(tensors["vae"], "first_stage_model.")
    for name in inside:
        found |= {PREFIXES[name] + key: tensor for key, tensor in tensors[name].items()}
    file.parent.mkdir(parents=True, exist_ok=True)
    _save(found, file, dtype, metadata)
    return file


def write_encoder(folder: Path, component: str, file: Path, dtype: torch.dtype = torch.float32) -> Path:
    """One of its text encoders as a file of its own, as people keep it in a folder text_encoders."""
    file.parent.mkdir(parents=True, exist_ok=True)
    _save(load_file(folder / component / "model.safetensors"), file, dtype)
    return file


def original_transformer(tensors: Mapping[str, Tensor], prefix: str = "") -> dict[str, Tensor]:
    """Its tensors by original names: q, k and v as one, scale and shift of the last norms exchanged."""
    plain = {
        "pos_embed.pos_embed": "pos_embed",
        "pos_embed.proj": "x_embedder.proj",
        "time_text_embed.timestep_embedder.linear_": "t_embedder.mlp.",
        "time_text_embed.text_embedder.linear_": "y_embedder.mlp.",
        "context_embedder": "context_embedder",
        "norm_out.linear": "final_layer.adaLN_modulation.1",
        "proj_out": "final_layer.linear",
    }
    in_block = {
        "norm1.linear": "x_block.adaLN_modulation.1",
        "norm1_context.linear": "context_block.adaLN_modulation.1",
        "attn.to_out.0": "x_block.attn.proj",
        "attn.to_add_out": "context_block.attn.proj",
        "attn2.to_out.0": "x_block.attn2.proj",
        "attn.norm_q": "x_block.attn.ln_q",
        "attn.norm_k": "x_block.attn.ln_k",
        "attn.norm_added_q": "context_block.attn.ln_q",
        "attn.norm_added_k": "context_block.attn.ln_k",
        "attn2.norm_q": "x_block.attn2.ln_q",
        "attn2.norm_k": "x_block.attn2.ln_k",
        "ff.net.0.proj": "x_block.mlp.fc1",
        "ff.net.2": "x_block.mlp.fc2",
        "ff_context.net.0.proj": "context_block.mlp.fc1",
        "ff_context.net.2": "context_block.mlp.fc2",
    }
    last = max(int(name.split(".")[1]) for name in tensors if name.startswith("transformer_blocks."))
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        swapped = torch.cat(tensor.chunk(2)[::-1]) if tensor.dim() else tensor
        if not name.startswith("transformer_blocks."):
            start = next(start for start in plain if name.startswith(start))
            new_name = name.replace(start, plain[start]).replace("mlp.1", "mlp.0")
            found[new_name] = swapped if start == "norm_out.linear" else tensor
            continue
        _, number, rest = name.split(".", 2)
        module, _, leaf = rest.rpartition(".")
        block = f"joint_blocks.{number}"
        if module in in_block:
            is_swapped = module == "norm1_context.linear" and int(number) == last
            found[f"{block}.{in_block[module]}.{leaf}"] = swapped if is_swapped else tensor
    for number in range(last + 1):
        triples = {
            "x_block.attn": ("attn", "to_{}"),
            "context_block.attn": ("attn", "add_{}_proj"),
            "x_block.attn2": ("attn2", "to_{}"),
        }
        for original, (module, pattern) in triples.items():
            for leaf in ("weight", "bias"):
                names = [f"transformer_blocks.{number}.{module}.{pattern.format(part)}.{leaf}" for part in "qkv"]
                if names[0] in tensors:
                    found[f"joint_blocks.{number}.{original}.qkv.{leaf}"] = torch.cat([tensors[name] for name in names])
    return {prefix + name: tensor for name, tensor in found.items()}


def build_controlnet(
    folder: Path, seed: int = 50, *, is_large: bool = False, layers: int = 2, more_channels: int = 0
) -> Path:
    """A ControlNet for the transformer: one that sees the prompt, or as Stability's of SD 3.5 large."""
    own = {
        "joint_attention_dim": None,
        "pos_embed_max_size": None,
        "pos_embed_type": None,
        "use_pos_embed": False,
        "force_zeros_for_pooled_projection": False,
    }
    with _chance(seed):
        net = SD3ControlNetModel(
            **{
                "sample_size": 16,
                "num_layers": layers,
                "attention_head_dim": 64,
                "num_attention_heads": 2,
                "joint_attention_dim": _JOINT,
                "caption_projection_dim": 128,
                "pooled_projection_dim": _NARROW + _WIDE,
                "pos_embed_max_size": 12,
                "extra_conditioning_channels": more_channels,
                **(own if is_large else {}),
            }
        )
        with torch.no_grad():
            for weight in net.parameters():
                weight.copy_(torch.randn_like(weight) * 0.06)
    net.save_pretrained(folder, safe_serialization=True)
    return folder


def write_controlnet(folder: Path, file: Path) -> Path:
    """The same as one file: with Stability's names where it is as theirs, else with diffusers'."""
    tensors = load_file(folder / "diffusion_pytorch_model.safetensors")
    if not json.loads((folder / "config.json").read_text("utf-8"))["use_pos_embed"]:
        tensors = original_controlnet(tensors)
    _save(tensors, file, torch.float32)
    return file


def original_controlnet(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a ControlNet of SD 3.5 large by Stability's names: q, k and v as one."""
    in_block = {
        "attn.to_out.0": "attn.proj",
        "ff.net.0.proj": "mlp.fc1",
        "ff.net.2": "mlp.fc2",
        "norm1.linear": "adaLN_modulation.1",
    }
    found = {"control_type": torch.ones(1)}
    for name, tensor in tensors.items():
        module, _, leaf = name.rpartition(".")
        start, inner = ".".join(module.split(".")[:2]), ".".join(module.split(".")[2:])
        if inner == "attn.to_q":
            three = [tensors[f"{start}.attn.to_{part}.{leaf}"] for part in "qkv"]
            found[f"{start}.attn.qkv.{leaf}"] = torch.cat(three)
        elif inner in in_block and start.startswith("transformer_blocks."):
            found[f"{start}.{in_block[inner]}.{leaf}"] = tensor
        elif inner not in ("attn.to_k", "attn.to_v"):
            found[name] = tensor
    return found


def _clip_config(width: int, activation: str) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=_VOCABULARY,
        hidden_size=width,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=max(1, width // 64),
        max_position_embeddings=77,
        projection_dim=width,
        hidden_act=activation,
        bos_token_id=_VOCABULARY - 2,
        eos_token_id=_VOCABULARY - 1,
        pad_token_id=_VOCABULARY - 1 if width == _NARROW else 0,
    )


def _save(
    tensors: Mapping[str, Tensor], file: Path, dtype: torch.dtype, metadata: Mapping[str, str] | None = None
) -> None:
    cast = {name: tensor.to(dtype).clone().contiguous() for name, tensor in tensors.items()}
    save_file(cast, file, metadata=dict(metadata) if metadata else None)
