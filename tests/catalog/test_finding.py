"""Models are found where people keep them, under the names they know, whatever else lies there."""

import json
import logging
import os
from pathlib import Path

import pytest

from catalog.models import ModelEntry, Scanner, scan
from tests.support import layouts
from tests.support.lora_layouts import down_up, kohya, unet_modules
from tests.support.model_folders import make_model, write_safetensors

LORA = down_up(kohya("lora_unet_", unet_modules("sd1", only="attn2")), 1)
VAE = layouts.ldm_vae()
EMBEDDING: layouts.Shapes = {"emb_params": (2, 768)}
UPSCALER: layouts.Shapes = {"conv_first.weight": (64, 3, 3, 3)}
HYPERNETWORK: layouts.Shapes = {"768.0.linear.0.weight": (1536, 768)}


def put(path: Path, shapes: layouts.Shapes | None = None, **metadata: str) -> Path:
    return layouts.write(path, EMBEDDING if shapes is None else shapes, metadata)


def names(*roots: Path) -> set[tuple[str, str]]:
    return {(entry.ref.kind, entry.ref.name) for entry in scan(roots)}


def only(root: Path) -> ModelEntry:
    (entry,) = scan([root])
    return entry


def test_the_folders_of_a1111_and_forge(tmp_path: Path) -> None:
    models = tmp_path / "webui" / "models"
    put(models / "Stable-diffusion" / "people" / "dream.safetensors", layouts.checkpoint("sd1"))
    put(models / "Lora" / "ink" / "old.safetensors", LORA)
    put(models / "LyCORIS" / "pen.safetensors", LORA)
    put(models / "VAE" / "mse.safetensors", VAE)
    put(models / "ESRGAN" / "4x.safetensors", UPSCALER)
    put(models / "hypernetworks" / "anime.safetensors", HYPERNETWORK)
    put(models.parent / "embeddings" / "easy.safetensors")
    put(models.parent / "outputs" / "not" / "looked" / "at.safetensors")
    (models.parent / "webui.py").touch()
    expected = {
        ("checkpoint", "people/dream"),
        ("lora", "ink/old"),
        ("lora", "pen"),
        ("vae", "mse"),
        ("upscaler", "4x"),
        ("hypernetwork", "anime"),
    }
    assert names(models.parent) == expected | {("embedding", "easy")}
    assert names(models) == expected
    assert names(models / "Lora") == {("lora", "ink/old")}


def test_the_folders_of_comfyui(tmp_path: Path) -> None:
    put(tmp_path / "models" / "checkpoints" / "xl" / "big.safetensors", layouts.checkpoint("sdxl"))
    put(tmp_path / "models" / "loras" / "ink.safetensors", LORA)
    put(tmp_path / "models" / "embeddings" / "easy.safetensors")
    put(tmp_path / "models" / "upscale_models" / "4x.safetensors", UPSCALER)
    put(tmp_path / "models" / "clip_vision" / "h.safetensors", {"vision_model.embeddings.class_embedding": (1280,)})
    put(tmp_path / "models" / "text_encoders" / "t5.safetensors", {"fc.weight": (1, 1)})
    (tmp_path / "custom_nodes" / "models").mkdir(parents=True)
    put(tmp_path / "custom_nodes" / "models" / "x.safetensors")
    assert names(tmp_path) == {("checkpoint", "xl/big"), ("lora", "ink"), ("embedding", "easy"), ("upscaler", "4x")}


def test_extra_model_paths_are_read(tmp_path: Path) -> None:
    put(tmp_path / "forge" / "models" / "Lora" / "ink.safetensors", LORA)
    put(tmp_path / "forge" / "models" / "LyCORIS" / "pen.safetensors", LORA)
    put(tmp_path / "forge" / "embeddings" / "easy.safetensors")
    put(tmp_path / "vaes" / "mse.safetensors", VAE)
    (tmp_path / "comfy" / "models").mkdir(parents=True)
    extra = tmp_path / "comfy" / "extra_model_paths.yaml"
    extra.write_text(
        "a111:\n  base_path: ../forge/\n  is_default: true\n  loras: |\n    models/Lora\n    models/LyCORIS\n"
        "  embeddings: embeddings\n  custom_nodes: nodes\nother:\n  vae: ../vaes\nnothing:\n"
    )
    expected = {("lora", "ink"), ("lora", "pen"), ("embedding", "easy"), ("vae", "mse")}
    assert names(tmp_path / "comfy") == names(tmp_path / "comfy" / "models") == names(extra) == expected


