"""The whole program as a process, as a person starts it: on the starter model, over HTTP."""

import io
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image

from tests.support.program import PROJECT, Program, alive, free_port, until


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """One start for most tests; a model folder of it is damaged."""
    folder = tmp_path_factory.mktemp("run")
    broken = folder / "models" / "broken"
    (broken / "unet").mkdir(parents=True)
    (broken / "model_index.json").write_text("{")
    running = Program(folder / "data", "--models", str(folder / "models"))
    running.wait_for_page()
    yield running
    running.end()


def test_prompt_becomes_a_picture_with_its_recipe(program: Program) -> None:
    job = program.wait_until_ended(program.submit(seed=7, steps=4))
    assert job["state"] == "done", job
    (image_id,) = job["image_ids"]
    picture = program.client.get(f"/api/v1/images/{image_id}")
    assert picture.headers["content-type"] == "image/png"
    assert picture.content.startswith(b"\x89PNG")
    recipe = program.client.get(f"/api/v1/images/{image_id}/recipe").json()
    assert recipe["prompt"] == "sea at night" and recipe["seed"] == 7
    assert len(recipe["model"]["sha256"]) == 64


def test_recipe_read_back_makes_the_same_picture_bit_for_bit(program: Program) -> None:
    first = program.wait_until_ended(program.submit(seed=11, steps=4))["image_ids"][0]
    recipe = program.client.get(f"/api/v1/images/{first}/recipe").json()
    answer = program.client.post("/api/v1/jobs", json=recipe)
    second = program.wait_until_ended(answer.json()["id"])["image_ids"][0]
    pixels = [
        Image.open(io.BytesIO(program.client.get(f"/api/v1/images/{i}").content)).tobytes() for i in (first, second)
    ]
    assert first != second and pixels[0] == pixels[1]


def test_damaged_model_folder_is_named_and_the_starter_still_paints(program: Program) -> None:
    refused = program.client.post("/api/v1/jobs", json={"prompt": "x", "model": "broken"})
    assert refused.status_code == 422 and "broken" in refused.json()["message"], refused.text
    assert program.wait_until_ended(program.submit(steps=2))["state"] == "done"


def test_killed_worker_costs_one_restart_and_no_job(program: Program) -> None:
    program.wait_for_engine()
    job_id = program.submit(steps=150, width=256, height=256, seed=3)
    until(lambda: program.job(job_id)["step"] > 2)
    (worker,) = _workers(program)
    os.kill(worker, signal.SIGKILL)
    after = program.submit(seed=5, steps=2)
    until(lambda: program.job(job_id)["attempt"] == 2 and program.job(job_id)["step"] > 0)
    program.client.delete(f"/api/v1/jobs/{job_id}")
    assert program.wait_until_ended(job_id)["state"] == "cancelled"
    assert program.wait_until_ended(after)["state"] == "done"


def _workers(program: Program) -> list[int]:
    """The spawned worker among the children (multiprocessing's resource tracker is another)."""
    found = []
    for pid in program.children():
        command = Path(f"/proc/{pid}/cmdline").read_bytes() if Path("/proc").exists() else b"spawn_main"
        if b"spawn_main" in command:
            found.append(pid)
    return found


def test_second_program_on_the_same_data_folder_is_refused_in_words(program: Program, tmp_path: Path) -> None:
    data = program.log.parent / "data"
    second = Program(data)
    assert second.process.wait(60) == 1
    text = second.log.read_text()
    assert "--data" in text and "Traceback" not in text, text
    assert program.client.get("/api/v1/health").status_code == 200


def test_taken_port_is_said_in_words(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        second = Program(tmp_path / "data", "--port", port)
        assert second.process.wait(60) == 1
    text = second.log.read_text()
    assert port in text and "--port" in text and "Traceback" not in text


def test_lan_without_a_password_is_refused(tmp_path: Path) -> None:
    program = Program(tmp_path / "data", "--lan")
    assert program.process.wait(60) not in (0, None)
    text = program.log.read_text()
    assert "DARKROOM_PASSWORD" in text and "Traceback" not in text
    assert not program.data.exists()  # said before anything was begun


def test_lan_is_reached_from_outside_and_asks_for_the_password(tmp_path: Path) -> None:
    program = Program(tmp_path / "data", "--lan", DARKROOM_PASSWORD="open sesame")
    try:
        until(lambda: program.client.get("/login").status_code == 200)
        # Another address than the one that is listened to without --lan.
        with httpx.Client(base_url=f"http://127.0.0.2:{program.port}", timeout=20) as outside:
            assert outside.get("/api/v1/jobs").status_code == 401
            assert outside.get("/api/v1/jobs", auth=("ann", "open sesame")).status_code == 200
    finally:
        program.end()


def test_it_answers_while_the_page_is_built(tmp_path: Path) -> None:
    program = Program(tmp_path / "data")
    try:
        until(lambda: program.client.get("/").status_code == 200)
        first = program.client.get("/")
        refused = program.client.get("/gradio_api/info")
        job_id = program.submit(steps=2)
        assert "is starting" in first.text and first.headers["cache-control"] == "no-store"
        assert refused.status_code == 503 and int(refused.headers["retry-after"]) > 0
        program.wait_for_page()
        page = program.client.get("/")
        assert "is starting" not in page.text and "gradio" in page.text
        assert program.client.get("/gradio_api/info").status_code == 200
        assert program.wait_until_ended(job_id)["state"] == "done"
    finally:
        program.end()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("sys.modules['gradio'] = None", "The page can't be built: "),
        ("import api.security.selftest as s\ndef fail(*_): raise StudioError('It is open.', 'Close it.')\n"
         "s.self_test = fail", "It is open. Close it."),
    ],
)  # fmt: skip
def test_a_page_that_can_not_be_built_ends_the_program(damage: str, words: str, tmp_path: Path) -> None:
    script = (
        f"import sys\nfrom contract.errors import StudioError\n{damage}\nimport app\nsys.exit(app.main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", script, "--no-browser", "--port", str(free_port()), "--data", str(tmp_path / "d")]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert words in done.stderr and "Traceback" not in done.stderr, done.stderr


def test_ctrl_c_while_the_page_is_built_ends_it(tmp_path: Path) -> None:
    program = Program(tmp_path / "data")
    until(lambda: program.client.get("/").status_code == 200)
    assert "is starting" in program.client.get("/").text
    assert program.end() <= 5
    assert program.process.returncode == 0
    text = program.log.read_text()
    assert "Traceback" not in text and "Error" not in text, text


def test_ctrl_c_in_mid_job_ends_everything_within_five_seconds_and_orphans_nothing(tmp_path: Path) -> None:
    program = Program(tmp_path / "data")
    program.wait_for_page()
    job_id = program.submit(steps=150, width=512, height=512)
    until(lambda: program.job(job_id)["step"] > 0)
    children = program.children()
    assert children
    assert program.end() <= 5
    until(lambda: not any(alive(pid) for pid in children), 2)
    assert "Traceback" not in program.log.read_text()
