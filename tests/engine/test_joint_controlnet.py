"""Full-size ControlNets of SD 3 by their headers: told right, and built as large as they are."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FluxControlNetModel, SD3ControlNetModel
from torch import Tensor

from catalog.detect.sniff import sniff
from catalog.families import FAMILIES, sd3
from catalog.files.headers import TensorInfo
from engine.checkpoints.single_file import controlnet_file, shapes_of
from engine.models.components import build_controlnet
from engine.models.module_slot import on_meta
from tests.support.tiny_sd3 import original_controlnet

_PROMPTED = {"num_attention_heads": 24, "caption_projection_dim": 1536, "pos_embed_max_size": 192}
_LARGE = {
    "num_layers": 19,
    "num_attention_heads": 38,
    "joint_attention_dim": None,
    "caption_projection_dim": 2048,
    "pos_embed_max_size": None,
    "pos_embed_type": None,
    "use_pos_embed": False,
    "force_zeros_for_pooled_projection": False,
}
MEDIUM, LARGE = "for SD 3 and SD 3.5 medium", "for SD 3.5 large"
# By what they are published as: the configuration, the detail and the kinds of maps that are told.
NETS: dict[str, tuple[dict[str, Any], str, tuple[str, ...]]] = {
    "InstantX, SD 3": ({**_PROMPTED, "num_layers": 12}, MEDIUM, ()),
    "SD 3.5 medium, double attention": (
        {**_PROMPTED, "num_layers": 6, "dual_attention_layers": (0, 1), "qk_norm": "rms_norm"},
        MEDIUM,
        (),
    ),
    "alimama, inpainting": ({**_PROMPTED, "num_layers": 23, "extra_conditioning_channels": 1}, MEDIUM, ("inpaint",)),
    "Stability, SD 3.5 large": (_LARGE, LARGE, ("lines", "depth", "tile")),
}


def weights(config: Mapping[str, Any]) -> dict[str, Tensor]:
    with torch.device("meta"):
        return SD3ControlNetModel(**config).state_dict()


def header_of(tensors: Mapping[str, Tensor]) -> dict[str, TensorInfo]:
    return {name: TensorInfo("F16", tuple(tensor.shape), 0, 0) for name, tensor in tensors.items()}


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("is_original", [False, True], ids=["diffusers' names", "Stability's names"])
@pytest.mark.filterwarnings("ignore")
def test_a_full_size_file_is_told_and_built(name: str, is_original: bool) -> None:
    config, detail, kinds = NETS[name]
    if is_original and config is not _LARGE:
        config, detail, kinds = {**_LARGE, "num_attention_heads": 24}, MEDIUM, ("lines", "depth", "tile")
    tensors = weights(config)
    header = header_of(original_controlnet(tensors) if is_original else tensors)
    found = sniff(header)
    assert (found.kind, found.family, found.problem) == ("controlnet", "sd3", "")
    assert (found.detail, found.control_type) == (detail, kinds)
    inferred, slices = controlnet_file(Path("net.safetensors"), header, FAMILIES["sd3"])
    built = on_meta("controlnet", build_controlnet, inferred)
    assert {key: tuple(tensor.shape) for key, tensor in built.state_dict().items()} == dict(shapes_of(slices, header))
    assert built.config.force_zeros_for_pooled_projection == (config is not _LARGE and not is_original)


def test_a_folder_says_the_same_as_its_file() -> None:
    for config, detail, kinds in NETS.values():
        found = sd3.claim_controlnet(None, {"attention_head_dim": 64, **config})
        assert (found.detail, found.control_type, found.problem) == (detail, kinds, "")


@pytest.mark.filterwarnings("ignore")
def test_what_is_like_them_is_refused_by_name() -> None:
    two = header_of(original_controlnet(weights({**_LARGE, "num_attention_heads": 24, "num_layers": 2})))
    two["time_text_embed.text_embedder.linear_1.weight"] = TensorInfo("F16", (1536, 1536), 0, 0)
    assert "SD 3.5 medium of Stability's own form" in sniff(two).problem
    more = sniff(header_of(weights({**_PROMPTED, "num_layers": 1, "extra_conditioning_channels": 5})))
    assert more.problem == "It is a ControlNet of SD 3 that takes 21 channels, which is not known."
    with torch.device("meta"):
        flux = FluxControlNetModel(num_layers=1, num_single_layers=1, attention_head_dim=8, num_attention_heads=2)
    assert (sniff(header_of(flux.state_dict())).family, sniff({**header_of(flux.state_dict())}).problem != "") == (
        "flux",
        True,
    )
    for broken in ({"controlnet_blocks.0.weight": TensorInfo("F16", (), 0, 0)}, {}):
        assert sniff({**header_of(weights({**_PROMPTED, "num_layers": 1})), **broken}).problem or not broken
