"""A real Ray cluster on this machine: two workers on its first node, a third on one that joins and is killed in mid-job."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from contract import events
from contract.errors import StudioError
from contract.records import EngineStatus
from contract.work import Prefetch, WorkCancelled, WorkDone, WorkFailed, WorkImage
from studio.studio import Studio
from studio.workers import make_workers, ray
from studio.workers.model_lookup import Listing
from studio.workers.ray import RayWorker, RayWorkers
from tests.studio.conftest import ME, draft, finish, settings_for, wait_until
from tests.studio.test_process_worker import FACTORY, REF, work_item

pytestmark = pytest.mark.ray
WAIT_S = 90.0  # on a busy machine; a few seconds on one at rest


@dataclass
class Cluster:
    """A studio whose workers are Ray's."""

    studio: Studio
    workers: RayWorkers
    models: Path  # what its nodes have for models of their own

    @property
    def all(self) -> list[RayWorker]:
        return [worker for workers in self.workers._workers.values() for worker in workers]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with pytest.MonkeyPatch.context() as patch:
        for name in (
            "AUTH_MODE",
            "AUTH_TOKEN",
            "USAGE_STATS_ENABLED",
            "ENABLE_WINDOWS_OR_OSX_CLUSTER",
            "ENABLE_AUTO_CONNECT",
        ):
            patch.setenv(f"RAY_{name}", "")  # set anew by the program; as they were, at the end
        models = tmp_path_factory.mktemp("node-models")
        patch.setenv("DARKROOM_MODELS", str(models))
        workers = RayWorkers("ray:2", {"step_s": 0.05}, factory=FACTORY, look_s=0.3, lost_s=3.0)
        studio = Studio(settings_for(tmp_path_factory.mktemp("data")), more=workers)
        studio.start()
        try:
            yield Cluster(studio, workers, models)
        finally:
            studio.stop()


@pytest.fixture
def joined(cluster: Cluster) -> Iterator["subprocess.Popen[bytes]"]:
    """One more node, in a session of its own."""
    import ray as library

    wait_until(lambda: cluster.studio.engine().text == "2 engines ready", WAIT_S)
    address = library.get_runtime_context().gcs_address
    command = [sys.executable, "-m", "tests.support.ray_node", "--address", address, "--num-cpus", "1"]
    command += ["--object-store-memory", str(80 * 2**20), "--block"]
    environment = {**os.environ, "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1"}
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    yield process
    kill_session(process)


