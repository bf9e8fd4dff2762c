"""Every architecture that spandrel builds is listed as an upscaler, and what it refuses is said once and kept."""

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from spandrel.architectures.Compact import Compact
from spandrel.architectures.DnCNN import DnCNN
from spandrel.architectures.ESRGAN import ESRGAN
from spandrel.architectures.MoSR import MoSR
from spandrel.architectures.NAFNet import NAFNet
from spandrel.architectures.PLKSR import PLKSR, RealPLKSR
from spandrel.architectures.RCAN import RCAN
from spandrel.architectures.RealCUGAN import UpCunet2x
from spandrel.architectures.SAFMN import SAFMN
from spandrel.architectures.SCUNet import SCUNet
from spandrel.architectures.SPAN import SPAN
from spandrel.architectures.Swin2SR import Swin2SR
from spandrel.architectures.SwinIR import SwinIR
from torch import Tensor, nn

from catalog.detect.upscaler_answers import Answer, UpscalerAnswers
from catalog.files.headers import UnreadableModel
from catalog.models import ModelEntry, scan
from contract.errors import ModelProblem
from contract.recipe import ModelRef
from engine.images.upscalers import Upscalers
from studio.library.model_list import ModelList
from tests.engine.conftest import CPU

PHOTO = Image.effect_noise((40, 32), 60).convert("RGB")
BUILT: dict[str, Callable[[], nn.Module]] = {
    "esrgan": lambda: ESRGAN(in_nc=3, out_nc=3, num_filters=8, num_blocks=1, scale=2),
    "compact": lambda: Compact(num_feat=8, num_conv=2, upscale=2),
    "realcugan": lambda: UpCunet2x(),
    "mosr": lambda: MoSR(upscale=2, n_block=1, dim=8),
    "span": lambda: SPAN(num_in_ch=3, num_out_ch=3, feature_channels=8, upscale=2),
    "plksr": lambda: PLKSR(dim=16, n_blocks=1, upscaling_factor=2),
    "realplksr": lambda: RealPLKSR(dim=16, n_blocks=1, upscaling_factor=2),
    "safmn": lambda: SAFMN(dim=8, n_blocks=1, upscaling_factor=2),
    "scunet": lambda: SCUNet(dim=64, config=[1, 1, 1, 1, 1, 1, 1]),
    "swinir": lambda: SwinIR(
        embed_dim=12, depths=[2, 2], num_heads=[2, 2], window_size=8, upscale=2, upsampler="pixelshuffledirect"
    ),
    "swin2sr": lambda: Swin2SR(
        embed_dim=12, depths=[2, 2], num_heads=[2, 2], window_size=8, upscale=2, upsampler="pixelshuffledirect"
    ),
    "rcan": lambda: RCAN(scale=2, n_resgroups=1, n_resblocks=1, n_feats=16),
    "nafnet": lambda: NAFNet(width=4, enc_blk_nums=[1, 1], dec_blk_nums=[1, 1]),
    "dncnn": lambda: DnCNN(in_nc=3, out_nc=3, nc=8, nb=17),
}


def weights(name: str) -> dict[str, Tensor]:
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, about how some are written
        return {key: tensor.contiguous() for key, tensor in BUILT[name]().state_dict().items()}


def put(path: Path, tensors: dict[str, Tensor]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.clone() for name, tensor in tensors.items()}, path)
    return path


def only(root: Path) -> ModelEntry:
    (entry,) = scan([root])
    return entry


def upscaled(upscalers: Upscalers, ref: ModelRef, path: Path) -> np.ndarray:
    *_, (_, _, made) = upscalers.upscale(PHOTO, ref, (80, 64), str(path), tile=64, overlap=8)
    assert made is not None
    return np.asarray(made)


@pytest.mark.parametrize("name", BUILT)
@pytest.mark.parametrize("folder", ["upscale_models", "somewhere"])
def test_an_architecture_is_listed_and_enlarges_wherever_it_lies(tmp_path: Path, name: str, folder: str) -> None:
    path = put(tmp_path / folder / f"{name}.safetensors", weights(name))
    entry = only(tmp_path)
    assert (entry.ref.kind, entry.problem) == ("upscaler", None)
    if folder == "upscale_models":
        assert upscaled(Upscalers(CPU), entry.ref, path).shape == (64, 80, 3)


@pytest.mark.parametrize(
    "prefix", ["module.", "params_ema.", "params.", "netG.", "state_dict.", "net_g.", "params_ema.module."]
)
def test_what_programs_put_before_all_names_is_taken_off(tmp_path: Path, prefix: str) -> None:
    path = put(tmp_path / "x.safetensors", {prefix + name: tensor for name, tensor in weights("esrgan").items()})
    entry = only(tmp_path)
    assert (entry.ref.kind, entry.problem) == ("upscaler", None)
    assert upscaled(Upscalers(CPU), entry.ref, path).shape == (64, 80, 3)


