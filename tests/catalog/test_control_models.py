"""ControlNets and adapters are told by what their files say; checkpoints stay apart from them."""

import json
import struct
from pathlib import Path

import pytest

from catalog.detect.control_models import refuse_other_family
from catalog.models import ModelEntry, default_model, scan
from contract.errors import InvalidRecipe
from contract.values import ModelRef
from tests.support.model_folders import make_model, write_safetensors


def make_control(root: Path, name: str = "control", **config: object) -> Path:
    folder = root / name
    write_safetensors(folder / "diffusion_pytorch_model.safetensors")
    (folder / "config.json").write_text(json.dumps({"_class_name": "ControlNetModel", **config}))
    return folder


def make_ip_adapter(path: Path, width: int = 768, layers: int = 16, taken: int = 1024, **more: list[int]) -> Path:
    """A file whose header is an IP-Adapter's; its numbers are zeros."""
    shapes: dict[str, list[int]] = {"image_proj.proj.weight": [4, taken], **more} if taken else dict(more)
    for number in range(layers):
        shapes[f"ip_adapter.{2 * number + 1}.to_k_ip.weight"] = [1, width]
        shapes[f"ip_adapter.{2 * number + 1}.to_v_ip.weight"] = [1, width]
    header, end = {}, 0
    for key, shape in shapes.items():
        size = 2 * shape[0] * shape[1]
        header[key] = {"dtype": "F16", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    raw = json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + bytes(end))
    return path


def make_encoder(folder: Path, projection: int = 1024, hidden: int = 1280) -> Path:
    write_safetensors(folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"projection_dim": projection, "hidden_size": hidden}))
    return folder


def only(root: Path) -> ModelEntry:
    (entry,) = scan([root])
    return entry


@pytest.mark.parametrize(
    ("config", "kind", "family"),
    [
        ({"cross_attention_dim": 768}, "controlnet", "sd1"),
        ({"cross_attention_dim": 1024}, "controlnet", "sd2"),
        ({"cross_attention_dim": 2048, "addition_embed_type": "text_time"}, "controlnet", "sdxl"),
        ({"_class_name": "ControlNetXSAdapter", "cross_attention_dim": 1024}, "controlnet", "sd2"),
        ({"_class_name": "ControlNetXSAdapter", "cross_attention_dim": 2048}, "controlnet", "sdxl"),
        ({"_class_name": "SD3ControlNetModel", "num_attention_heads": 24}, "controlnet", "sd3"),
        ({"_class_name": "T2IAdapter", "adapter_type": "full_adapter"}, "t2i_adapter", "sd1"),
        ({"_class_name": "T2IAdapter", "adapter_type": "full_adapter_xl"}, "t2i_adapter", "sdxl"),
    ],
)
def test_kind_and_family_are_told_by_configuration(
    tmp_path: Path, config: dict[str, object], kind: str, family: str
) -> None:
    make_control(tmp_path, **config)
    entry = only(tmp_path)
    assert (entry.ref.kind, entry.ref.family, entry.problem) == (kind, family, None)
    assert entry.size_bytes and len(entry.ref.fingerprint) == 16


def test_a_union_model_says_what_its_maps_may_show(tmp_path: Path) -> None:
    make_control(tmp_path, _class_name="ControlNetUnionModel", num_control_type=6, addition_embed_type="text_time")
    assert only(tmp_path).control_type == ("pose", "depth", "soft_edges", "lines", "normals", "segments")


@pytest.mark.parametrize(("width", "layers", "family"), [(768, 16, "sd1"), (1024, 16, "sd2"), (2048, 70, "sdxl")])
def test_an_ip_adapter_is_a_file_with_its_encoder_beside_it(
    tmp_path: Path, width: int, layers: int, family: str
) -> None:
    make_ip_adapter(tmp_path / "adapters" / "plain.safetensors", width, layers)
    make_encoder(tmp_path / "adapters" / "image_encoder")
    entry = only(tmp_path)
    assert (entry.ref.name, entry.ref.kind, entry.ref.family) == ("adapters/plain", "ip_adapter", family)
    assert entry.problem is None


