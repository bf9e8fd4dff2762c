"""Models that change on the disk: the next job takes what is there now, whatever the list says, and fails for no old reason."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from catalog.files.folders import fingerprint, settings_of
from catalog.models import Scanner
from contract import events
from contract.errors import StudioError
from contract.recipe import ModelRef
from contract.tasks import Generate
from contract.values import ModelKind
from studio.library.model_facts import ModelFacts
from studio.library.model_list import ModelList
from studio.studio import Studio
from tests.catalog.test_identity import FILES, edit, refuse
from tests.studio.conftest import ME, draft, finish, settings_for
from tests.studio.test_model_list import Clock, database
from tests.support import layouts
from tests.support.fakes import FakeWorker
from tests.support.model_folders import make_controlnet, make_lora, make_model

__all__ = ["database", "refuse"]


def overwrite(file: Path, shapes: layouts.Shapes, turn: int) -> None:
    """As a trainer does: the same name, size and header again, other weights and a later time."""
    layouts.write(file, shapes, {"turn": str(turn)})
    os.utime(file, (1_700_000_000 + turn, 1_700_000_000 + turn))


def ref_of(worker: FakeWorker, kind: ModelKind) -> ModelRef:
    """Of the newest work item."""
    task = worker.work_items[-1].task
    assert isinstance(task, Generate)
    (found,) = (ref for ref in task.models if ref.kind == kind)
    return found


@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_is_overwritten_is_found_as_it_is_now(tmp_path: Path, kind: ModelKind) -> None:
    file = tmp_path / "net.safetensors"
    models = ModelList((tmp_path,), Clock())  # no scan by itself: no time passes
    seen = set()
    for turn in range(3):
        overwrite(file, FILES[kind], turn)
        entry = models.find("net", kind)
        assert entry is not None and entry == models.as_it_is_now("net", kind)
        seen.add(entry.ref.fingerprint)
    assert len(seen) == 3
    if kind == "checkpoint":
        (tmp_path / "net.yaml").write_text("parameterization: v")
        now = models.find("net", kind)
        assert now is not None and now.ref.fingerprint not in seen


def test_a_folder_whose_scheduler_is_edited_is_found_as_it_is_now(tmp_path: Path) -> None:
    folder, models = make_model(tmp_path, zero_snr=True), ModelList((tmp_path,), Clock())
    before = models.get("starter")
    edit(folder / "scheduler/scheduler_config.json", "true", "null")
    after = models.first_usable()
    assert after is not None and before.zero_snr and not after.zero_snr
    assert after.ref.fingerprint != before.ref.fingerprint


def test_a_control_that_is_replaced_is_found_as_it_is_now(tmp_path: Path) -> None:
    folder, models = make_controlnet(tmp_path, "canny"), ModelList((tmp_path,), Clock())
    before = models.get("canny", "controlnet")
    (folder / "config.json").write_text((folder / "config.json").read_text().replace("768", "1024"))
    after = models.get("canny", "controlnet")
    assert (before.ref.family, after.ref.family) == ("sd1", "sd2")


def test_a_configuration_that_several_files_share_by_links_is_seen_when_it_is_edited(tmp_path: Path) -> None:
    root, shared = tmp_path / "models", tmp_path / "configs" / "v2-inference.yaml"
    shared.parent.mkdir()
    shared.write_text("parameterization: eps", "utf-8")
    overwrite(root / "net.safetensors", FILES["checkpoint"], 1)
    (root / "net.yaml").symlink_to(shared)
    models = ModelList((root,), Clock())
    before = models.get("net")
    shared.write_text("parameterization: v", "utf-8")
    after = models.get("net")
    assert before.ref.fingerprint != after.ref.fingerprint
    file = root / "net.safetensors"  # as the engine asks before it reads
    assert after.ref.fingerprint == fingerprint(root, (file,), settings_of(file, "checkpoint"))


@pytest.mark.parametrize(
    "names", [("loras/pytorch_lora_weights",), ("Lora/ink", "loras/ink"), ("loras/a/model", "loras/b/model")]
)
def test_a_file_that_did_not_change_is_the_same_by_a_look_at_the_disk(tmp_path: Path, names: tuple[str, ...]) -> None:
    """Else every job asks for another scan: also of what is damaged, and of two that have one name."""
    for name in names:
        layouts.write(tmp_path / f"{name}.safetensors", {"lora_unet_a.lora_up.weight": (1, 1)})
    scanner = Scanner([tmp_path])
    entries = scanner.scan()
    assert len(entries) == len(names) and all(entry.problem for entry in entries)
    assert tuple(map(scanner.now, entries)) == entries


def test_a_file_that_became_something_else_is_no_longer_found(tmp_path: Path) -> None:
    file, models = tmp_path / "net.safetensors", ModelList((tmp_path,), Clock())
    overwrite(file, FILES["embedding"], 1)
    assert models.find("net", "embedding")
    overwrite(file, FILES["vae"], 2)
    assert models.find("net", "embedding") is None
    assert models.find("net", "vae")


def test_the_default_model_is_passed_over_once_it_is_damaged(tmp_path: Path) -> None:
    folder, models = make_model(tmp_path), ModelList((tmp_path,), Clock())
    make_model(tmp_path, "second")
    assert (first := models.first_usable()) and first.ref.name == "starter"
    (folder / "unet/config.json").unlink()
    assert (second := models.first_usable()) and second.ref.name == "second"


def test_jobs_go_on_while_a_trainer_overwrites_what_they_use(make_studio: Callable[..., Studio]) -> None:
    worker = FakeWorker()
    studio = make_studio(worker)
    root = studio.settings.model_dirs[0]
    make_model(root, "dream")
    seen = set()
    for turn in range(3):
        os.utime(make_lora(root, "ink"), (1_700_000_000 + turn, 1_700_000_000 + turn))
        (root / "dream/scheduler/scheduler_config.json").write_text(f'{{"turn": {turn}}}')
        done = finish(studio, studio.submit(draft("a barn <lora:ink:1>", model="dream"), ME).id)[-1]
        assert isinstance(done, events.Done), done
        seen.add((ref_of(worker, "lora").fingerprint, ref_of(worker, "checkpoint").fingerprint))
    assert len({lora for lora, _ in seen}) == len({checkpoint for _, checkpoint in seen}) == 3


def test_again_takes_the_file_of_the_recipes_hash_where_its_name_is_anothers_now(
    make_studio: Callable[..., Studio],
) -> None:
    worker = FakeWorker()
    studio = make_studio(worker)
    root = studio.settings.model_dirs[0]
    overwrite(root / "dream.safetensors", {"emb_params": (1, 768)}, 1)
    studio.models(fresh=True)
    made = finish(studio, (first := studio.submit(draft("a dream"), ME)).id)
    assert isinstance(made[-1], events.Done) and ref_of(worker, "embedding").name == "dream"
    os.rename(root / "dream.safetensors", root / "older.safetensors")
    overwrite(root / "dream.safetensors", {"emb_params": (2, 768)}, 2)
    saved = next(event.record for event in made if isinstance(event, events.Saved))
    assert saved.recipe.embeddings[0].sha256
    again = finish(studio, studio.rerun(first.id, ME).id)
    assert isinstance(again[-1], events.Done)


def test_a_repaired_models_first_job_runs(make_studio: Callable[..., Studio]) -> None:
    studio = make_studio()
    root = studio.settings.model_dirs[0]
    lora, folder = make_lora(root / "Lora", "ink"), make_model(root, "house")
    whole = lora.read_bytes()
    lora.write_bytes(whole[:-1])
    (folder / "unet/config.json").rename(folder / "set aside")
    studio.models(fresh=True)
    asked = {"is cut off": draft("a <lora:ink:1>"), "unet/config.json is missing": draft(model="house")}
    for reason, wanted in asked.items():
        with pytest.raises(StudioError, match=reason):
            studio.submit(wanted, ME)
    lora.write_bytes(whole)
    (folder / "set aside").rename(folder / "unet/config.json")
    for wanted in asked.values():
        assert isinstance(finish(studio, studio.submit(wanted, ME).id)[-1], events.Done)


def test_what_the_system_refused_is_kept_neither_in_memory_nor_over_a_restart(
    tmp_path: Path, database: object, refuse: Callable[[str, bool], None]
) -> None:
    layouts.write(tmp_path / "Stable-diffusion" / "dream.safetensors", FILES["checkpoint"])
    refuse("dream.safetensors", True)
    kept = ModelFacts(database)  # type: ignore[arg-type]
    first = ModelList((tmp_path,), Clock(), kept=kept)
    assert first.get("dream").problem
    second = ModelList((tmp_path,), Clock(), kept=kept)
    assert second.get("dream").problem and not kept.load()
    refuse("dream.safetensors", False)
    for models in (first, second, ModelList((tmp_path,), Clock(), kept=kept)):
        assert models.get("dream").problem is None
        assert models.all(fresh=True)[0].problem is None


@pytest.mark.parametrize("name", ["ink.safetensors", "scheduler_config.json"])
def test_a_model_that_was_refused_paints_at_once_when_it_is_not(
    make_studio: Callable[..., Studio], name: str, refuse: Callable[[str, bool], None]
) -> None:
    studio = make_studio()
    refuse(name, True)
    make_lora(studio.settings.model_dirs[0] / "Lora", "ink")
    make_model(studio.settings.model_dirs[0], "house")
    studio.models(fresh=True)
    with pytest.raises(StudioError, match="Permission denied"):
        studio.submit(draft("a <lora:ink:1>", model="house"), ME)
    refuse(name, False)
    assert isinstance(finish(studio, studio.submit(draft("a <lora:ink:1>", model="house"), ME).id)[-1], events.Done)


def test_a_model_comes_into_a_list_that_is_old_before_its_word_is_read(tmp_path: Path) -> None:
    clock = Clock()
    models = ModelList((settings_for(tmp_path).model_dirs), clock)
    models.all()
    overwrite(tmp_path / "models" / "mood.safetensors", FILES["embedding"], 1)
    clock.now += 100
    models.catch_up()
    assert [entry.ref.name for entry in models.listed() if entry.ref.kind == "embedding"] == ["mood"]