def test_what_spandrel_says_is_listed_from_then_on(tmp_path: Path) -> None:
    answers = tmp_path / "cache"
    path = put(tmp_path / "models" / "upscalers" / "x.safetensors", weights("esrgan"))
    models = ModelList((tmp_path / "models",), answers=UpscalerAnswers(answers))
    ref = models.all(fresh=True)[0].ref
    assert models.all(fresh=True)[0].detail == ""
    upscaled(Upscalers(CPU, UpscalerAnswers(answers)), ref, path)
    assert models.all(fresh=True)[0].detail == "ESRGAN ×2"


def test_a_refusal_is_kept_for_the_file_as_it_is_and_no_longer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = tmp_path / "cache"
    path = put(tmp_path / "models" / "ESRGAN" / "x.safetensors", {"stem.conv.weight": torch.zeros(4, 3, 3, 3)})
    models = ModelList((tmp_path / "models",), answers=UpscalerAnswers(answers))
    entry = models.all(fresh=True)[0]
    assert (entry.ref.kind, entry.problem) == ("upscaler", None)  # a candidate
    with pytest.raises(ModelProblem, match="x is no upscaler that is known"):
        upscaled(Upscalers(CPU, UpscalerAnswers(answers)), entry.ref, path)
    listed = models.all(fresh=True)[0]
    assert listed.problem == "x is no upscaler that is known here." and "OpenModelDB" in listed.hint
    generation = models.generation
    assert models.get("x", "upscaler") == listed  # known before a job is queued, and no reason to scan again
    assert models.all() and models.generation == generation
    with monkeypatch.context() as patch:
        patch.setattr("engine.images.upscalers.read_upscaler", lambda *_: pytest.fail("it is asked again"))
        with pytest.raises(ModelProblem, match="x is no upscaler that is known"):
            upscaled(Upscalers(CPU, UpscalerAnswers(answers)), entry.ref, path)
    before = path.stat()
    put(path, weights("esrgan"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert models.all(fresh=True)[0].problem is None
    assert upscaled(Upscalers(CPU, UpscalerAnswers(answers)), entry.ref, path).shape == (64, 80, 3)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
        torch.OutOfMemoryError(),
        OSError(5, "Input/output error"),
        UnreadableModel("x.safetensors can't be read (Input/output error)."),
    ],
)
def test_what_says_nothing_of_the_file_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    path = put(tmp_path / "upscalers" / "x.safetensors", weights("esrgan"))
    entry, answers = only(tmp_path), UpscalerAnswers(tmp_path / "cache")

    def fail(path: Path) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr("engine.images.upscalers.load_file", fail)
        with pytest.raises(type(error)):
            upscaled(Upscalers(CPU, answers), entry.ref, path)
    assert answers.of(path) is None
    assert upscaled(Upscalers(CPU, answers), entry.ref, path).shape == (64, 80, 3)


def test_an_answer_of_an_earlier_catalog_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(tmp_path / "x.safetensors", weights("esrgan"))
    with monkeypatch.context() as patch:
        patch.setattr("catalog.detect.upscaler_answers.facts_version", lambda: "before")
        UpscalerAnswers(tmp_path / "cache").keep(path, Answer(problem="is none."))
        assert UpscalerAnswers(tmp_path / "cache").of(path) is not None
    assert UpscalerAnswers(tmp_path / "cache").of(path) is None


def test_what_needs_more_than_a_picture_is_said_by_its_name(tmp_path: Path) -> None:
    path = put(
        tmp_path / "upscalers" / "x.safetensors",
        {"model.model.1.bn_l.running_mean": torch.zeros(4), "a": torch.zeros(1, 1, 1, 1)},
    )
    entry = only(tmp_path)
    with pytest.raises(ModelProblem, match="x .*LaMa"):
        upscaled(Upscalers(CPU), entry.ref, path)


@pytest.mark.parametrize("data", [b"", b"[]", b'{"x": 5}', b"{", b'{"x": {"stamp": 5}}'])
def test_kept_answers_that_make_no_sense_are_asked_again(tmp_path: Path, data: bytes) -> None:
    path = put(tmp_path / "models" / "upscalers" / "x.safetensors", weights("compact"))
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "upscalers.json").write_bytes(data.replace(b'"x"', f'"{path}"'.encode()))
    answers = UpscalerAnswers(tmp_path / "cache")
    assert answers.of(path) is None
    ref: Any = only(tmp_path / "models").ref
    upscaled(Upscalers(CPU, answers), ref, path)
    assert answers.of(path) is not None