def kill_session(process: "subprocess.Popen[bytes]") -> None:
    """At once, whatever of it is there: as when a machine loses its power."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == process.pid:
            os.kill(int(folder.name), signal.SIGKILL)
    process.wait(10)


def test_a_node_that_joins_is_used_and_its_death_costs_its_job_one_more_attempt(
    cluster: Cluster, joined: "subprocess.Popen[bytes]"
) -> None:
    studio = cluster.studio
    here = set(cluster.all)
    wait_until(lambda: studio.engine().text == "3 engines ready", WAIT_S)
    assert studio.engine().device.startswith("3 × Fake, 1 thread on ")
    (guest,) = set(cluster.all) - here
    jobs = [studio.submit(draft(steps=60, width=64, height=64, seed=seed), ME).id for seed in range(3)]
    wait_until(lambda: studio.engine().text == "3 engines working", WAIT_S)
    queue = studio._queue
    name = next(name for name, worker in studio._engine.workers.items() if worker is guest)
    (victim,) = queue.at_worker(name)
    wait_until(lambda: studio.job(victim.id, ME).step > 2, WAIT_S)
    kill_session(joined)
    endings = {job: finish(studio, job, timeout_s=WAIT_S)[-1] for job in jobs}
    assert all(isinstance(ending, events.Done) for ending in endings.values())
    assert {job: ending.attempt for job, ending in endings.items()} == {
        job: 2 if job == victim.id else 1 for job in jobs
    }
    for seed, job in enumerate(jobs):
        (image_id,) = studio.job(job, ME).job.image_ids
        with Image.open(studio.image_file(image_id, ME)) as image:
            assert image.getpixel((0, 0)) == (seed, 0, 0)
    wait_until(lambda: len(studio._engine.workers) == 2, WAIT_S)


def test_a_killed_worker_is_replaced(cluster: Cluster) -> None:
    import ray as library

    studio = cluster.studio
    wait_until(lambda: studio.engine().text == "2 engines ready", WAIT_S)
    job = studio.submit(draft(steps=40), ME).id
    wait_until(lambda: studio.job(job, ME).step > 2, WAIT_S)
    worker = next(worker for worker in cluster.all if worker.status().state == "working")
    os.kill(library.get(worker.actor.pid.remote()), signal.SIGKILL)
    assert isinstance(finish(studio, job, timeout_s=WAIT_S)[-1], events.Done)
    wait_until(lambda: studio.engine().text == "2 engines ready" and worker not in cluster.all, WAIT_S)


def test_a_job_is_cancelled_at_its_next_step(cluster: Cluster) -> None:
    studio = cluster.studio
    wait_until(lambda: studio.engine().text == "2 engines ready", WAIT_S)
    job = studio.submit(draft(steps=150), ME).id
    wait_until(lambda: studio.job(job, ME).step > 2, WAIT_S)
    studio.cancel(job, ME)
    assert isinstance(finish(studio, job, timeout_s=15.0)[-1], events.Cancelled)


def test_models_are_found_by_path_else_by_content_else_refused(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait_until(lambda: cluster.studio.engine().text == "2 engines ready", WAIT_S)
    worker = cluster.all[0]
    data = b"weights of a model that the nodes keep under another name"
    digest = sha256(f"\0{sha256(data).hexdigest()}\n".encode()).hexdigest()
    monkeypatch.setattr(ray, "listing_of", lambda path: Listing((("", len(data)),)))
    monkeypatch.setattr(worker._hashes, "of", lambda path, listing: digest)
    *_, refused = worker.run([work_item()])
    assert isinstance(refused, WorkFailed) and refused.code == "model_not_on_node"
    assert refused.message == f"Model “starter” is not on {worker.host}." and "DARKROOM_MODELS" in refused.hint
    (cluster.models / "theirs.safetensors").write_bytes(data)
    *_, image, done = worker.run([work_item()])
    assert isinstance(image, WorkImage) and isinstance(done, WorkDone)


def test_a_worker_obeys_and_ends_a_job_that_was_canceled_before_it_came(cluster: Cluster) -> None:
    wait_until(lambda: cluster.studio.engine().text == "2 engines ready", WAIT_S)
    worker = cluster.all[0]
    worker.tell(Prefetch(REF.model_copy(update={"name": "nowhere"}), "/nowhere/nowhere"))  # not there: not read
    worker.cancel("early")
    said = list(worker.run([work_item("early", steps=100)]))
    assert [type(event) for event in said][-1] is WorkCancelled
    assert "nowhere" not in worker.status().resident


def test_a_cluster_that_does_not_answer_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray as library

    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)  # its client, which the tests don't install
    workers = RayWorkers("ray://127.0.0.1:1", {}, look_s=60.0)
    asked = threading.Event()

    def init(address: str, **options: Any) -> None:
        assert address == "ray://127.0.0.1:1" and len(options["runtime_env"]["py_modules"]) == 4
        raise ConnectionError("ray client connection timeout")

    workers._ray = SimpleNamespace(
        exceptions=library.exceptions, is_initialized=lambda: False, shutdown=asked.set, init=init
    )
    workers.start(lambda worker: None, lambda worker: None)
    assert asked.wait(5.0)
    expected = EngineStatus(state="stopped", text="No Ray cluster at ray://127.0.0.1:1")
    wait_until(lambda: workers.status() == expected)
    workers.stop()
    assert workers._thread is not None and not workers._thread.is_alive()


@pytest.mark.parametrize(("where", "what"), [("ray:2", "Ray"), ("ray://host:10001", "Ray with its client")])
def test_without_ray_the_option_says_what_to_install(
    where: str, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(StudioError, match=f"needs {what}, which is not installed") as caught:
        make_workers(settings_for(tmp_path, workers=where))
    assert "requirements-ray.txt" in caught.value.hint
