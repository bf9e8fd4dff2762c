"""The spawned worker with a tiny engine in a real process: killed, hung, stopped, abandoned (F11–F13)."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from contract import events
from contract.recipe import Hires, ImageRef, ModelRef, Recipe
from contract.records import EngineStatus
from contract.tasks import Generate, Task, Upscale
from contract.work import (
    Evict,
    Prefetch,
    WorkCancelled,
    WorkDone,
    WorkerEvent,
    WorkFailed,
    WorkImage,
    WorkItem,
    WorkStep,
    path_key,
)
from studio.studio import Studio
from studio.workers.child import Outbox, waits_asleep
from studio.workers.process import ProcessWorker, _Silence
from tests.studio.conftest import ME, YOU, draft, finish, run, wait_until
from tests.support.fakes import gradient

ROOT = Path(__file__).parents[2]
FACTORY = "tests.support.fakes:FakeEngine"
REF = ModelRef(name="starter", family="sd1")


def work_item(job_id: str = "j1", prompt: str = "a barn", steps: int = 4, attempt: int = 1, count: int = 1) -> WorkItem:
    recipe = Recipe(
        prompt=prompt,
        model=REF,
        sampler="euler",
        schedule="uniform",
        steps=steps,
        guidance=7.0,
        width=64,
        height=64,
        seed=1,
        count=count,
    )
    return WorkItem(job_id, attempt, Generate(recipe=recipe), model_paths={"checkpoint/starter": "/nowhere/starter"})


class Engine:
    """A started worker and what it said of itself."""

    def __init__(
        self,
        hang_s: float = 0.6,
        quiet_s: float = 5.0,
        warm: bool = True,
        cancel_s: float = 4.0,
        end_s: tuple[float, float, float] = (5.0, 20.0, 60.0),
        **options: object,
    ) -> None:
        self.said: list[EngineStatus] = []
        self.worker = ProcessWorker(
            options,
            ("/nowhere/starter", REF) if warm else None,
            factory=FACTORY,
            hang_s=hang_s,
            quiet_s=quiet_s,
            cancel_s=cancel_s,
            end_s=end_s,
        )
        began = time.monotonic()
        self.worker.start(self.said.append)
        self.start_s = time.monotonic() - began

    def run(self, wanted: WorkItem) -> list[WorkerEvent]:
        return list(self.worker.run([wanted]))

    def wait_ready(self) -> None:
        wait_until(lambda: self.worker.status().state == "ready", 20)

    @property
    def pid(self) -> int:
        child = self.worker._child
        assert child is not None and child.process.pid is not None
        return child.process.pid


@pytest.fixture
def make_engine() -> Iterator[Callable[..., Engine]]:
    engines: list[Engine] = []

    def make(**options: object) -> Engine:
        engines.append(Engine(**options))  # type: ignore[arg-type]
        return engines[-1]

    yield make
    for engine in engines:
        engine.worker.stop()


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="only POSIX can stop a process for a while")
def test_f12_a_stopped_engine_is_said_not_to_respond_and_its_job_runs_once(make_engine: Callable[..., Engine]) -> None:
    engine = make_engine(hang_s=60.0, quiet_s=1.6, step_s=0.05)
    engine.wait_ready()
    said: list[WorkerEvent] = []
    follower = threading.Thread(target=lambda: said.extend(engine.run(work_item(steps=10))))
    follower.start()
    wait_until(lambda: engine.worker.status().state == "working")
    os.kill(engine.pid, signal.SIGSTOP)
    try:
        wait_until(lambda: engine.worker.status().text.startswith("Not responding for 2 s"), 20)
    finally:
        os.kill(engine.pid, signal.SIGCONT)
    follower.join(20)
    assert [type(event) for event in said].count(WorkDone) == [type(event) for event in said].count(WorkImage) == 1
    assert not engine.worker.status().text.startswith("Not responding")


def test_an_idle_engine_gives_signs_of_life(make_engine: Callable[..., Engine]) -> None:
    engine = make_engine(quiet_s=1.6)
    engine.wait_ready()
    until = time.monotonic() + 2.5
    while time.monotonic() < until:
        assert engine.worker.status().state == "ready" and "Not responding" not in engine.worker.status().text
        time.sleep(0.05)


def test_it_is_told_what_to_keep_in_memory_at_rest_and_at_work(make_engine: Callable[..., Engine]) -> None:
    other = ModelRef(name="other", family="sd1")
    engine = make_engine(step_s=0.05)
    engine.wait_ready()
    engine.worker.tell(Prefetch(other, "/nowhere/other"))
    wait_until(lambda: engine.worker.status().resident == ("starter", "other"))
    assert engine.worker.status().models[1].name == "other" and engine.worker.status().state == "ready"
    heard: list[WorkerEvent] = []
    for event in engine.worker.run([work_item(steps=30)]):
        heard.append(event)
        if isinstance(event, WorkStep) and event.index == 2:
            engine.worker.tell(Evict(path_key(REF)))
            wait_until(lambda: engine.worker.status().models == ())
            assert engine.worker.status().state == "working"
    assert isinstance(heard[-1], WorkDone)


@pytest.fixture(scope="module")
def shared() -> Iterator[Engine]:
    """One engine for the tests that leave it alive; a spawn takes a second on a busy machine."""
    engine = Engine(step_s=0.005, hang_s=5.0)
    yield engine
    engine.worker.stop()


def is_first(heard: list[WorkerEvent]) -> bool:
    """Whether one Step was heard so far; which one it is depends on how busy the machine is."""
    return sum(isinstance(event, WorkStep) for event in heard) == 1


def is_alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False


def test_it_starts_at_once_says_what_it_does_and_paints(make_engine: Callable[..., Engine]) -> None:
    engine = make_engine(ready_s=0.05)
    assert engine.start_s < 0.5
    said = engine.run(work_item(count=2))
    assert [type(e).__name__ for e in said].count("WorkImage") == 2 and isinstance(said[-1], WorkDone)
    painted = next(e for e in said if isinstance(e, WorkImage))
    assert painted.pixels == gradient(64, 64, 1)
    wait_until(lambda: engine.worker.status().text == "starter ready")
    texts = [status.text for status in engine.said]
    assert texts[0] == "Starting, about 8 s"
    assert [t for t in texts if t in ("Loading starter", "Working", "starter ready")][-2:] == [
        "Working",
        "starter ready",
    ]
    assert engine.worker.status().device == "Fake, 1 thread" and engine.worker.status().resident == ("starter",)


def test_f13_killed_in_mid_step_the_job_fails_and_the_next_one_works(make_engine: Callable[..., Engine]) -> None:
    engine = make_engine(step_s=0.02)
    heard: list[WorkerEvent] = []
    for event in engine.worker.run([work_item(steps=100)]):
        heard.append(event)
        if isinstance(event, WorkStep) and is_first(heard):
            os.kill(engine.pid, signal.SIGKILL)
    ending = heard[-1]
    assert isinstance(ending, WorkFailed) and ending.code == "worker_died"
    assert ending.message.startswith("The engine stopped during step ")
    assert "Engine restarting" in [status.text for status in engine.said]
    assert isinstance(engine.run(work_item("j2"))[-1], WorkDone)


def test_f10_a_fault_of_the_device_fails_one_job_and_costs_one_restart(make_engine: Callable[..., Engine]) -> None:
    engine = make_engine()
    assert isinstance(engine.run(work_item())[-1], WorkDone)
    before = engine.pid
    ending = engine.run(work_item("j2", prompt="[fault]"))[-1]
    assert isinstance(ending, WorkFailed) and ending.code == "device_fault"
    assert isinstance(engine.run(work_item("j3"))[-1], WorkDone)
    assert engine.pid != before and not is_alive(before)


def test_f11_silence_is_a_hang_and_costs_one_restart(make_engine: Callable[..., Engine]) -> None:
    engine = make_engine(hang_s=0.3, step_s=0.09)
    assert isinstance(engine.run(work_item())[-1], WorkDone)  # slow steps are no hang
    began = time.monotonic()
    ending = engine.run(work_item(prompt="[hang]"))[-1]
    assert isinstance(ending, WorkFailed) and ending.code == "worker_hung" and "during step 3" in ending.message
    assert 0.3 < time.monotonic() - began < 3
    assert isinstance(engine.run(work_item("j2"))[-1], WorkDone)


def test_f12_a_stopped_process_goes_on_without_running_twice(shared: Engine) -> None:
    heard: list[WorkerEvent] = []
    for event in shared.worker.run([work_item(steps=20)]):
        heard.append(event)
        if isinstance(event, WorkStep) and is_first(heard):
            os.kill(shared.pid, signal.SIGSTOP)
            threading.Timer(0.3, os.kill, (shared.pid, signal.SIGCONT)).start()
    steps = [e.index for e in heard if isinstance(e, WorkStep)]
    assert steps == sorted(set(steps)) and isinstance(heard[-1], WorkDone)


def test_a_job_is_cancelled_between_steps_and_another_is_not(shared: Engine) -> None:
    heard: list[WorkerEvent] = []
    for event in shared.worker.run([work_item(steps=150)]):
        heard.append(event)
        if isinstance(event, WorkStep) and is_first(heard):
            shared.worker.cancel("another")
            shared.worker.cancel("j1")
    assert isinstance(heard[-1], WorkCancelled)
    assert max(e.index for e in heard if isinstance(e, WorkStep)) < 100
    assert isinstance(shared.run(work_item("j1", attempt=2))[-1], WorkDone)  # the cancel is over with its job


def test_stopping_under_a_job_is_quick_and_leaves_nothing(make_engine: Callable[..., Engine]) -> None:
    engine = make_engine(step_s=0.05, hang_s=60.0)
    endings: list[WorkerEvent] = []
    thread = threading.Thread(target=lambda: endings.extend(engine.run(work_item(prompt="[hang]", steps=150))))
    thread.start()
    wait_until(lambda: engine.worker.status().state == "working", 20)
    pid = engine.pid
    os.kill(pid, signal.SIGSTOP)  # even one that can't hear
    began = time.monotonic()
    engine.worker.stop()
    engine.worker.stop()
    assert time.monotonic() - began < 3 and not is_alive(pid)
    thread.join(3)
    assert not thread.is_alive() and isinstance(endings[-1], WorkFailed)
    assert engine.worker.status().text == "Engine stopped"
    assert [type(e) for e in engine.run(work_item())] == [WorkFailed]


def test_an_engine_that_can_not_start_is_given_up(make_engine: Callable[..., Engine]) -> None:
    engine = make_engine(fail_start=True)
    wait_until(lambda: engine.worker.status().state == "stopped", 30)
    ending = engine.run(work_item())[-1]
    assert isinstance(ending, WorkFailed) and ending.message == "The engine could not be started."


ORPHAN = """
import sys, threading
from studio.workers.process import ProcessWorker, _Silence
if __name__ == "__main__":
    worker = ProcessWorker({"step_s": 0.01}, None, factory="tests.support.fakes:FakeEngine")
    ready = threading.Event()
    worker.start(lambda status: ready.set() if status.state == "ready" else None)
    ready.wait(20)
    from tests.studio.test_process_worker import work_item
    for event in worker.run([work_item(prompt="[hang]", steps=4)]):
        print(worker._child.process.pid, flush=True)
