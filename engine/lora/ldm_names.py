"""LDM names of a U-Net's modules (`input_blocks.4.1…`), from diffusers' own.

LoRA files for SDXL use them, and block weights count by them. Source: the layout of CompVis' `openaimodel.py`.
"""

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType

_RESNET: Mapping[str, str] = MappingProxyType(
    {
        "norm1": "in_layers.0",
        "conv1": "in_layers.2",
        "time_emb_proj": "emb_layers.1",
        "norm2": "out_layers.0",
        "conv2": "out_layers.3",
        "conv_shortcut": "skip_connection",
    }
)
_FIXED: Mapping[str, str] = MappingProxyType(
    {
        "conv_in": "input_blocks.0.0",
        "time_embedding.linear_1": "time_embed.0",
        "time_embedding.linear_2": "time_embed.2",
        "add_embedding.linear_1": "label_emb.0.0",
        "add_embedding.linear_2": "label_emb.0.2",
        "mid_block.resnets.0": "middle_block.0",
        "mid_block.attentions.0": "middle_block.1",
        "mid_block.resnets.1": "middle_block.2",
        "conv_norm_out": "out.0",
        "conv_out": "out.2",
    }
)
_CHILD = re.compile(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)")
_BLOCK = re.compile(r"(input|middle|output)_blocks?\.(\d+)")


def ldm_names(modules: Iterable[str]) -> dict[str, str]:
    """The LDM name of each module of a U-Net; those without one are left out."""
    names = list(modules)
    # Resnets, attentions and samplers are counted through all down blocks, and through all up blocks.
    children: dict[tuple[str, int], dict[str, int]] = {}
    for name in names:
        match = _CHILD.match(name)
        if match is not None:
            way, block, kind, number = match[1], int(match[2]), match[3], int(match[4])
            counts = children.setdefault((way, block), {})
            counts[kind] = max(counts.get(kind, 0), number + 1)
    prefixes = dict(_FIXED)
    position = {"down": 1, "up": 0}  # input_blocks.0 is conv_in
    for (way, block), counts in sorted(children.items()):
        side = "input" if way == "down" else "output"
        for number in range(counts.get("resnets", 0)):
            prefixes[f"{way}_blocks.{block}.resnets.{number}"] = f"{side}_blocks.{position[way]}.0"
            prefixes[f"{way}_blocks.{block}.attentions.{number}"] = f"{side}_blocks.{position[way]}.1"
            position[way] += 1
        if "downsamplers" in counts:
            prefixes[f"down_blocks.{block}.downsamplers.0.conv"] = f"input_blocks.{position[way]}.0.op"
            position[way] += 1
        if "upsamplers" in counts:
            index = 2 if "attentions" in counts else 1
            prefixes[f"up_blocks.{block}.upsamplers.0.conv"] = f"output_blocks.{position[way] - 1}.{index}.conv"

    found = {}
    for name in names:
        steps = name.split(".")
        for count in range(len(steps), 0, -1):
            prefix = prefixes.get(".".join(steps[:count]))
            if prefix is None:
                continue
            rest = ".".join(steps[count:])
            if "resnets" in steps[:count]:
                rest = _RESNET.get(rest, rest)
            found[name] = f"{prefix}.{rest}" if rest else prefix
            break
    return found


def block_of(ldm_name: str) -> str:
    """Which block a module belongs to, as block weights name it: "IN04", "MID", "OUT11"; "BASE": none."""
    match = _BLOCK.match(ldm_name)
    if match is None:
        return "BASE"
    if match[1] == "middle":
        return "MID"
    side = "IN" if match[1] == "input" else "OUT"
    return f"{side}{int(match[2]):02}"
