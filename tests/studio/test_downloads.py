"""Downloads against a small hub on this machine: resume, checksums, refusals, places, and whom it never asks."""

import hashlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.errors import InvalidRecipe, JobError, NotFound, StorageFull, StudioError
from contract.model_tasks import Download
from contract.work import WorkCancelled, WorkDone, WorkerEvent, WorkFailed, WorkItem, WorkLoading, WorkNotice
from studio.downloads import download_task
from studio.downloads.destinations import is_there, plan
from studio.downloads.download_task import NetworkWorker
from studio.downloads.hub import HubFile, chosen_files, read_repository
from studio.downloads.wire import Broken, Hub, Offline, Wire, is_public_address
from tests.support.hub import HubHere, hub_here

REPOSITORY, FILE = "owner/model", "model-a.safetensors"
DATA = os.urandom(300_000)
TASK = Download(source=REPOSITORY, files=(FILE,))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubHere]:
    monkeypatch.setattr(download_task, "_FLOOR_BYTES", 0)
    with hub_here() as here:
        here.add(REPOSITORY, FILE, DATA)
        yield here


class Downloads:
    """A worker on a folder of models, and what came of each of its runs."""

    def __init__(self, hub: Hub, models: Path) -> None:
        self.models = models
        self.changes = 0
        self.worker = NetworkWorker(hub, models, self._change, wait_unit_s=0.001)

    def _change(self) -> None:
        self.changes += 1

    def run(self, task: Download = TASK) -> list[WorkerEvent]:
        return list(self.worker.run([WorkItem("job", 1, task)]))

    def failure(self, task: Download = TASK) -> WorkFailed:
        (*_, last) = self.run(task)
        assert isinstance(last, WorkFailed), last
        return last

    def files(self) -> dict[str, int]:
        return {
            path.relative_to(self.models).as_posix(): path.stat().st_size
            for path in sorted(self.models.rglob("*"))
            if path.is_file()
        }


@pytest.fixture
def downloads(hub: HubHere, tmp_path: Path) -> Downloads:
    return Downloads(Hub(hub.endpoint), tmp_path / "models")


def test_a_file_comes_whole_with_progress_and_lies_where_its_kind_does(downloads: Downloads) -> None:
    said = downloads.run()
    assert isinstance(said[-1], WorkDone) and downloads.changes == 1
    assert (downloads.models / "checkpoints" / FILE).read_bytes() == DATA
    steps = [event for event in said if isinstance(event, WorkLoading) and event.done_bytes]
    assert steps[0].total_bytes == len(DATA) and steps[0].what == FILE
    assert downloads.files() == {f"checkpoints/{FILE}": len(DATA)}


def test_a_line_that_breaks_is_taken_up_where_it_broke(hub: HubHere, downloads: Downloads) -> None:
    hub.cut_after[:] = [100_000, 50_000]
    assert isinstance(downloads.run()[-1], WorkDone)
    assert hub.ranges() == ["", "bytes=100000-", "bytes=150000-"]
    assert (downloads.models / "checkpoints" / FILE).read_bytes() == DATA


def test_what_an_earlier_try_brought_is_not_fetched_again(hub: HubHere, downloads: Downloads) -> None:
    part = downloads.models / "checkpoints" / f"{FILE}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(DATA[:200_000])
    assert isinstance(downloads.run()[-1], WorkDone)
    assert hub.ranges() == ["bytes=200000-"] and downloads.files() == {f"checkpoints/{FILE}": len(DATA)}


@pytest.mark.parametrize("left", [b"x" * 1000, b"x" * 400_000], ids=["other bytes", "too long"])
def test_a_rest_of_another_version_is_thrown_away(hub: HubHere, downloads: Downloads, left: bytes) -> None:
    part = downloads.models / "checkpoints" / f"{FILE}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(left)
    assert isinstance(downloads.run()[-1], WorkDone)
    assert (downloads.models / "checkpoints" / FILE).read_bytes() == DATA


def test_a_server_without_ranges_sends_it_all_again(hub: HubHere, downloads: Downloads) -> None:
    hub.no_ranges, hub.cut_after[:] = True, [100_000]
    assert isinstance(downloads.run()[-1], WorkDone)
    assert (downloads.models / "checkpoints" / FILE).read_bytes() == DATA


def test_a_wrong_checksum_keeps_nothing(hub: HubHere, downloads: Downloads) -> None:
    hub.lies[FILE] = "0" * 64
    failed = downloads.failure()
    assert failed.code == "checksum" and FILE in failed.message
    assert downloads.files() == {} and downloads.changes == 0


def test_a_known_checksum_counts_whatever_the_hub_says(
    hub: HubHere, downloads: Downloads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download_task, "pinned_sha256", lambda repository, path: "1" * 64)
    assert downloads.failure().code == "checksum" and downloads.files() == {}


