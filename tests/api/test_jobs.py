"""Jobs over HTTP: what is refused and in which words, and that nobody reaches another's."""

import json
from typing import Any

import pytest

from contract.recipe import MAX_SEED
from tests.support.serving import Site, Visitor, until


def test_a_prompt_alone_makes_a_picture(me: Visitor) -> None:
    answer = me.post("/api/v1/jobs", json={"prompt": "sea"})
    assert answer.status_code == 202 and set(answer.json()) == {"id", "position", "jobs"}
    assert answer.json()["jobs"] == [answer.json()["id"]]
    job = me.finish(answer.json()["id"])
    assert job["state"] == "done" and job["progress"] == 1 and len(job["image_ids"]) == 1
    assert job["error"] is None and job["recipe"]["model"]["name"] == "starter"


def test_a_seed_may_be_text_and_comes_back_as_text(me: Visitor) -> None:
    job = me.finish(me.paint(seed=str(MAX_SEED)))
    assert job["seed"] == str(MAX_SEED) and job["recipe"]["seed"] == MAX_SEED


def test_a_dynamic_prompt_is_drawn_for_each_picture_in_a_job_of_its_own(me: Visitor) -> None:
    draft = {"prompt": "a {red|blue|green|gray} sea", "dynamic": True, "seed": 1, "count": 4, "steps": 1}
    answer = me.post("/api/v1/jobs", json=draft, headers={"Idempotency-Key": "drawn"}).json()
    assert me.post("/api/v1/jobs", json=draft, headers={"Idempotency-Key": "drawn"}).json() == answer
    made = [me.finish(job_id) for job_id in answer["jobs"]]
    assert answer["id"] == answer["jobs"][0] and [len(job["image_ids"]) for job in made] == [1] * 4
    assert [job["seed"] for job in made] == ["1", "2", "3", "4"] and len({job["recipe"]["prompt"] for job in made}) > 1


def test_a_recipe_read_back_is_a_valid_draft(me: Visitor) -> None:
    recipe = me.get(f"/api/v1/images/{me.picture(seed=7)}/recipe").json()
    answer = me.post("/api/v1/jobs", json=recipe)
    assert answer.status_code == 202
    assert me.finish(answer.json()["id"])["recipe"] == recipe


@pytest.mark.parametrize(
    ("draft", "code"),
    [
        ('{"prompt": "x", "steps": 0}', "invalid_steps"),
        ('{"prompt": "x", "steps": -1}', "invalid_steps"),
        ('{"prompt": "x", "steps": 1000000000}', "invalid_steps"),
        ('{"prompt": "x", "steps": "20"}', "invalid_steps"),
        ('{"prompt": "x", "steps": 2.5}', "invalid_steps"),
        ('{"prompt": "x", "steps": true}', "invalid_steps"),
        ('{"prompt": "x", "steps": []}', "invalid_steps"),
        ('{"prompt": "x", "guidance": 1e30}', "invalid_guidance"),
        ('{"prompt": "x", "guidance": 1e999}', "invalid_guidance"),
        ('{"prompt": "x", "guidance": -5}', "invalid_guidance"),
        ('{"prompt": "x", "guidance": "NaN"}', "invalid_guidance"),
        ('{"prompt": "x", "count": 0}', "invalid_count"),
        ('{"prompt": "x", "count": 10000}', "invalid_count"),
        ('{"prompt": "x", "clip_skip": -3}', "invalid_clip_skip"),
        ('{"prompt": "x", "clip_skip": 99}', "invalid_clip_skip"),
        ('{"prompt": "x", "width": 500}', "invalid_width"),
        ('{"prompt": "x", "height": 0}', "invalid_height"),
        ('{"prompt": "x", "width": 100000}', "invalid_width"),
        ('{"prompt": "x", "seed": -1}', "invalid_seed"),
        ('{"prompt": "x", "seed": 18446744073709551616}', "invalid_seed"),
        ('{"prompt": "x", "seed": 1' + "0" * 400 + "}", "invalid_seed"),
        (
            '{"prompt": "x", "init_image": {"image": {"sha256": "' + "0" * 64 + '"}, "strength": 2}}',
            "invalid_init_image_strength",
        ),
        ('{"prompt": "x", "init_image": {"image": {"sha256": "../etc"}}}', "invalid_init_image_image_sha256"),
        ('{"prompt": []}', "invalid_prompt"),
        ('{"prompt": null}', "invalid_prompt"),
        ("{}", "invalid_prompt"),
        ('{"prompt": "' + "x" * 200_001 + '"}', "invalid_prompt"),
        ('{"prompt": "x", "sampler": "no such"}', "invalid_sampler"),
        ('{"prompt": "x", "sampler": "ddim", "schedule": "karras"}', "invalid_schedule"),
        ('{"prompt": "x", "eta": NaN}', "unknown_field"),
        ('{"prompt": "x", "guidance": NaN}', "invalid_guidance"),
        ('{"prompt": "x"', "invalid_recipe"),
        ("NaN", "invalid_recipe"),
        ('{"prompt": "x", "eta": 1}', "unknown_field"),
        ('{"prompt": "x", "output_path": "/etc/passwd"}', "unknown_field"),
    ],
)
def test_a_bad_value_is_named_and_never_repaired(me: Visitor, draft: str, code: str) -> None:
    answer = me.post("/api/v1/jobs", content=draft, headers={"content-type": "application/json"})
    assert answer.status_code == (400 if code == "invalid_recipe" else 422), answer.text
    problem = answer.json()
    assert set(problem) - {"field", "fix"} == {"code", "message", "hint"} and problem["code"] == code
    assert problem["message"] and problem["hint"] and len(problem["message"]) < 250


