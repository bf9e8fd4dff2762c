"""Models are found by what their files say, and a bad one is listed with its reason."""

import json
from pathlib import Path

import pytest

from catalog.models import ModelEntry, describe, scan
from tests.support import layouts
from tests.support.model_folders import make_model, write_safetensors


def only(root: Path) -> ModelEntry:
    entries = scan([root])
    assert len(entries) == 1
    return entries[0]


def change(folder: Path, path: str, **values: object) -> None:
    data = json.loads((folder / path).read_text())
    (folder / path).write_text(json.dumps(data | values))


def test_a_folder_says_what_it_is(tmp_path: Path) -> None:
    make_model(tmp_path, "art/ink", title="Ink", words=("red", "Barn "), defaults={"guidance": 4.0}, zero_snr=True)
    entry = only(tmp_path)
    assert (entry.ref.name, entry.title, entry.ref.family, entry.problem) == ("art/ink", "Ink", "sd1", None)
    assert entry.words == {"red", "barn"} and entry.zero_snr and entry.defaults.guidance == 4.0
    assert entry.sizes == {"square": (64, 64)} and len(entry.ref.fingerprint) == 16


def test_families_are_told_by_configuration(tmp_path: Path) -> None:
    change(make_model(tmp_path, "two"), "unet/config.json", cross_attention_dim=1024)
    assert only(tmp_path).ref.family == "sd2"


def test_the_fingerprint_changes_with_the_weights(tmp_path: Path) -> None:
    make_model(tmp_path)
    first = only(tmp_path).ref.fingerprint
    assert only(tmp_path).ref.fingerprint == first
    make_model(tmp_path, seed=1)
    assert only(tmp_path).ref.fingerprint != first


def _split(folder: Path) -> None:
    """Shards, and an index that would name a file elsewhere."""
    (folder / "unet/diffusion_pytorch_model.safetensors").unlink()
    (folder / "unet/diffusion_pytorch_model.safetensors.index.json").write_text(
        '{"weight_map": {"a": "../../x", "b": 5}}'
    )


def _pickle(folder: Path) -> None:
    (folder / "unet/diffusion_pytorch_model.safetensors").unlink()
    (folder / "unet/diffusion_pytorch_model.bin").write_bytes(b"\x80\x02")


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda f: (f / "None.py").write_text("x"), "Python code"),
        (_pickle, "pickle"),
        (_split, "does not say which tensor is in which file"),
        (lambda f: (f / "vae/diffusion_pytorch_model.safetensors").unlink(), "vae has no weights (.safetensors)"),
        (lambda f: (f / "unet/config.json").write_text("{"), "unet/config.json can't be read as JSON"),
        (lambda f: (f / "unet/config.json").write_text("[]"), "is not a table"),
        (lambda f: (f / "unet/config.json").write_text("[" * 100_000), "can't be read as JSON"),
        (lambda f: (f / "unet/config.json").unlink(), "unet/config.json is missing"),
        (lambda f: change(f, "unet/config.json", in_channels=7), "7 channels"),
        (lambda f: change(f, "model_index.json", text_encoder_2=["a", "b"]), "text_encoder_2 is missing"),
        (
            lambda f: change(f, "model_index.json", transformer=["diffusers", "SD3Transformer2DModel"]),
            "transformer/config.json is missing",
        ),
        (
            lambda f: change(f, "model_index.json", transformer=["diffusers", "FluxTransformer2DModel"]),
            "It is Flux, which",
        ),
        (lambda f: change(f, "model_index.json", transformer=["x", "Y"]), "not known here"),
        (lambda f: change(f, "unet/config.json", in_channels=[4]), "“in_channels” is [4], not a whole number"),
        (
            lambda f: change(f, "model_index.json", text_encoder=None, text_encoder_2=["a", "b"]),
            "text_encoder_2 is missing",
        ),
        (lambda f: change(f, "model_index.json", _class_name="KolorsPipeline"), "It is Kolors, which"),
        (
            lambda f: change(f, "model_index.json", _class_name="StableVideoDiffusionPipeline"),
            "It is Stable Video Diffusion",
        ),
        (lambda f: change(f, "model_index.json", _class_name="OnnxStableDiffusionPipeline"), "in ONNX form"),
    ],
)
def test_a_damaged_model_is_listed_with_its_reason(tmp_path: Path, harm: object, words: str) -> None:
    folder = make_model(tmp_path)
    harm(folder)  # type: ignore[operator]
    entry = only(tmp_path)
    assert entry.problem and words in entry.problem and str(tmp_path) not in entry.problem


def test_hidden_and_half_loaded_things_are_not_listed(tmp_path: Path) -> None:
    make_model(tmp_path, ".cache/x")
    (tmp_path / "model.safetensors.part").write_bytes(b"x")
    (tmp_path / "loop").symlink_to(tmp_path)
    make_model(tmp_path, "a")
    assert next(iter(scan([tmp_path, tmp_path / "nothing"]))).ref.name == "a"


def test_a_folder_that_goes_away_while_it_is_read_upsets_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_model(tmp_path)

    def gone(*arguments: object) -> str:
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr("catalog.detect.folder_models.fingerprint", gone)
    assert only(tmp_path).problem == "starter: It can't be read (No such file or directory)."


