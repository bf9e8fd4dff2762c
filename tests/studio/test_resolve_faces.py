"""An adapter for faces is refused before the job waits where faces can't be read, and told why."""

import json
from pathlib import Path

import pytest

from catalog.detect.ip_adapters import FACE_PACK
from contract.errors import ModelProblem
from contract.recipe import IpAdapter, RecipeDraft
from studio.library.model_list import ModelList
from studio.resolve.draft import resolve
from studio.resolve.model_finder import Finder
from tests.catalog.test_control_models import make_ip_adapter
from tests.support.model_folders import make_model

PICTURE = {"sha256": "a" * 64}
VECTOR = {"image_proj.proj.0.weight": [4, 512], "image_proj.norm.weight": [1, 4]}


def resolved(root: Path) -> IpAdapter:
    asked = {"prompt": "", "model": "starter", "ip_adapters": [{"image": PICTURE, "model": "faceid"}]}
    draft = RecipeDraft.model_validate_json(json.dumps(asked))
    found = resolve(draft, Finder(ModelList((root,))), max_pixels=2048**2, size_of={PICTURE["sha256"]: (64, 64)}.get)
    return found.recipe.ip_adapters[0]


def test_the_library_and_its_files_are_asked_for_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_model(tmp_path, "starter")
    make_ip_adapter(tmp_path / "faceid.safetensors", 768, 16, 0, **VECTOR)
    monkeypatch.setattr("studio.resolve.controls.find_spec", lambda name: None)
    with pytest.raises(ModelProblem, match="“faceid” is an IP-Adapter FaceID: the library insightface") as refused:
        resolved(tmp_path)
    assert refused.value.code == "invalid_ip_adapters_0_model" or refused.value.field == "ip_adapters.0.model"
    monkeypatch.setattr("studio.resolve.controls.find_spec", lambda name: object())
    with pytest.raises(ModelProblem, match=f"insightface's models “{FACE_PACK}”") as refused:
        resolved(tmp_path)
    assert f"models/annotators/insightface/models/{FACE_PACK}/" in refused.value.hint
    pack = tmp_path / "annotators" / "insightface" / "models" / FACE_PACK
    pack.mkdir(parents=True)
    for name in ("det_10g.onnx", "w600k_r50.onnx"):
        (pack / name).write_bytes(b"x")
    assert resolved(tmp_path).model.name == "faceid"
