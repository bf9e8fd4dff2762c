"""Names of the tensors of LoRA files: one table for the catalog, which recognizes files, and the engine, which patches.

A name is cut into a stem (the layer) and a role (what the tensor is to it), and a stem into a component of the model
and a path in it, with underscores for dots. Spellings, and who writes them:
    kohya's sd-scripts, OneTrainer   lora_unet_…, lora_te_…; of SDXL lora_te1_…, lora_te2_…; .lora_down.weight, .alpha
    LyCORIS, SimpleTuner             lycoris_… (then unet_, te1_ or nothing); .hada_w1_a, .lokr_w1, .diff, .w_norm
                                     oft_unet_… with .oft_blocks (sd-scripts); .oft_blocks, .rescale (LyCORIS)
    diffusers                        unet.…, transformer.…, text_encoder.…; .lora_A.weight;
                                     older ….processor.to_q_lora.down.weight
    peft                             base_model.model.…; .lora_A.weight, .lora_A.default.weight, .lora_magnitude_vector,
                                     .oft_R.weight, .boft_R, .boft_s
    ComfyUI                          diffusion_model.…, text_encoders.clip_l.transformer.…, clip_g; .diff, .diff_b
    OneTrainer's and OMI's own       unet.…, clip_l.…, clip_g.…
`engine/lora/deltas.py` knows what each role does to a layer.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

ROLES: Mapping[str, str] = MappingProxyType(
    {
        ".lora_down.weight": "down",
        ".lora_up.weight": "up",
        ".lora_mid.weight": "mid",
        ".alpha": "alpha",
        ".lora_A.weight": "down",
        ".lora_B.weight": "up",
        ".lora.down.weight": "down",
        ".lora.up.weight": "up",
        "_lora.down.weight": "down",
        "_lora.up.weight": "up",
        "_lora1.down.weight": "down",
        "_lora1.up.weight": "up",
        "_lora2.down.weight": "down",
        "_lora2.up.weight": "up",  # of Flux
        ".lora_linear_layer.down.weight": "down",
        ".lora_linear_layer.up.weight": "up",
        ".lora_A": "down",
        ".lora_B": "up",
        ".dora_scale": "dora_scale",
        ".lora_magnitude_vector": "magnitude",
        ".lora_magnitude_vector.weight": "magnitude",
        **{
            f".{name}": name
            for name in (
                "hada_w1_a",
                "hada_w1_b",
                "hada_w2_a",
                "hada_w2_b",
                "hada_t1",
                "hada_t2",
                "lokr_w1",
                "lokr_w1_a",
                "lokr_w1_b",
                "lokr_w2",
                "lokr_w2_a",
                "lokr_w2_b",
                "lokr_t2",
                "diff",
                "diff_b",
                "on_input",
                "oft_blocks",
                "oft_diag",
                "rescale",
                "oft_R",
                "oft_r",
                "boft_R",
            )
        },
        ".oft_R.weight": "oft_R",
        ".oft_s": "out_scale",
        ".boft_s": "out_scale",
        ".w_norm": "diff",
        ".b_norm": "diff_b",
        ".weight": "factor",
    }
)
_PLAIN = (".weight", ".bias")  # as in all files
_MOST_STEPS = 3  # of an ending
# peft has the name of the adapter in between: "default", or whatever somebody called it.
_NAMED = re.compile(r"(\.(?:lora_(?:A|B|magnitude_vector)|b?oft_[Rrs]))\.(?!weight$)[\w-]+(\.weight)?$")
# Kinds that exist and are not run, by what their tensors are called.
OTHER_KINDS: Mapping[str, str] = MappingProxyType(
    {
        "a1": "GLoRA",
        "a2": "GLoRA",
        "b1": "GLoRA",
        "b2": "GLoRA",
        "vera_lambda_b": "VeRA",
        "vera_lambda_d": "VeRA",
        "lora_embedding_A": "a LoRA of the words' table",
        "lora_embedding_B": "a LoRA of the words' table",
        "oft_embedding_R": "an OFT of the words' table",
    }
)
_WRAPPING = re.compile(r"base_model\.model\.|module\.|lycoris_")  # before anything else
_FIRST_OF_SEVERAL = "text_encoder_1"
_PREFIXES: Mapping[str, str] = MappingProxyType(
    {
        "lora_unet_": "unet",
        "oft_unet_": "unet",
        "unet_": "unet",
        "unet.": "unet",
        "transformer.": "unet",
        "lora_transformer_": "unet",
        "model.diffusion_model.": "unet",
        "diffusion_model.": "unet",
        "lora_te1_": _FIRST_OF_SEVERAL,
        "lora_te2_": "text_encoder_2",
        "lora_te_": "text_encoder",
        "te1_": _FIRST_OF_SEVERAL,
        "te2_": "text_encoder_2",
        "te_": "text_encoder",
        "te1.": _FIRST_OF_SEVERAL,
        "te2.": "text_encoder_2",
        "lora_te3_": "text_encoder_3",
        "text_encoder_3.": "text_encoder_3",
        "text_encoders.t5xxl.transformer.": "text_encoder_3",
        "text_encoder_2.": "text_encoder_2",
        "text_encoder_2_": "text_encoder_2",
        "text_encoder_1.": _FIRST_OF_SEVERAL,
        "text_encoder_1_": _FIRST_OF_SEVERAL,
        "text_encoder.": "text_encoder",
        "text_encoder_": "text_encoder",
        "text_encoders.clip_l.transformer.": _FIRST_OF_SEVERAL,
        "text_encoders.clip_l.": _FIRST_OF_SEVERAL,
        "text_encoders.clip_g.transformer.": "text_encoder_2",
        "text_encoders.clip_g.": "text_encoder_2",
        "text_encoders.clip_h.transformer.": "text_encoder",
        "text_encoders.clip_h.": "text_encoder",
        "text_encoders_0.": _FIRST_OF_SEVERAL,
        "text_encoders_1.": "text_encoder_2",
        "lora_clip_l_": _FIRST_OF_SEVERAL,
        "lora_clip_g_": "text_encoder_2",
        "clip_l.transformer.": _FIRST_OF_SEVERAL,
        "clip_g.transformer.": "text_encoder_2",
        "clip_l.": _FIRST_OF_SEVERAL,
        "clip_g.": "text_encoder_2",
        "clip_h.": "text_encoder",
        "cond_stage_model.transformer.": "text_encoder",
        "conditioner.embedders.0.transformer.": _FIRST_OF_SEVERAL,
        "conditioner.embedders.1.model.": "text_encoder_2",
    }
)
_PREFIX = re.compile("|".join(map(re.escape, sorted(_PREFIXES, key=len, reverse=True))))
_BARE = re.compile(
    r"(transformer_blocks|joint_blocks|down_blocks|up_blocks|mid_block|conv_in|conv_out|time_embedding|add_embedding|input_blocks|"
    r"middle_block|output_blocks|time_embed|text_model|encoder_layers|encoder)[._]"
)


@dataclass(frozen=True, slots=True)
class LoraPlace:
    """The place of a layer.

    Attributes:
        part: The component's name in a checkpoint, "unet" for any that predicts; "" where the name gives none.
        path: Of the module in it, with underscores for dots; the whole stem where no component is named.
        is_first_of_several: The name implies another text encoder: the file is for SDXL, or for a later family.
    """

    part: str
    path: str
    is_first_of_several: bool = False


def cut(name: str) -> tuple[str, str]:
    """Split a tensor's name into stem and role, by its longest ending; the role is empty for any other ending."""
    if "lora" not in name and "oft_" not in name and name.endswith(_PLAIN):
        return (name.removesuffix(".weight"), "factor") if name.endswith(".weight") else (name, "")
    if ".lora_" in name or "oft_" in name:
        name = _NAMED.sub(r"\1\2", name)
    ending, dot = "", len(name)
    for _ in range(_MOST_STEPS):
        dot = name.rfind(".", 0, dot)
        if dot < 0:
            break
        underscore = name.rfind("_", 0, dot)
        if underscore >= 0 and name[underscore:] in ROLES:
            ending = name[underscore:]
        elif name[dot:] in ROLES:
            ending = name[dot:]
    return (name.removesuffix(ending), ROLES[ending]) if ending else (name, "")