@pytest.mark.parametrize(
    "text",
    [
        b"a: [",
        b"\xff\xfe",
        b"- just\n- a list",
        b"a: !!python/object/apply:os.system [x]",
        b"x: 1",
        b"a:\n  loras: 5\n  base_path: [1]",
        b"[" * 50_000,
        b"",
    ],
)
def test_a_strange_file_of_paths_names_none(tmp_path: Path, text: bytes) -> None:
    put(tmp_path / "easy.safetensors")
    (tmp_path / "extra_model_paths.yaml").write_bytes(text)
    assert names(tmp_path) == {("embedding", "easy")}


def test_a_folder_never_says_what_a_file_is(tmp_path: Path) -> None:
    put(tmp_path / "Stable-diffusion" / "mse.safetensors", VAE)
    put(tmp_path / "Lora" / "easy.safetensors")
    assert names(tmp_path) == {("vae", "mse"), ("embedding", "easy")}


def test_what_is_no_model_is_said_where_one_is_expected_and_else_left_out(tmp_path: Path) -> None:
    put(tmp_path / "checkpoints" / "te.safetensors", layouts.clip_text())
    put(tmp_path / "Lora" / "thing.safetensors", {"fc.weight": (10, 10)})
    put(tmp_path / "thing.safetensors", {"fc.weight": (10, 10)})
    found = {entry.ref.kind: entry for entry in scan([tmp_path])}
    assert set(found) == {"checkpoint", "lora"}
    assert found["checkpoint"].problem == "te.safetensors is a text encoder, no checkpoint."
    assert found["lora"].problem == "thing.safetensors is no LoRA that is known."


@pytest.mark.parametrize(
    ("place", "kind"),
    [
        ("old.ckpt", "checkpoint"),
        ("Stable-diffusion/old.ckpt", "checkpoint"),
        ("checkpoints/old.pt", "checkpoint"),
        ("Lora/old.pt", "lora"),
        ("VAE/old.pt", "vae"),
        ("embeddings/old.bin", "embedding"),
        ("ESRGAN/old.pth", "upscaler"),
        ("hypernetworks/old.pt", "hypernetwork"),
        ("quarantine/lora/old.pt", "lora"),
        ("ControlNet/old.pth", "controlnet"),
    ],
)
def test_ck01_a_pickle_is_listed_with_its_problem_and_never_opened(tmp_path: Path, place: str, kind: str) -> None:
    path = tmp_path / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"PK\x03\x04 not looked at")
    path.chmod(0)
    entry = only(tmp_path)
    assert (entry.ref.kind, entry.format, entry.title) == (kind, "pickle", "old")
    assert entry.problem == f"{path.name} can run code when opened."
    assert entry.hint == "Convert it to safetensors; Darkroom can do that."


def test_pickles_elsewhere_and_unfinished_files_are_not_listed(tmp_path: Path) -> None:
    for name in (
        "annotators/hed.pth",
        "VAE-approx/model.pt",
        "file.pt",
        "file.bin",
        "Lora/x.safetensors.part",
        "Lora/x.safetensors.crdownload",
        "Lora/x.part/model.safetensors",
        "Lora/.hidden.safetensors",
    ):
        write_safetensors(tmp_path / name)
    assert scan([tmp_path]) == ()