def test_a_small_file_is_checked_by_its_git_name(hub: HubHere, downloads: Downloads) -> None:
    hub.add(REPOSITORY, "model_index.json", b"{}")
    task = Download(source=REPOSITORY, files=("model_index.json", FILE), name="two")
    assert isinstance(downloads.run(task)[-1], WorkDone)
    assert downloads.files() == {f"checkpoints/two/{FILE}": len(DATA), "checkpoints/two/model_index.json": 2}
    hub.files[REPOSITORY, "x.json"] = b"{}"
    listing = read_repository(Wire(Hub(hub.endpoint)), REPOSITORY)
    hub.files[REPOSITORY, "x.json"] = b"[]"
    assert next(file for file in listing.files if file.path == "x.json").blob != ""


def test_a_breaking_line_is_given_up_in_the_end_and_what_came_is_kept(hub: HubHere, downloads: Downloads) -> None:
    hub.cut_after[:] = [50_000, *([0] * 20)]
    failed = downloads.failure()
    assert failed.code == "download_failed" and "the received part is kept" in failed.hint.lower()
    assert downloads.files() == {f"checkpoints/{FILE}.part": 50_000}


@pytest.mark.parametrize(
    ("status", "headers", "code"),
    [
        (401, {}, "gated"),
        (403, {"X-Error-Code": "GatedRepo"}, "gated"),
        (404, {"X-Error-Code": "EntryNotFound"}, "not_found"),
        (429, {"Retry-After": "999"}, "hub_busy"),
        (418, {}, "download_failed"),
    ],
)
def test_a_refusal_of_the_hub_is_said_in_words(
    hub: HubHere, downloads: Downloads, status: int, headers: dict[str, str], code: str
) -> None:
    hub.answers.append((status, headers))
    failed = downloads.failure()
    assert failed.code == code and failed.hint and "http" not in failed.message


def test_a_hub_that_is_busy_or_stumbles_for_a_moment_is_asked_again(hub: HubHere, downloads: Downloads) -> None:
    hub.answers[:] = [(429, {"Retry-After": "1"}), (503, {})]
    assert isinstance(downloads.run()[-1], WorkDone)


def test_a_repository_that_is_not_there_or_gated_is_named(hub: HubHere, downloads: Downloads) -> None:
    assert downloads.failure(Download(source="no/body")).code == "not_found"
    hub.list_status = (403, {"X-Error-Code": "GatedRepo"})
    failed = downloads.failure()
    assert failed.code == "gated" and "HF_TOKEN" in failed.hint


def test_no_room_is_said_before_anything_is_fetched(
    hub: HubHere, downloads: Downloads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download_task, "_FLOOR_BYTES", 10**18)
    failed = downloads.failure()
    assert failed.code == StorageFull.default_code and "are free" in failed.message
    assert hub.ranges() == []


def test_offline_says_what_to_put_where(tmp_path: Path) -> None:
    for hub in (Hub("http://127.0.0.1:9"), Hub("https://huggingface.co", is_offline=True)):
        failed = Downloads(hub, tmp_path).failure()
        assert failed.code == "offline"
        assert failed.hint.endswith(
            f"Or put {FILE} from huggingface.co/{REPOSITORY} into models/checkpoints/ yourself."
        )


def test_cancelling_ends_it_at_once_and_keeps_what_came(hub: HubHere, downloads: Downloads) -> None:
    hub.gate.clear()
    said: list[WorkerEvent] = []
    thread = threading.Thread(target=lambda: said.extend(downloads.run()))
    thread.start()
    part = downloads.models / "checkpoints" / f"{FILE}.part"
    while not (hub.ranges() and part.exists()):
        thread.join(0.01)
    downloads.worker.cancel("another")
    thread.join(0.05)
    assert thread.is_alive()
    downloads.worker.cancel("job")
    thread.join(2)
    assert not thread.is_alive() and isinstance(said[-1], WorkCancelled)
    assert part.exists() and not part.with_suffix("").exists()
    hub.gate.set()
    assert isinstance(downloads.run()[-1], WorkDone)


def test_what_is_here_is_not_fetched_again_and_another_file_not_overwritten(hub: HubHere, downloads: Downloads) -> None:
    downloads.run()
    hub.asked.clear()
    said = downloads.run()
    assert isinstance(said[-2], WorkNotice) and said[-2].code == "already_here" and hub.ranges() == []
    (downloads.models / "checkpoints" / FILE).write_bytes(b"mine")
    assert downloads.failure().code == "name_taken"
    assert (downloads.models / "checkpoints" / FILE).read_bytes() == b"mine"