@pytest.mark.parametrize("model", ["no such", "../starter", "/etc/passwd", "starter\x00", "STARTER/../starter"])
def test_a_model_that_is_not_there_is_named(me: Visitor, model: str) -> None:
    answer = me.post("/api/v1/jobs", json={"prompt": "x", "model": model})
    assert answer.status_code in (404, 422) and set(answer.json()) - {"field", "fix"} == {"code", "message", "hint"}


def test_each_clip_skip_of_the_range_works(me: Visitor) -> None:
    assert [me.finish(me.paint(clip_skip=n))["state"] for n in (1, 2, 3, 4)] == ["done"] * 4


@pytest.mark.parametrize("prompt", ["", "word " * 20_000, "((((", "\u202e\x01<script>", "海" * 1000])
def test_an_odd_prompt_is_painted(me: Visitor, prompt: str) -> None:
    assert me.finish(me.paint(prompt))["state"] == "done"


def test_a_failure_says_why(me: Visitor) -> None:
    job = me.finish(me.paint("[oom] sea"))
    assert job["state"] == "failed" and job["error"]["code"] == "out_of_memory"
    assert job["error"]["message"] and job["error"]["hint"]


def test_too_many_jobs_get_429_and_a_time(held: Site) -> None:
    me = held.visitor()
    jobs = []
    for _ in range(held.studio.settings.max_jobs_per_owner + 5):
        answer = me.post("/api/v1/jobs", json={"prompt": "sea"})
        if answer.status_code == 429:
            break
        jobs.append(answer.json()["id"])
    assert answer.status_code == 429 and answer.json()["code"] == "queue_full"
    assert int(answer.headers["retry-after"]) >= 1
    assert held.visitor().post("/api/v1/jobs", json={"prompt": "mine"}).status_code == 202
    for job in jobs:
        me.delete(f"/api/v1/jobs/{job}")


def test_a_running_job_is_cancelled_and_the_next_runs(held: Site) -> None:
    me = held.visitor()
    first = me.paint()
    until(lambda: me.state(first) == "running")
    second = me.paint()
    assert me.delete(f"/api/v1/jobs/{first}").status_code == 200
    held.worker.gate.set()
    assert me.finish(first)["state"] == "cancelled" and me.finish(second)["state"] == "done"


def test_cancelling_twice_changes_nothing(me: Visitor) -> None:
    job = me.paint()
    me.finish(job)
    answer = me.delete(f"/api/v1/jobs/{job}")
    assert answer.status_code == 200 and answer.json()["state"] == "done"


def test_a_waiting_job_moves_up(held: Site) -> None:
    me = held.visitor()
    jobs = [me.paint() for _ in range(3)]
    until(lambda: me.state(jobs[0]) == "running")
    moved = me.post(f"/api/v1/jobs/{jobs[2]}/move_up").json()
    assert moved["position"] < me.get(f"/api/v1/jobs/{jobs[1]}").json()["position"]
    for job in jobs:
        me.delete(f"/api/v1/jobs/{job}")