def test_ck35_36_folders_and_pipes_with_a_models_name_are_ignored(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").mkdir()
    os.mkfifo(tmp_path / "pipe.safetensors")
    put(tmp_path / "Lora" / "easy.safetensors")
    assert names(tmp_path) == {("embedding", "easy")}


def test_ck38_links_are_followed_within_the_folders_and_else_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    roots = [tmp_path / "models", tmp_path / "more"]
    put(tmp_path / "more" / "big.safetensors")
    secret = put(tmp_path / "elsewhere" / "secret.safetensors")
    (tmp_path / "models" / "Lora").mkdir(parents=True)
    links = {
        "inside.safetensors": tmp_path / "more" / "big.safetensors",
        "outside.safetensors": secret,
        "dangling.safetensors": tmp_path / "gone.safetensors",
        "loop": tmp_path / "models",
        "self": tmp_path / "models" / "Lora" / "self",
        "folder": secret.parent,
    }
    for name, target in links.items():
        (tmp_path / "models" / "Lora" / name).symlink_to(target)
    scanner = Scanner(roots)
    with caplog.at_level(logging.INFO):
        assert {entry.ref.name for entry in scanner.scan()} == {"inside", "big"}
        said = caplog.text
        scanner.scan()
    assert caplog.text == said
    for name in ("outside.safetensors", "dangling.safetensors", "loop", "self", "folder"):
        assert f"/{name} " in said
    assert f"--models {secret.parent}" in said


def test_of_two_with_one_name_both_have_a_name(tmp_path: Path) -> None:
    put(tmp_path / "Lora" / "ink.safetensors", LORA)
    put(tmp_path / "LyCORIS" / "ink.safetensors", LORA)
    put(tmp_path / "VAE" / "ink.safetensors", VAE)
    assert names(tmp_path) == {("lora", "ink"), ("lora", "LyCORIS/ink"), ("vae", "ink")}


def test_safetensors_come_before_a_pickle_of_the_same_name(tmp_path: Path) -> None:
    put(tmp_path / "VAE" / "mse.safetensors", VAE)
    (tmp_path / "VAE" / "mse.ckpt").write_bytes(b"x")
    assert [(entry.format, entry.problem) for entry in scan([tmp_path])] == [("file", None)]


def test_a_name_that_no_recipe_can_hold_is_left_out(tmp_path: Path) -> None:
    put(tmp_path / ("a" * 120) / ("b" * 120) / ("c" * 120 + ".safetensors"))
    with open(os.fsencode(tmp_path) + b"/\xff\xfe.safetensors", "wb") as file:
        file.write(b"x")
    put(tmp_path / "easy.safetensors")
    assert names(tmp_path) == {("embedding", "easy")}


def test_an_entry_says_where_it_lies_and_what_is_beside_it(tmp_path: Path) -> None:
    path = put(
        tmp_path / "Lora" / "ink" / "old.safetensors", LORA, ss_output_name="Old Ink", ss_base_model_version="sd_v1"
    )
    (path.parent / "old.preview.png").write_bytes(b"x")
    (path.parent / "old.json").write_text(json.dumps({"activation text": "ink wash", "notes": "Use 0.8."}))
    entry = only(tmp_path)
    assert (entry.ref.name, entry.title, entry.alias, entry.folder) == ("ink/old", "old", "Old Ink", "ink")
    assert (entry.format, entry.detail, entry.ref.family) == ("file", "LoRA", "sd1")
    assert entry.preview_path == path.parent / "old.preview.png"
    assert (entry.trigger_words, entry.notes) == (("ink wash",), "Use 0.8.")
    assert entry.modified == path.stat().st_mtime and entry.size_bytes == path.stat().st_size
    assert len(entry.ref.fingerprint) == 16


def test_a_file_that_is_called_like_all_of_its_kind_has_its_folders_name(tmp_path: Path) -> None:
    put(tmp_path / "loras" / "sketch" / "pytorch_lora_weights.safetensors", LORA)
    put(tmp_path / "loras" / "adapter_model.safetensors", LORA)
    assert {entry.ref.name: entry.title for entry in scan([tmp_path])} == {
        "sketch/pytorch_lora_weights": "sketch",
        "adapter_model": "loras",
    }


def test_what_did_not_change_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(tmp_path / "easy.safetensors")
    make_model(tmp_path, "starter")
    scanner = Scanner([tmp_path])
    first = scanner.scan()

    def again(*arguments: object) -> None:
        raise AssertionError(f"{arguments} is looked into again")

    with monkeypatch.context() as patch:
        patch.setattr("catalog.models.read_facts", again)
        patch.setattr("catalog.models.describe_folder", again)
        assert scanner.scan() == first
        known = Scanner([tmp_path], scanner.known)
        patch.setattr("catalog.models.describe_folder", lambda found: None)
        assert [entry.ref.name for entry in known.scan()] == ["easy"]
    put(path, {"emb_params": (2, 1024)})
    (tmp_path / "easy.txt").write_text("New words.")
    make_model(tmp_path, "starter", title="New")
    found = {entry.ref.name: entry for entry in scanner.scan()}
    assert (found["easy"].ref.family, found["easy"].notes, found["starter"].title) == ("sd2", "New words.", "New")
    path.unlink()
    assert {entry.ref.name for entry in scanner.scan()} == {"starter"}