def test_a_folder_appears_as_a_whole_or_not_at_all(hub: HubHere, downloads: Downloads) -> None:
    for path in ("model_index.json", "unet/config.json", "unet/diffusion_pytorch_model.safetensors"):
        hub.add("owner/folder", path, path.encode())
    hub.answers[:] = [(200, {}), (404, {})]
    task = Download(source="owner/folder")
    assert downloads.failure(task).code == "not_found"
    assert list(downloads.files()) == ["checkpoints/folder.part/model_index.json"]
    assert isinstance(downloads.run(task)[-1], WorkDone)
    assert sorted(downloads.files()) == [
        f"checkpoints/folder/{path}"
        for path in ("model_index.json", "unet/config.json", "unet/diffusion_pytorch_model.safetensors")
    ]
    assert is_there(task, downloads.models)


def test_files_of_one_size_are_told_apart_by_their_checksums(hub: HubHere, downloads: Downloads) -> None:
    (downloads.models / "checkpoints").mkdir(parents=True)
    other = downloads.models / "checkpoints" / FILE
    other.write_bytes(os.urandom(len(DATA)))
    assert downloads.failure().code == "name_taken"
    other.write_bytes(DATA)
    assert [type(event) for event in downloads.run()] == [WorkLoading, WorkNotice, WorkDone]


def test_a_folder_never_mixes_two_models_of_one_name(hub: HubHere, downloads: Downloads) -> None:
    parts = ("model_index.json", "unet/config.json", "unet/diffusion_pytorch_model.safetensors")
    for owner in ("alice", "bob"):
        for path in parts:
            hub.add(f"{owner}/dream", path, f"{owner:5} {path}".encode())
    hub.answers[:] = [(200, {}), (200, {}), (404, {})]
    downloads.failure(Download(source="alice/dream"))
    assert len(downloads.files()) >= 1
    assert isinstance(downloads.run(Download(source="bob/dream"))[-1], WorkDone)
    home = downloads.models / "checkpoints" / "dream"
    assert {path: (home / path).read_text() for path in parts} == {path: f"bob   {path}" for path in parts}


def test_a_pickle_goes_to_quarantine_but_a_known_annotator_to_its_folder(hub: HubHere, downloads: Downloads) -> None:
    hub.add(REPOSITORY, "old.ckpt", b"pickled")
    said = downloads.run(Download(source=REPOSITORY, files=("old.ckpt",)))
    assert isinstance(said[-2], WorkNotice) and said[-2].code == "quarantine"
    hub.add(REPOSITORY, "annotator/x.pth", b"pickled")
    downloads.run(Download(source=REPOSITORY, files=("annotator/x.pth",), kind="annotator"))
    assert sorted(downloads.files()) == ["annotators/x.pth", "quarantine/checkpoints/old.ckpt"]


def test_code_is_never_fetched_nor_a_path_that_leads_out(hub: HubHere, downloads: Downloads) -> None:
    hub.add(REPOSITORY, "run.py", b"print()")
    assert downloads.failure(Download(source=REPOSITORY, files=("run.py",))).code == "invalid_files"
    hub.extra_paths = ("../../evil.json", "unet/../../../evil.safetensors", ".ssh/key", "/etc/x.json")
    hub.add(REPOSITORY, "model_index.json", b"{}")
    found = read_repository(Wire(Hub(hub.endpoint)), REPOSITORY)
    assert {file.path for file in found.files} == {FILE, "run.py", "model_index.json"}


def test_of_a_folder_one_version_of_the_weights_is_taken_and_no_checker() -> None:
    paths = (
        "model_index.json",
        "README.md",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "unet/diffusion_pytorch_model.bin",
        "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
        "tokenizer/merges.txt",
        "safety_checker/model.safetensors",
        "v1-5.safetensors",
        "unet/x.py",
        "flax/weights.msgpack",
        "flax/config.json",
    )
    from studio.downloads.hub import Repository

    found = Repository("a/b", "c", "mit", False, tuple(HubFile(path, 1) for path in paths))
    assert {file.path for file in found.folder} == {
        "model_index.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
        "tokenizer/merges.txt",
    }
    with pytest.raises(InvalidRecipe):
        chosen_files(Repository("a/b", "c", "", False, (HubFile("x.safetensors", 1),)), ())
    with pytest.raises(NotFound):
        chosen_files(found, ("y.safetensors",))


def test_a_file_whose_name_says_nothing_gets_the_model_s(tmp_path: Path) -> None:
    def place(task: Download) -> str:
        ((_, found),) = plan(task, [HubFile(task.files[0], 1)], tmp_path).places
        return found.relative_to(tmp_path).as_posix()

    lora = Download(source="x/lcm-lora", files=("pytorch_lora_weights.safetensors",), kind="lora")
    assert place(lora) == "loras/lcm-lora.safetensors"
    assert place(lora.model_copy(update={"name": "fast"})) == "loras/fast.safetensors"
    assert place(Download(source="x/y", files=("vae/ft.safetensors",), kind="vae")) == "vae/ft.safetensors"


