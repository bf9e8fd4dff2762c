"""The first programs' names for the places of a U-Net (`input_blocks.4.1…`), told from diffusers' own.

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
    """The first programs' name of each module of a U-Net; what they had no name for is left out."""
    names = list(modules)
    prefixes = {**_FIXED, **_block_names(names)}
    found = {}
    for name in names:
        steps = name.split(".")
        for count in range(len(steps), 0, -1):
            if prefix := prefixes.get(".".join(steps[:count])):
                rest = ".".join(steps[count:])
                if "resnets" in steps[:count]:
                    rest = _RESNET.get(rest, rest)
                found[name] = f"{prefix}.{rest}" if rest else prefix
                break
    return found


def _block_names(names: Iterable[str]) -> dict[str, str]:
    """Of resnets, attentions and samplers: they are counted through all blocks, on the way down and up."""
    children: dict[tuple[str, int], dict[str, int]] = {}
    for name in names:
        if match := _CHILD.match(name):
            way, block, kind, number = match[1], int(match[2]), match[3], int(match[4])
            counts = children.setdefault((way, block), {})
            counts[kind] = max(counts.get(kind, 0), number + 1)
    found = {}
    place = {"down": 1, "up": 0}
    for (way, block), counts in sorted(children.items()):
        side = "input" if way == "down" else "output"
        for number in range(counts.get("resnets", 0)):
            found[f"{way}_blocks.{block}.resnets.{number}"] = f"{side}_blocks.{place[way]}.0"
            found[f"{way}_blocks.{block}.attentions.{number}"] = f"{side}_blocks.{place[way]}.1"
            place[way] += 1
        if "downsamplers" in counts:
            found[f"down_blocks.{block}.downsamplers.0.conv"] = f"input_blocks.{place[way]}.0.op"
            place[way] += 1
        if "upsamplers" in counts:
            after = 2 if "attentions" in counts else 1
            found[f"up_blocks.{block}.upsamplers.0.conv"] = f"output_blocks.{place[way] - 1}.{after}.conv"
    return found


def block_of(ldm_name: str) -> str:
    """Which block a place belongs to, as block weights name it: "IN04", "MID", "OUT11"; "BASE": none."""
    match = _BLOCK.match(ldm_name)
    if match is None:
        return "BASE"
    return "MID" if match[1] == "middle" else f"{'IN' if match[1] == 'input' else 'OUT'}{int(match[2]):02}"