def test_the_encoder_may_lie_in_a_sibling_and_must_have_the_right_width(tmp_path: Path) -> None:
    make_ip_adapter(tmp_path / "sdxl_models" / "vit-h.safetensors", 2048, 70)
    make_encoder(tmp_path / "sdxl_models" / "image_encoder", projection=1280)
    assert "1024 wide" in str(only(tmp_path).problem)
    make_encoder(tmp_path / "models" / "image_encoder")
    assert only(tmp_path).problem is None


KINDS = {
    # what its file has beside the layers -> what it is called, the encoder it takes, what that is called
    "plain": ({"image_proj.proj.weight": [4, 1024]}, "", (1280, 1024), "ViT-H/14"),
    "plain SDXL": ({"image_proj.proj.weight": [4, 1280]}, "", (1664, 1280), "ViT-bigG/14"),
    "plus": ({"image_proj.latents": [1, 16], "image_proj.proj_in.weight": [4, 1280]}, "Plus", (1280, 1024), "ViT-H/14"),
    "plus of bigG": (
        {"image_proj.latents": [1, 16], "image_proj.proj_in.weight": [4, 1664]},
        "Plus",
        (1664, 1280),
        "ViT-bigG/14",
    ),
    "full face": (
        {"image_proj.proj.0.weight": [4, 1280], "image_proj.proj.3.weight": [1, 4], "image_proj.proj.2.bias": [1, 4]},
        "Full face",
        (1280, 1024),
        "ViT-H/14",
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_asks_for_the_encoder_it_was_trained_with(tmp_path: Path, kind: str) -> None:
    """ViT-H's patches are as wide as ViT-bigG's pictures, so the width alone does not tell."""
    shapes, label, (hidden, projection), name = KINDS[kind]
    make_ip_adapter(tmp_path / "ip" / "one.safetensors", 768, 16, 0, **shapes)
    missing = only(tmp_path)
    assert missing.problem and f"CLIP {name} of LAION, is missing" in missing.problem and missing.hint
    wrong = {1280: (1664, 1280), 1664: (1280, 1024)}[hidden]
    make_encoder(tmp_path / "ip" / "image_encoder", projection=wrong[1], hidden=wrong[0])
    assert f"(CLIP {name} of LAION), which “image_encoder” does not" in str(only(tmp_path).problem)
    make_encoder(tmp_path / "other" / "image_encoder", projection=projection, hidden=hidden)
    found = only(tmp_path)
    assert (found.problem, found.detail, found.ref.family) == (None, label, "sd1")


def test_faceid_alone_takes_no_picture_and_plus_the_same_encoder(tmp_path: Path) -> None:
    lora = {"ip_adapter.0.to_k_lora.down.weight": [1, 1]}
    vector = {"image_proj.proj.0.weight": [4, 512], "image_proj.norm.weight": [1, 4], **lora}
    make_ip_adapter(tmp_path / "ip" / "one.safetensors", 768, 16, 0, **vector)
    assert (only(tmp_path).detail, only(tmp_path).problem) == ("FaceID", None)
    plus = {**vector, "image_proj.perceiver_resampler.proj_in.weight": [4, 1280]}
    make_ip_adapter(tmp_path / "ip" / "one.safetensors", 768, 16, 0, **plus)
    assert "CLIP ViT-H/14 of LAION, is missing" in str(only(tmp_path).problem)
    make_encoder(tmp_path / "ip" / "image_encoder")
    assert (only(tmp_path).detail, only(tmp_path).problem) == ("FaceID Plus", None)


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        ({"image_proj.latents": [1, 16], "image_proj.proj_in.weight": [4, 512]}, "InstantID"),
        ({"image_proj.strange.weight": [4, 4]}, "of a kind that is not known"),
    ],
)
def test_kinds_that_are_not_run_are_named(tmp_path: Path, shapes: dict[str, list[int]], words: str) -> None:
    make_ip_adapter(tmp_path / "one.safetensors", 768, 16, 0, **shapes)
    make_encoder(tmp_path / "image_encoder")
    found = only(tmp_path)
    assert found.ref.kind == "ip_adapter" and words in str(found.problem) and found.hint