@pytest.mark.parametrize(
    ("method", "path"), [("GET", ""), ("DELETE", ""), ("GET", "/events"), ("POST", "/move_up"), ("POST", "/retry_save")]
)
def test_anothers_job_is_not_there(held: Site, method: str, path: str) -> None:
    me, you = held.visitor(), held.visitor()
    job = me.paint()
    answer = you.request(method, f"/api/v1/jobs/{job}{path}")
    assert answer.status_code == 404 and answer.json()["code"] == "not_found"
    assert me.state(job) in ("queued", "running")
    me.delete(f"/api/v1/jobs/{job}")


def test_two_windows_see_their_own_jobs(held: Site) -> None:
    me, you = held.visitor(), held.visitor()

    def paint(session: str) -> str:
        answer = me.post("/api/v1/jobs", json={"prompt": session}, headers={"X-Darkroom-Session": session})
        return str(answer.json()["id"])

    def jobs(session: str, visitor: Visitor = me) -> list[Any]:
        return [job["id"] for job in visitor.get("/api/v1/jobs", params={"session": session}).json()["jobs"]]

    first, second = paint("left"), paint("right")
    assert jobs("left") == [first] and jobs("right") == [second]
    assert jobs("left", you) == []
    for job in (first, second):
        me.delete(f"/api/v1/jobs/{job}")


@pytest.mark.parametrize("session", ["x" * 65, "a b", "../x", "é"])
def test_a_session_has_a_plain_name(me: Visitor, session: str) -> None:
    answer = me.post("/api/v1/jobs", json={"prompt": "x"}, params={"session": session})
    assert answer.status_code == 422 and answer.json()["code"] == "invalid_session"


def test_the_queue_shows_nothing_of_anothers_job(held: Site) -> None:
    me, you = held.visitor(), held.visitor()
    job = me.paint("a secret prompt")
    rows = you.get("/api/v1/queue").json()["rows"]
    assert rows and "secret" not in json.dumps(rows) and job not in json.dumps(rows)
    assert any(row["job_id"] == job for row in me.get("/api/v1/queue").json()["rows"])
    me.delete(f"/api/v1/jobs/{job}")


@pytest.mark.parametrize("job", ["nope", "..%2F..", "%00", "a;b", "0" * 22, "x" * 3000])
def test_an_unknown_job_is_not_there(me: Visitor, job: str) -> None:
    answer = me.get(f"/api/v1/jobs/{job}")
    assert answer.status_code == 404 and set(answer.json()) - {"field", "fix"} == {"code", "message", "hint"}


def test_a_job_that_is_looked_at_says_its_notices(me: Visitor) -> None:
    job_id = me.post("/api/v1/jobs", json={"prompt": "sea [notice]"}).json()["id"]
    until(lambda: me.get(f"/api/v1/jobs/{job_id}").json()["state"] == "done")
    assert "A fake notice." in me.get(f"/api/v1/jobs/{job_id}").json()["notices"]


def test_a_request_with_a_key_begins_one_job_however_often_it_is_sent(me: Visitor) -> None:
    ids = {
        me.post("/api/v1/jobs", json={"prompt": "once"}, headers={"Idempotency-Key": "abc"}).json()["id"]
        for _ in range(3)
    }
    assert len(ids) == 1
    answer = me.post("/api/v1/jobs", json={"prompt": "once"}, headers={"Idempotency-Key": "a b"})
    assert answer.status_code == 422 and answer.json()["code"] == "invalid_key"


def test_a_refusal_names_its_field_with_the_place_in_its_list(me: Visitor) -> None:
    picture = {"sha256": "0" * 64}
    draft = {"prompt": "x", "ip_adapters": [{"model": "face", "image": picture}, {"model": "face", "image": picture}]}
    answer = me.post("/api/v1/jobs", json=draft).json()
    assert (answer["field"], answer["code"]) == ("ip_adapters.0.image", "invalid_ip_adapters_image")
    answer = me.post("/api/v1/jobs", json={"prompt": "x", "loras": [{"model": "nowhere"}]}).json()
    assert (answer["field"], answer["code"]) == ("loras.0.model", "invalid_loras_model")
    answer = me.post(
        "/api/v1/jobs", json={"prompt": "x", "width": 1024, "height": 1024, "hires": {"scale": 8.0}}
    ).json()
    assert answer["field"] == "hires.scale" and 1 < answer["fix"]["hires.scale"] < 8
