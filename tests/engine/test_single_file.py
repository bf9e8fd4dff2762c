"""ControlNets and T2I-Adapters that are one file are the same models as the folders they were made of."""

from pathlib import Path

import pytest
import torch
from diffusers import ControlNetModel, T2IAdapter
from torch import nn

from catalog.families import FAMILIES
from catalog.models import describe
from engine.checkpoints.infer_config import controlnet_config
from engine.models.manager import ModelManager
from tests.support import tiny_controls

# Of the shape that the file's names belong to: two layers a block, norms in 32 groups, eight heads.
SHAPE = {"block_out_channels": (32, 64), "layers_per_block": 2, "norm_num_groups": 32, "attention_head_dim": 8}


@pytest.mark.parametrize("is_diffusers", [True, False], ids=["diffusers' names", "first names"])
def test_a_file_loads_as_the_folder_does(is_diffusers: bool, tmp_path: Path, models: ModelManager) -> None:
    folder = tiny_controls.build_controlnet("sd1", tmp_path / "folder", **SHAPE)
    file = tmp_path / "one" / "canny.safetensors"
    tiny_controls.build_controlnet_file(folder, file, is_diffusers=is_diffusers)
    found = describe(file, "canny")
    assert (found.problem, found.ref.kind, found.ref.family) == (None, "controlnet", "sd1")
    rows, hint, context = torch.randn(1, 4, 8, 8), torch.rand(1, 3, 64, 64), torch.randn(1, 5, 32)
    told = (rows, torch.tensor(500), context, hint)
    with models.lease(found.ref, str(file)) as loaded, torch.inference_mode():
        *ours, middle = loaded.onload("controlnet")(*told, return_dict=False)
        *theirs, expected = ControlNetModel.from_pretrained(str(folder))(*told, return_dict=False)
    assert torch.allclose(middle, expected, atol=1e-5)  # bytes lie elsewhere, and sums are taken otherwise
    assert all(torch.allclose(one, other, atol=1e-5) for one, other in zip(ours[0], theirs[0], strict=True))


@pytest.mark.parametrize("is_diffusers", [True, False], ids=["diffusers' names", "first names"])
@pytest.mark.parametrize(
    ("adapter_type", "channels", "family"),
    [
        ("full_adapter", (32, 64, 64), "sd1"),
        ("full_adapter_xl", (32, 64, 64), "sdxl"),
        ("light_adapter", (32, 64), "sd1"),
    ],
)
@pytest.mark.parametrize("colors", [1, 3])
def test_an_adapters_file_loads_as_its_folder_does(
    adapter_type: str,
    channels: tuple[int, ...],
    family: str,
    colors: int,
    is_diffusers: bool,
    tmp_path: Path,
    models: ModelManager,
) -> None:
    folder = tmp_path / "folder"
    tiny_controls.build_adapter(
        folder,
        adapter_type=adapter_type,
        channels=channels,
        in_channels=colors,
        num_res_blocks=2,
        downscale_factor=16 if family == "sdxl" else 8,
    )
    file = tmp_path / "one" / "sketch.safetensors"
    tiny_controls.build_adapter_file(folder, file, is_diffusers=is_diffusers)
    found = describe(file, "sketch")
    assert (found.problem, found.ref.kind, found.ref.family) == (None, "t2i_adapter", family)
    hint = torch.rand(1, colors, 128, 128)
    with models.lease(found.ref, str(file)) as loaded, torch.inference_mode():
        ours, theirs = loaded.onload("t2i_adapter")(hint), T2IAdapter.from_pretrained(str(folder))(hint)
    assert len(ours) == len(theirs) == len(channels) + (adapter_type == "light_adapter")
    assert all(torch.allclose(one, other, atol=1e-5) for one, other in zip(ours, theirs, strict=True))


@pytest.mark.parametrize(
    ("family", "config"),
    [
        ("sd1", {"cross_attention_dim": 768, "attention_head_dim": 8}),
        ("sd2", {"cross_attention_dim": 1024, "attention_head_dim": (5, 10, 20, 20), "use_linear_projection": True}),
        (
            "sdxl",
            {
                "block_out_channels": (320, 640, 1280),
                "attention_head_dim": (5, 10, 20),
                "cross_attention_dim": 2048,
                "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
                "transformer_layers_per_block": (1, 2, 10),
                "use_linear_projection": True,
                "addition_embed_type": "text_time",
                "addition_time_embed_dim": 256,
                "projection_class_embeddings_input_dim": 2816,
            },
        ),
    ],
)
def test_the_published_shapes_give_their_configurations(family: str, config: dict[str, object]) -> None:
    def shapes_of(net: nn.Module) -> dict[str, tuple[int, ...]]:
        return {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}

    with torch.device("meta"):
        net = ControlNetModel(**config)
        made = controlnet_config(shapes_of(net), FAMILIES[family].unet)
        again = ControlNetModel.from_config(made)
    assert shapes_of(again) == shapes_of(net)
    for name in config:
        theirs, ours = net.config[name], again.config[name]
        assert ours == theirs or tuple(ours) == tuple(theirs), name