@pytest.mark.parametrize(
    ("more", "has_encoder", "words"),
    [
        ({}, False, "The encoder of its pictures, CLIP ViT-H/14 of LAION, is missing"),
        ({}, True, ", which “image_encoder” does not"),
    ],
)
def test_an_ip_adapter_that_cannot_be_used_says_why(
    tmp_path: Path, more: dict[str, list[int]], has_encoder: bool, words: str
) -> None:
    make_ip_adapter(tmp_path / "ip" / "plain.safetensors", **more)
    if has_encoder:
        make_encoder(tmp_path / "ip" / "image_encoder", 99, 98)
    entry = only(tmp_path)
    assert entry.ref.kind == "ip_adapter" and words in str(entry.problem)


def test_a_damaged_control_is_no_damaged_checkpoint(tmp_path: Path) -> None:
    (make_control(tmp_path) / "diffusion_pytorch_model.safetensors").write_bytes(b"")
    entry = only(tmp_path)
    assert entry.ref.kind == "controlnet" and "empty" in str(entry.problem)


def test_a_control_is_never_the_default_model(tmp_path: Path) -> None:
    make_control(tmp_path, "a")
    assert default_model(scan([tmp_path])) is None
    make_model(tmp_path, "b")
    model = default_model(scan([tmp_path]))
    assert model is not None and model.ref.name == "b"


def test_the_weights_of_a_checkpoint_are_no_models_of_their_own(tmp_path: Path) -> None:
    make_control(make_model(tmp_path), "controlnet")
    assert only(tmp_path).ref.kind == "checkpoint"


def test_another_family_is_refused_in_one_sentence_that_names_both() -> None:
    canny = ModelRef(kind="controlnet", name="canny", family="sdxl")
    with pytest.raises(InvalidRecipe) as caught:
        refuse_other_family(canny, ModelRef(name="dream", family="sd1"))
    assert caught.value.message == "ControlNet “canny” is for SDXL; “dream” is SD 1.x."
    assert "checkpoint for SDXL" in caught.value.hint and caught.value.code == "invalid_controls_model"


def write_names(path: Path, *names: str, width: int = 768) -> None:
    header = {
        name: {"dtype": "F16", "shape": [1, width], "data_offsets": [2 * width * n, 2 * width * (n + 1)]}
        for n, name in enumerate(names)
    }
    raw = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + bytes(2 * width * len(names)))


@pytest.mark.parametrize(
    ("names", "width", "family", "words"),
    [
        (
            ("control_model.input_hint_block.0.weight", "control_model.input_blocks.1.1.x.attn2.to_k.weight"),
            768,
            "sd1",
            "",
        ),
        (("controlnet_cond_embedding.conv_in.weight", "down_blocks.0.attn2.to_k.weight"), 1024, "sd2", ""),
        (("controlnet_cond_embedding.conv_in.weight", "add_embedding.linear_1.weight"), 8, "sdxl", ""),
        (("control_model.input_hint_block.0.weight", "control_model.label_emb.0.0.weight"), 8, "unknown", "for SDXL"),
        (("input_hint_block.0.weight", "lora_controlnet"), 8, "sd1", ""),
    ],
)
def test_a_controlnet_may_be_one_file(
    tmp_path: Path, names: tuple[str, ...], width: int, family: str, words: str
) -> None:
    write_names(tmp_path / "canny.safetensors", *names, width=width)
    entry = only(tmp_path)
    assert (entry.ref.kind, entry.ref.name, entry.ref.family) == ("controlnet", "canny", family)
    assert words in (entry.problem or "") and bool(words) == bool(entry.problem)
