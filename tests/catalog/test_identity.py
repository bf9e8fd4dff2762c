"""What makes a model the one it is: its place and every file that decides the picture; and what is kept about files."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from catalog.files.folders import fingerprint, settings_of, stamp_of
from catalog.models import Known, ModelEntry, Scanner, scan
from contract.errors import ModelProblem
from contract.values import ModelKind
from tests.support import layouts, lora_layouts
from tests.support.model_folders import make_controlnet, make_model, write_safetensors

LORA = lora_layouts.down_up(lora_layouts.kohya("lora_unet", lora_layouts.unet_modules("sd1", only="attn1")))
FILES: dict[ModelKind, layouts.Shapes] = {
    "checkpoint": layouts.checkpoint("sd1"),
    "lora": LORA,
    "vae": layouts.ldm_vae(),
    "embedding": {"emb_params": (1, 768)},
}


def same_times(path: Path, change: Callable[[], object]) -> None:
    """A change that a file's size and time don't show, as `cp -p` and archives make them."""
    status = path.stat()
    change()
    assert path.stat().st_size == status.st_size
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text("utf-8")
    assert old in text and len(old) == len(new)
    same_times(path, lambda: path.write_text(text.replace(old, new), "utf-8"))


def replace_weights(path: Path) -> None:
    """Others of the same size, behind the same header."""
    data = path.read_bytes()
    other = path.with_name("other")
    other.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    same_times(path, lambda: os.replace(other, path))


def only(root: Path, kind: ModelKind | None = None) -> ModelEntry:
    (entry,) = (entry for entry in scan([root]) if kind in (None, entry.ref.kind))
    assert entry.problem is None, entry.problem
    return entry


@pytest.mark.parametrize(
    ("is_other", "change"),
    [
        (
            True,
            lambda f: edit(
                f / "scheduler/scheduler_config.json",
                '"rescale_betas_zero_snr": true',
                '"rescale_betas_zero_snr":false',
            ),
        ),
        (True, lambda f: edit(f / "vae/config.json", "0.18", "0.13")),
        (True, lambda f: edit(f / "tokenizer/tokenizer_config.json", "77", "75")),
        (True, lambda f: edit(f / "unet/config.json", '"sample_size": 64', '"sample_size": 96')),
        (True, lambda f: (f / "tokenizer/special_tokens_map.json").write_text("{}")),
        (True, lambda f: (f / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline", "x": 1}')),
        (True, lambda f: replace_weights(f / "unet/diffusion_pytorch_model.safetensors")),
        (True, lambda f: replace_weights(f / "text_encoder/model.safetensors")),
        (False, lambda f: (f / "README.md").write_text("words")),
        (False, lambda f: (f / "darkroom.json").write_text('{"title": "Another name"}')),
        (False, lambda f: (f / "unet/.cache").write_text("words")),
    ],
)
def test_a_folder_is_another_model_with_every_file_that_decides(
    tmp_path: Path, is_other: bool, change: Callable[[Path], object]
) -> None:
    folder = make_model(tmp_path, zero_snr=True)
    (folder / "vae/config.json").write_text('{"scaling_factor": 0.18}')
    (folder / "tokenizer/tokenizer_config.json").write_text('{"model_max_length": 77}')
    (folder / "unet/config.json").write_text('{"in_channels": 4, "cross_attention_dim": 16, "sample_size": 64}')
    scanner = Scanner([tmp_path])
    (before,) = scanner.scan()
    change(folder)
    (after,) = scanner.scan()
    assert scanner.now(before).ref == after.ref
    assert (after.ref.fingerprint != before.ref.fingerprint) is is_other


def test_a_part_that_is_a_link_belongs_to_the_model(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "models")
    shutil.move(folder / "vae", tmp_path / "shared")
    (folder / "vae").symlink_to(tmp_path / "shared", target_is_directory=True)
    (folder / "far").symlink_to("/", target_is_directory=True)  # no part: what it leads to is nobody's
    before = only(tmp_path / "models")
    (tmp_path / "shared/config.json").write_text('{"scaling_factor": 0.5}')
    assert only(tmp_path / "models").ref.fingerprint != before.ref.fingerprint


@pytest.mark.parametrize(
    ("suffix", "text"),
    [(".yaml", 'model:\n  params:\n    parameterization: "v"\n'), (".json", '{"prediction_type": "v_prediction"}')],
)
def test_a_file_is_another_checkpoint_with_the_settings_beside_it(tmp_path: Path, suffix: str, text: str) -> None:
    file = layouts.write(tmp_path / "dream.v1.safetensors", FILES["checkpoint"])
    seen, scanner = [], Scanner([tmp_path])
    side = tmp_path / f"dream.v1{suffix}"
    for change in (
        lambda: None,
        lambda: side.write_text(text),
        lambda: edit(side, "v", "V"),
        side.unlink,
        lambda: side.with_name(f"other{suffix}").write_text(text),
    ):
        change()
        (entry,) = scanner.scan()
        assert entry.path == file
        seen.append(entry.ref.fingerprint)
    assert len(set(seen[:3])) == 3
    assert seen[0] == seen[3] == seen[4]


@pytest.mark.parametrize("kind", ["lora", "vae", "embedding"])
def test_notes_make_no_other_model_of_what_has_no_settings(tmp_path: Path, kind: ModelKind) -> None:
    layouts.write(tmp_path / "ink.safetensors", FILES[kind])
    before = only(tmp_path)
    (tmp_path / "ink.json").write_text('{"notes": "for portraits"}')
    after = only(tmp_path)
    assert (after.notes, after.ref) == ("for portraits", before.ref)


@pytest.mark.parametrize("kind", FILES)
def test_equal_files_in_two_places_are_two_models(tmp_path: Path, kind: ModelKind) -> None:
    first = layouts.write(tmp_path / "a" / "model.safetensors", FILES[kind])
    second = layouts.write(tmp_path / "b" / "model.safetensors", FILES[kind])
    shutil.copystat(first, second)  # as a copy; a real one would write out the hole of gigabytes
    entries = [entry for entry in scan([tmp_path]) if entry.ref.kind == kind]
    assert {entry.ref.name for entry in entries} == {"a/model", "b/model"}
    assert len({entry.ref.fingerprint for entry in entries}) == 2
    apart = [only(tmp_path / name).ref.fingerprint for name in "ab"]  # of two roots, under one name
    assert len(set(apart)) == 2


@pytest.mark.parametrize("make", [make_model, make_controlnet])
def test_equal_folders_in_two_places_are_two_models(tmp_path: Path, make: Callable[[Path, str], Path]) -> None:
    make(tmp_path / "a", "same")
    shutil.copytree(tmp_path / "a", tmp_path / "b", copy_function=shutil.copy2)
    assert only(tmp_path / "a").ref.fingerprint != only(tmp_path / "b").ref.fingerprint


@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_is_replaced_by_its_like_is_another_model(tmp_path: Path, kind: ModelKind) -> None:
    file = layouts.write(tmp_path / "model.safetensors", FILES[kind])
    scanner = Scanner([tmp_path])
    (before,) = scanner.scan()
    assert scanner.now(before) is before  # nothing is opened for that
    file = file.rename(tmp_path / "set aside")
    layouts.write(tmp_path / "model.safetensors", FILES[kind])
    os.utime(tmp_path / "model.safetensors", ns=(file.stat().st_atime_ns, file.stat().st_mtime_ns))
    now = scanner.now(before)
    (after,) = (entry for entry in scanner.scan() if entry.ref.name == "model")
    assert before.ref.fingerprint != now.ref.fingerprint == after.ref.fingerprint


def test_a_controls_configuration_is_a_part_of_it(tmp_path: Path) -> None:
    folder = make_controlnet(tmp_path, "canny")
    before = only(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "global_pool_conditions": True}))
    assert only(tmp_path).ref.fingerprint != before.ref.fingerprint


def test_a_fingerprint_can_be_had_of_a_file_by_itself(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "one.safetensors")
    assert settings_of(tmp_path / "one.safetensors", "checkpoint") == ()
    assert len(fingerprint(tmp_path, (tmp_path / "one.safetensors",))) == 16
    assert stamp_of(tmp_path / "nothing") == ""


@pytest.fixture
def refuse(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, bool], None]:
    """Let the system refuse to read what has this in its name, or no longer: nothing that can be seen of it changes."""
    refused: set[str] = set()
    for name in ("open", "read_text"):
        real = getattr(Path, name)

        def read(path: Path, *arguments: object, _real: Callable[..., object] = real, **more: object) -> object:
            is_written = "w" in str(more.get("mode", arguments[0] if arguments else ""))
            if not is_written and any(part in path.name for part in refused):
                raise PermissionError(13, "Permission denied")
            return _real(path, *arguments, **more)

        monkeypatch.setattr(Path, name, read)
    return lambda name, is_refused: refused.add(name) if is_refused else refused.discard(name)


@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_was_refused_once_is_read_when_the_cause_is_gone(
    tmp_path: Path, kind: ModelKind, refuse: Callable[[str, bool], None]
) -> None:
    layouts.write(
        tmp_path
        / {"checkpoint": "Stable-diffusion", "lora": "Lora", "vae": "VAE", "embedding": "embeddings"}[kind]
        / "model.safetensors",
        FILES[kind],
    )
    known: Known = {}
    scanner = Scanner([tmp_path], known)
    refuse("model.safetensors", True)
    (refused,) = scanner.scan()
    assert refused.problem and "can't be read (Permission denied)" in refused.problem
    assert not known and not scanner.fresh
    refuse("model.safetensors", False)
    assert scanner.now(refused).problem is None
    (entry,) = scanner.scan()
    assert entry.problem is None and entry.ref.kind == kind
    assert len(known) == 1


@pytest.mark.parametrize(
    "name", ["scheduler_config.json", "diffusion_pytorch_model", "model_index.json", "tokenizer_config"]
)
def test_a_folder_that_was_refused_once_is_read_when_the_cause_is_gone(
    tmp_path: Path, name: str, refuse: Callable[[str, bool], None]
) -> None:
    make_model(tmp_path)
    scanner = Scanner([tmp_path])
    refuse(name, True)
    (refused,) = scanner.scan()
    assert refused.problem and "(Permission denied)" in refused.problem
    refuse(name, False)
    assert scanner.now(refused).problem is None
    assert scanner.scan()[0].problem is None


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="an administrator may read everything")
def test_a_file_without_permissions_is_read_after_they_are_given(tmp_path: Path) -> None:
    file = layouts.write(tmp_path / "model.safetensors", FILES["lora"])
    file.chmod(0)
    known: Known = {}
    assert scan([tmp_path], known)[0].problem
    file.chmod(0o644)
    assert scan([tmp_path], known)[0].problem is None


def test_a_damaged_file_is_opened_once_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = layouts.write(tmp_path / "model.safetensors", FILES["lora"])
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    known: Known = {}
    assert (problem := scan([tmp_path], known)[0].problem) and "is cut off" in problem

    def again(path: Path) -> None:
        raise ModelProblem("it is opened again")

    with monkeypatch.context() as patched:
        patched.setattr("catalog.detect.file_models.read_whole_header", again)
        assert scan([tmp_path], known)[0].problem == problem
    file.write_bytes(whole)
    assert scan([tmp_path], known)[0].problem is None