"""


def test_the_process_ends_with_its_parent_even_in_a_hang(tmp_path: Path) -> None:
    script = tmp_path / "orphan.py"
    script.write_text(ORPHAN)
    with subprocess.Popen(
        [sys.executable, str(script)], cwd=ROOT, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)}
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert is_alive(pid)
        parent.kill()
    wait_until(lambda: not is_alive(pid), 5)


def test_ctrl_c_does_not_reach_it(shared: Engine) -> None:
    heard: list[WorkerEvent] = []
    for event in shared.worker.run([work_item(steps=10)]):
        heard.append(event)
        if isinstance(event, WorkStep) and is_first(heard):
            os.kill(shared.pid, signal.SIGINT)
    assert isinstance(heard[-1], WorkDone)


@pytest.mark.alone
def test_a_slow_parent_holds_up_no_step_and_loses_only_steps() -> None:
    sent: list[object] = []
    gate = threading.Event()

    class SlowPipe:
        def send(self, message: object) -> None:
            gate.wait()
            sent.append(message)

    outbox = Outbox(SlowPipe())  # type: ignore[arg-type]
    threading.Thread(target=outbox.send_all, daemon=True).start()
    preview = gradient(8, 8, 1)
    began = time.monotonic()
    for image in range(2):
        for index in range(1, 101):
            outbox.put(WorkStep("j", image, index, 100, preview if index == 50 else None))
        outbox.put(WorkImage("j", image, preview, 0.1, {}))
    outbox.put(WorkDone("j", 1.0))
    assert time.monotonic() - began < 0.5
    gate.set()
    wait_until(lambda: bool(sent) and isinstance(sent[-1], WorkDone))
    steps = [m for m in sent if isinstance(m, WorkStep)]
    assert len(steps) <= 4 and steps[-1].index == 100 and steps[-1].preview == preview
    assert [type(m) for m in sent if not isinstance(m, WorkStep)] == [WorkImage, WorkImage, WorkDone]


def test_a_studio_with_a_process_survives_its_death(make_studio: Callable[..., Studio]) -> None:
    studio = make_studio(ProcessWorker({"step_s": 0.002}, None, factory=FACTORY, hang_s=10.0))
    said = finish(studio, studio.submit(draft("[die] [once]", count=2), ME).id, timeout_s=30)
    assert isinstance(said[-1], events.Done) and said[-1].attempt == 2
    twice = finish(studio, studio.submit(draft("[die]"), ME).id, timeout_s=30)
    assert isinstance(twice[-1], events.Failed) and twice[-1].code == "worker_died"
    assert isinstance(run(studio)[-1], events.Done)


def silence_s(task: Task, *steps_s: float) -> float:
    """Seconds of silence that a worker may keep during a task, after steps of such lengths."""
    silence, job = _Silence(120.0), WorkItem("j1", 1, task)
    for number, seconds in enumerate(steps_s, 1):
        silence.learn(job, WorkStep("j1", 0, number, 9), WorkStep("j1", 0, number + 1, 9), seconds)
    return silence.limit(job, WorkStep("j1", 0, 2, 9))


def test_long_work_that_says_little_is_no_hang() -> None:
    """A tile of a large upscaler takes minutes on a CPU, and so does a step of the second pass after quick first ones."""
    image, large = ImageRef(sha256="0" * 64), ModelRef(kind="upscaler", name="hat", family="upscaler")
    assert silence_s(Upscale(image=image)) == 120.0
    assert silence_s(Upscale(image=image, upscaler=large)) == 600.0
    assert silence_s(Upscale(image=image, upscaler=large, tile=512)) == 2400.0
    recipe = Recipe(
        prompt="", model=REF, sampler="euler", schedule="uniform", steps=4, guidance=7.0, width=512, height=512, seed=1
    )
    assert silence_s(Generate(recipe=recipe), 20.0) == pytest.approx(400.0)
    twice = Generate(recipe=recipe.model_copy(update={"hires": Hires(scale=4.0)}))
    assert silence_s(twice, 20.0) == pytest.approx(10 * 10.0 * 16**1.5)


def cancel_at_the_first_step(
    engine: Engine, wanted: WorkItem, strike: Callable[[], None] = lambda: None
) -> list[WorkerEvent]:
    """What is said of a job that is canceled at its first step."""
    heard: list[WorkerEvent] = []
    for event in engine.worker.run([wanted]):
        heard.append(event)
        if isinstance(event, WorkStep) and is_first(heard):
            strike()
            engine.worker.cancel(wanted.job_id)
    return heard


def test_a_job_is_canceled_though_its_step_never_ends_and_anothers_survives(make_studio: Callable[..., Studio]) -> None:
    worker = ProcessWorker({}, None, factory=FACTORY, hang_s=60.0, cancel_s=0.3, end_s=(0.3, 0.3, 0.3))
    studio = make_studio(worker)
    hung = studio.submit(draft("[hang]", steps=4), ME)
    theirs = studio.submit(draft(), YOU)
    wait_until(
        lambda: any(isinstance(event, events.Step) for event in studio.event_log(hung.id, ME).since(0).events), 30
    )
    studio.cancel(hung.id, ME)
    assert isinstance(finish(studio, hung.id, timeout_s=10)[-1], events.Cancelled)
    done = finish(studio, theirs.id, YOU, timeout_s=30)[-1]  # on a new process: the old one was not free
    assert isinstance(done, events.Done) and done.attempt == 1


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="only POSIX can stop a process for a while")
def test_a_canceled_job_is_over_soon_though_the_process_is_stopped(make_engine: Callable[..., Engine]) -> None:
    engine = make_engine(hang_s=60.0, quiet_s=1.2, cancel_s=0.3, end_s=(60.0, 60.0, 60.0), step_s=0.02)
    engine.wait_ready()
    before = engine.pid
    heard = cancel_at_the_first_step(engine, work_item(steps=150), lambda: os.kill(before, signal.SIGSTOP))
    assert isinstance(heard[-1], WorkCancelled)
    assert isinstance(engine.run(work_item("of another"))[-1], WorkDone)  # silence is no slow step: not waited for
    assert engine.pid != before and not is_alive(before)


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="only POSIX can stop a process for a while")
def test_a_slow_step_of_a_canceled_job_is_waited_for_by_the_next(make_engine: Callable[..., Engine]) -> None:
    engine = make_engine(hang_s=60.0, quiet_s=60.0, cancel_s=0.1, end_s=(60.0, 60.0, 60.0), step_s=0.02)
    engine.wait_ready()
    before = engine.pid
    heard = cancel_at_the_first_step(engine, work_item(steps=150), lambda: os.kill(before, signal.SIGSTOP))
    assert isinstance(heard[-1], WorkCancelled)
    assert engine.said[-1].text == "Ending the step of a canceled job"
    threading.Timer(0.2, os.kill, (before, signal.SIGCONT)).start()
    said = engine.run(work_item("of another", steps=1))
    assert isinstance(said[-1], WorkDone) and {event.job_id for event in said} == {"of another"}
    assert engine.pid == before


def test_a_job_that_waits_for_anothers_step_can_be_canceled_too(make_engine: Callable[..., Engine]) -> None:
    engine = make_engine(hang_s=60.0, cancel_s=0.1, end_s=(60.0, 60.0, 60.0))
    engine.wait_ready()
    cancel_at_the_first_step(engine, work_item(prompt="[hang]", steps=2))
    threading.Timer(0.1, engine.worker.cancel, ("j2",)).start()
    assert [type(event) for event in engine.run(work_item("j2"))] == [WorkCancelled]


def test_a_job_is_canceled_while_the_engine_still_starts(make_engine: Callable[..., Engine]) -> None:
    engine = make_engine(ready_s=1.5, cancel_s=0.2)
    pid = engine.pid
    threading.Timer(0.1, engine.worker.cancel, ("j1",)).start()
    assert [type(event) for event in engine.run(work_item())] == [WorkCancelled]
    assert engine.worker.status().state == "starting"
    assert isinstance(engine.run(work_item("j2"))[-1], WorkDone) and engine.pid == pid  # it is no hang


def test_how_long_a_step_may_still_take_follows_what_was_measured() -> None:
    silence, wanted = _Silence(120.0), work_item()
    assert silence.end_s(wanted) is None
    silence.learn(wanted, WorkStep("j1", 0, 1, 4), WorkStep("j1", 0, 2, 4), 3.0)
    assert silence.end_s(wanted) == pytest.approx(12.0)


@pytest.mark.parametrize(
    ("load", "policy", "asleep"),
    [(0.3, None, False), (9.0, None, True), (9.0, "ACTIVE", False), (0.3, "PASSIVE", False)],
)
def test_threads_wait_asleep_where_the_machine_is_busy(
    load: float, policy: str | None, asleep: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    if policy:
        monkeypatch.setenv("OMP_WAIT_POLICY", policy)
    monkeypatch.setattr("os.getloadavg", lambda: (load, 0.0, 0.0))
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    assert waits_asleep() is asleep