# Whom it asks


def test_the_token_goes_to_the_hub_and_nowhere_else(hub: HubHere, tmp_path: Path) -> None:
    Downloads(Hub(hub.endpoint, token="secret"), tmp_path).run()
    assert {asked[2] for asked in hub.asked} == {"Bearer secret"}
    assert "secret" not in repr(Hub(hub.endpoint, token="secret"))


@pytest.mark.parametrize(
    "place",
    [
        "http://127.0.0.1:1/x",
        "https://evil.example/x",
        "http://169.254.169.254/latest",
        "https://localhost/x",
        "ftp://127.0.0.1/x",
        "http://user:pass@127.0.0.1/x",
        "file:///etc/passwd",
        "//evil.example/x",
        "https://huggingface.co.evil.example/x",
    ],
)
def test_a_redirect_to_elsewhere_is_not_followed(hub: HubHere, downloads: Downloads, place: str) -> None:
    hub.redirect = place
    failed = downloads.failure()
    assert failed.code == "download_failed" and len(hub.ranges()) == 1


def test_a_circle_of_redirects_ends(hub: HubHere, downloads: Downloads) -> None:
    hub.redirect = f"/{REPOSITORY}/resolve/x/{FILE}"
    assert downloads.failure().code == "download_failed" and len(hub.ranges()) == 6


@pytest.mark.parametrize(
    "place",
    [
        "https://cdn-lfs.hf.co/x",
        "https://cas-bridge.xethub.hf.co/x",
        "https://cdn-lfs-us-1.huggingface.co/x",
        "https://huggingface.co/x",
    ],
)
def test_the_hub_s_own_hosts_are_good(place: str) -> None:
    from urllib.parse import urlsplit

    Wire(Hub())._check(urlsplit(place))


@pytest.mark.parametrize(
    "place",
    [
        "http://huggingface.co/x",
        "https://huggingface.co:8443/x",
        "https://hf.co.evil/x",
        "https://x@huggingface.co/",
        "https://evilhf.co/x",
        "https://127.0.0.1/x",
    ],
)
def test_others_are_not(place: str) -> None:
    from urllib.parse import urlsplit

    with pytest.raises(JobError):
        Wire(Hub())._check(urlsplit(place))


def test_an_endpoint_is_https_or_this_machine(hub: HubHere) -> None:
    for endpoint in ("http://huggingface.co", "http://192.168.0.1", "ftp://127.0.0.1"):
        with pytest.raises(StudioError):
            Wire(Hub(endpoint))
    Wire(Hub(hub.endpoint))


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.0.0.1",
        "100.64.0.1",
        "169.254.169.254",
        "0.0.0.0",
        "::1",
        "fe80::1%eth0",
        "::ffff:192.168.1.1",
        "2002:7f00:1::",
        "224.0.0.1",
        "fd00::1",
    ],
)
def test_addresses_of_this_network_are_not_public(address: str) -> None:
    assert not is_public_address(address)


def test_addresses_of_the_internet_are() -> None:
    assert (
        is_public_address("18.164.174.23")
        and is_public_address("2600:9000:2650::1")
        and is_public_address("::ffff:18.164.174.23")
    )


def test_a_name_that_leads_into_this_network_is_not_spoken_to(monkeypatch: pytest.MonkeyPatch, hub: HubHere) -> None:
    import socket

    real, port = socket.create_connection, int(hub.endpoint.rpartition(":")[2])
    monkeypatch.setattr(socket, "create_connection", lambda address, timeout: real(("127.0.0.1", port), timeout))
    with pytest.raises(Offline, match="within this network"), Wire(Hub()).ask("/x"):
        pass
    assert hub.asked == []


def test_a_cut_wire_asks_nobody(hub: HubHere) -> None:
    wire = Wire(Hub(hub.endpoint))
    wire.cut()
    with pytest.raises(Broken), wire.ask("/x"):
        pass
    assert hub.asked == []


def test_every_pinned_checksum_is_one() -> None:
    from catalog.catalog_models import _PINNED, CATALOG_MODELS

    assert all(len(bytes.fromhex(sha256)) == hashlib.sha256().digest_size for sha256 in _PINNED.values())
    assert len({catalog_model.id for catalog_model in CATALOG_MODELS}) == len(CATALOG_MODELS)
    named = {
        (catalog_model.download.source, path)
        for catalog_model in CATALOG_MODELS
        for path in catalog_model.download.files
    }
    assert {key for key in _PINNED if key[1].endswith(".safetensors")} <= named