def place_of(stem: str) -> LoraPlace:
    """The place of the layer of a stem. A prefix may be repeated."""
    rest, part = stem, ""
    while True:
        wrapping = _WRAPPING.match(rest)
        if wrapping:
            rest = rest[wrapping.end() :]
            continue
        prefix = _PREFIX.match(rest)
        if prefix is None or part not in ("", _PREFIXES[prefix[0]]):
            break
        rest, part = rest[prefix.end() :], _PREFIXES[prefix[0]]
    bare = _BARE.match(rest)
    if not part and bare:
        part = "text_encoder" if bare[1] in ("text_model", "encoder", "encoder_layers") else "unet"
    if not part:
        return LoraPlace("", underscored(rest))
    path = underscored(rest).replace("_processor_", "_").removeprefix("text_model_")
    if part == _FIRST_OF_SEVERAL:
        return LoraPlace("text_encoder", path, is_first_of_several=True)
    return LoraPlace(part, path)


def underscored(name: str) -> str:
    """A name with underscores for dots."""
    return name.replace(".", "_")


def other_kind(names: Iterable[str]) -> str:
    """The name of a kind that is not run, if a tensor is of one; else empty."""
    for name in names:
        found = OTHER_KINDS.keys() & name.split(".")
        if found:
            return OTHER_KINDS[min(found)]
    return ""
