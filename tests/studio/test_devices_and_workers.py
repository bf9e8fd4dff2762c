"""Which workers a machine gets: one for each device that was named, or for each card that is found."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from contract.errors import StudioError
from contract.records import EngineStatus
from contract.work import Worker
from studio.settings import load_settings
from studio.workers import make_workers
from studio.workers.cards import OtherCards
from studio.workers.child import show_only_card
from studio.workers.inline import InlineWorker
from studio.workers.model_lookup import ContentHashes, find_content, listing_of, places_here
from studio.workers.process import ProcessWorker
from tests.studio.conftest import settings_for


def options_of(workers: tuple[Worker, ...], *names: str) -> list[tuple[object, ...]]:
    assert all(isinstance(worker, ProcessWorker) for worker in workers)
    return [tuple(worker._options.get(name) for name in names) for worker in workers]  # type: ignore[attr-defined]


def test_auto_is_one_worker_until_its_process_has_counted_the_cards(tmp_path: Path) -> None:
    workers, more = make_workers(settings_for(tmp_path))
    assert options_of(workers, "device", "sharers") == [("auto", None)]
    added: list[Worker] = []
    assert isinstance(more, OtherCards)
    more.start(added.append, lambda worker: None)
    more.on_statuses({"engine-1": EngineStatus(state="starting", text="")})
    assert added == []
    for _ in range(2):  # every status has the count
        more.on_statuses({"engine-1": EngineStatus(state="ready", text="", cards=3)})
    assert options_of(tuple(added), "device", "sharers") == [("cuda:1", 3), ("cuda:2", 3)]


@pytest.mark.parametrize("cards", [0, 1])
def test_there_are_no_others_on_a_cpu_or_beside_one_card(cards: int) -> None:
    added: list[str] = []
    more = OtherCards(lambda device, count: added.append(device))  # type: ignore[arg-type,return-value]
    more.start(lambda worker: None, lambda worker: None)
    more.on_statuses({"engine-1": EngineStatus(state="ready", text="", cards=cards)})
    assert added == []


def test_named_devices_are_a_worker_each_and_share_cores_and_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    workers, more = make_workers(settings_for(tmp_path, device="cpu,cpu,cpu"))
    assert options_of(workers, "device", "threads", "sharers") == [("cpu", 2, 3)] * 3 and more is None
    workers, _ = make_workers(settings_for(tmp_path, device="cuda:0,cuda:2", threads=1))
    assert options_of(workers, "device", "threads", "sharers") == [("cuda:0", 1, 2), ("cuda:2", 1, 2)]
    workers, _ = make_workers(settings_for(tmp_path, device="cpu"))
    assert options_of(workers, "device", "threads", "sharers") == [("cpu", None, 1)]
    workers, more = make_workers(settings_for(tmp_path, worker="inline"))
    assert isinstance(workers[0], InlineWorker) and len(workers) == 1 and more is None


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("device", "auto"),
        ("device", "cpu,cpu,cpu"),
        ("device", "cuda"),
        ("device", "cuda:0,cuda:12"),
        ("workers", "ray"),
        ("workers", "ray:3"),
        ("workers", "ray://head.example:10001"),
    ],
)
def test_devices_and_places_that_can_be_named(option: str, text: str, tmp_path: Path) -> None:
    assert getattr(load_settings([f"--{option}", text], {}, tmp_path), option) == text


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("device", "gpu"),
        ("device", "cuda:0,cpu"),
        ("device", "cuda,cuda"),
        ("device", "cpu,"),
        ("workers", "ray:0"),
        ("workers", "ray://head"),
        ("workers", "http://head:1"),
    ],
)
def test_others_are_refused_with_what_to_use(option: str, text: str, tmp_path: Path) -> None:
    with pytest.raises(StudioError, match=f"{option} is “.*”: use "):
        load_settings([f"--{option}", text], {}, tmp_path)


@pytest.mark.parametrize(
    ("visible", "index", "shown"),
    [
        (None, 2, "2"),
        ("", 1, "1"),
        ("3,5", 1, "5"),
        ("GPU-aa,GPU-bb", 0, "GPU-aa"),
        ("3,5", 2, "-1"),
    ],
)
def test_a_process_sees_its_card_alone(
    visible: str | None, index: int, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    show_only_card(index)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == shown


# Models on another machine


@pytest.fixture
def model(tmp_path: Path) -> Callable[[str, bytes], Path]:
    """Makes a model's folder."""

    def make(place: str, weights: bytes) -> Path:
        folder = tmp_path / place
        (folder / "unet").mkdir(parents=True)
        (folder / "model_index.json").write_text("{}")
        (folder / "unet" / "model.safetensors").write_bytes(weights)
        return folder

    return make


def test_a_model_at_the_same_path_is_taken_if_its_files_are_as_large(model: Callable[[str, bytes], Path]) -> None:
    theirs = model("a", b"1234")
    paths, listings = {"checkpoint/a": str(theirs)}, {"checkpoint/a": listing_of(theirs)}
    assert places_here(paths, listings, {}, (), ContentHashes()) == paths
    (theirs / "unet" / "model.safetensors").write_bytes(b"12345")
    assert places_here(paths, listings, {}, (), ContentHashes()) == {}


def test_a_folder_is_found_by_its_content_under_another_name(
    model: Callable[[str, bytes], Path], tmp_path: Path
) -> None:
    wanted = model("studio/a", b"1234")
    model("node/other", b"4321")  # as large, and another model
    same = model("node/deep/renamed", b"1234")
    (same / "README.md").write_text("not counted")
    hashes = ContentHashes()
    listing = listing_of(wanted)
    sha256 = hashes.of(wanted, listing)
    assert find_content(listing, sha256, (tmp_path / "nowhere", tmp_path / "node"), hashes) == same
    (same / "unet" / "model.safetensors").write_bytes(b"changed")
    assert find_content(listing, sha256, (tmp_path / "node",), hashes) is None


def test_a_file_is_found_by_its_content(tmp_path: Path) -> None:
    for name, data in {"studio/a": b"1234", "node/b": b"4321", "node/c": b"1234"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.safetensors").write_bytes(data)
    hashes, wanted = ContentHashes(), tmp_path / "studio" / "a.safetensors"
    listing = listing_of(wanted)
    found = find_content(listing, hashes.of(wanted, listing), (tmp_path / "node",), hashes)
    assert found == tmp_path / "node" / "c.safetensors"
    assert find_content(listing_of(tmp_path / "gone"), "", (tmp_path / "node",), hashes) is None
