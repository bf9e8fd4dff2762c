"""The boundary to insightface: what is asked of the library, and what is said where it or a face is missing."""

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from PIL import Image

from catalog.detect.ip_adapters import FACE_PACK, face_root
from contract.errors import InvalidRecipe, ModelProblem
from engine.adapters.face_id import face_lora, face_of, is_version_2

PICTURE = Image.new("RGB", (64, 48), (200, 100, 50))


class Reader:
    """insightface.app.FaceAnalysis as far as it is used; finds faces at the smallest size only."""

    asked: ClassVar[list[Any]] = []

    def __init__(self, **how: object) -> None:
        self.asked.append(how)

    def prepare(self, ctx_id: int, det_size: tuple[int, int]) -> None:
        assert ctx_id == -1  # the processor
        self.side = det_size[0]

    def get(self, pixels: np.ndarray) -> list[Any]:
        assert pixels.shape == (48, 64, 3) and tuple(pixels[0, 0]) == (50, 100, 200)  # blue first
        small, large = np.zeros(512), np.zeros(512)
        small[0] = large[1] = 1
        return [] if self.side > 160 else [face(small, 10), face(large, 20)]


def face(vector: np.ndarray, side: int) -> Any:
    return SimpleNamespace(normed_embedding=vector, bbox=np.array([0, 0, side, side]), kps=side)


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> None:
    app, align = ModuleType("insightface.app"), ModuleType("insightface.utils.face_align")
    app.FaceAnalysis = Reader  # type: ignore[attr-defined]

    def norm_crop(pixels: np.ndarray, landmark: int, image_size: int) -> np.ndarray:
        assert landmark == 20
        return np.broadcast_to(pixels[:1, :1], (image_size, image_size, 3))

    align.norm_crop = norm_crop  # type: ignore[attr-defined]
    named = {"insightface": ModuleType("insightface"), "insightface.utils": ModuleType("insightface.utils")}
    for name, module in {**named, app.__name__: app, align.__name__: align}.items():
        monkeypatch.setitem(sys.modules, name, module)


def models(folder: Path) -> Path:
    pack = folder / "insightface" / "models" / FACE_PACK
    pack.mkdir(parents=True)
    for name in ("det_10g.onnx", "w600k_r50.onnx"):
        (pack / name).write_bytes(b"x")
    return folder


@pytest.mark.usefixtures("library")
def test_the_largest_face_is_taken_also_where_it_fills_the_picture(tmp_path: Path) -> None:
    root = face_root([tmp_path / "none", models(tmp_path)])
    assert root == tmp_path / "insightface"
    found = face_of(PICTURE, root)
    assert found.vector[1] == 1 and found.crop.size == (224, 224) and found.crop.getpixel((9, 9)) == (200, 100, 50)
    (how,) = Reader.asked
    assert (how["root"], how["name"], how["providers"]) == (str(root), FACE_PACK, ["CPUExecutionProvider"])


@pytest.mark.usefixtures("library")
def test_what_is_missing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelProblem, match="models “buffalo_l” are not here"):
        face_of(PICTURE, face_root([tmp_path]))
    monkeypatch.setattr(Reader, "get", lambda self, pixels: [])
    with pytest.raises(InvalidRecipe, match="No face is found"):
        face_of(PICTURE, tmp_path)
    monkeypatch.setitem(sys.modules, "insightface.app", None)
    with pytest.raises(ModelProblem, match="is not installed"):
        face_of(PICTURE, tmp_path)


def test_a_file_without_a_lora_has_none_and_numbers_are_those_of_attentions() -> None:
    unet = SimpleNamespace(attn_processors={"down_blocks.0.x.attn1.processor": 0, "down_blocks.0.x.attn2.processor": 0})
    assert face_lora({"ip_adapter.1.to_k_ip.weight": torch.ones(1)}, unet) is None
    inside = face_lora({f"ip_adapter.{n}.to_q_lora.up.weight": torch.ones(1) for n in (1, 2, 9)}, unet)
    assert inside is not None
    assert list(inside.state_dict()) == ["unet.down_blocks.0.x.attn2.processor.to_q_lora.up.weight"]


def test_the_second_version_is_known_by_its_name() -> None:
    assert is_version_2("sdxl/ip-adapter-faceid-plusv2_sdxl") and is_version_2("FaceID_Plus_V2")
    assert not is_version_2("ip-adapter-faceid-plus_sd15") and not is_version_2("faceid_v2")