def test_the_first_folder_wins_a_name(tmp_path: Path) -> None:
    make_model(tmp_path / "one", "same", title="First")
    make_model(tmp_path / "two", "same", title="Second")
    assert [e.title for e in scan([tmp_path / "one", tmp_path / "two"])] == ["First"]


@pytest.mark.parametrize(
    ("config", "family", "problem"),
    [
        ({"scaling_factor": 0.18215}, "sd", None),
        ({"scaling_factor": 0.13025}, "sdxl", None),
        ({}, "sd", None),
        ({"latent_channels": 16, "scaling_factor": 1.5305}, "sd3", None),
        ({"latent_channels": 16, "scaling_factor": 0.3611}, "unknown", "scaled as those of no family"),
        ({"latent_channels": 32}, "unknown", "32 latent channels"),
    ],
)
def test_a_vae_may_be_a_folder(tmp_path: Path, config: dict[str, object], family: str, problem: str | None) -> None:
    write_safetensors(tmp_path / "VAE" / "mse" / "diffusion_pytorch_model.safetensors")
    (tmp_path / "VAE" / "mse" / "config.json").write_text(json.dumps({"_class_name": "AutoencoderKL", **config}))
    entry = only(tmp_path)
    assert (entry.ref.kind, entry.ref.name, entry.ref.family, entry.format) == ("vae", "mse", family, "folder")
    assert (problem or "") in (entry.problem or "") and bool(problem) == bool(entry.problem)


@pytest.mark.parametrize(("name", "side"), [("sd1", 512), ("sd2", 768), ("sdxl", 1024)])
def test_a_file_has_the_sizes_of_its_family(tmp_path: Path, name: str, side: int) -> None:
    layouts.write(tmp_path / "a.safetensors", layouts.checkpoint(name))
    entry = only(tmp_path)
    assert (entry.defaults.width, entry.sizes["square"]) == (side, (side, side)) and entry.problem is None


def test_sd2_that_predicts_noise_was_trained_small(tmp_path: Path) -> None:
    layouts.write(tmp_path / "a.safetensors", layouts.checkpoint("sd2"), {"modelspec.prediction_type": "epsilon"})
    assert only(tmp_path).defaults.width == 512


@pytest.mark.parametrize(
    "harm",
    [
        lambda p: p.write_bytes(b""),
        lambda p: p.write_bytes(p.read_bytes()[:5000]),
        lambda p: p.write_bytes(b"\x80\x02}q\0."),
        lambda p: p.chmod(0) or p.unlink(),
    ],
)
def test_a_damaged_file_is_listed_by_its_folder_and_described_all_the_same(tmp_path: Path, harm: object) -> None:
    path = layouts.write(tmp_path / "Lora" / "a.safetensors", {"emb_params": (100, 768)})
    harm(path)  # type: ignore[operator]
    entry = describe(path, "a", "lora")
    assert (entry.ref.kind, entry.ref.family) == ("lora", "unknown") and entry.problem and entry.hint
    assert str(tmp_path) not in entry.problem
    assert [one.problem for one in scan([tmp_path])] == ([entry.problem] if path.exists() else [])


def test_a_unet_alone_finds_its_text_encoders_or_borrows_them(tmp_path: Path) -> None:
    alone = layouts.write(tmp_path / "unet" / "alone.safetensors", layouts.ldm_unet(**layouts.SDXL))  # type: ignore[arg-type]

    def now() -> ModelEntry:
        return describe(alone, "alone")

    assert now().problem == "alone: It has no text encoders inside, and none that fit are in a folder text_encoders."
    assert "Put clip_l.safetensors and clip_g.safetensors" in now().hint and "a whole SDXL checkpoint" in now().hint
    # Of other families, or without a VAE: they can lend nothing.
    layouts.write(tmp_path / "checkpoints" / "small.safetensors", layouts.checkpoint("sd1"))
    layouts.write(tmp_path / "checkpoints" / "half.safetensors", layouts.checkpoint("sdxl", has_vae=False))
    assert now().problem
    layouts.write(tmp_path / "checkpoints" / "one.safetensors", layouts.checkpoint("sdxl"))
    lent = now()
    assert (lent.problem, lent.borrows_vae, lent.has_vae) == (None, True, False)
    assert lent.warnings == ("It uses the text encoders and the VAE of “one”.",)
    layouts.write(tmp_path / "checkpoints" / "two.safetensors", layouts.checkpoint("sdxl"))
    assert now().problem and "Those of “one.safetensors” and “two.safetensors” would fit" in now().hint
    # Files of their own come first, and tell which.
    encoders = tmp_path / "text_encoders"
    layouts.write(encoders / "clip_l.safetensors", layouts.clip_text())
    layouts.write(encoders / "clip_g.safetensors", layouts.clip_text(1280, 32))
    found = now()
    assert (found.problem, found.borrows_vae, found.warnings) == (None, False, ())
    before = found.ref.fingerprint
    (tmp_path / "checkpoints" / "two.safetensors").unlink()
    assert now().warnings == ("It uses the VAE of “one”.",) and now().ref.fingerprint != before
    assert scan([tmp_path])
