"""--lan: everything asks for the password, wrong ones are slowed, nobody else is locked out."""

from collections.abc import Iterator

import httpx
import pytest

from api.app import build_app
from api.security.middleware import SecurityMiddleware
from contract.errors import StudioError
from studio.settings import Settings
from studio.studio import Studio
from tests.support.fakes import FakeWorker
from tests.support.serving import Site, Visitor, served

PASSWORD = "pässword with spaces & 海"
VISIT = {"accept": "text/html", "sec-fetch-site": "none", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with served(tmp_path_factory.mktemp("lan"), lan=True, password=PASSWORD) as running:
        yield running


@pytest.fixture
def lan(shared: Site) -> Site:
    """The site, with what this address did before forgiven."""
    throttle = next(
        part.kwargs["auth"] for part in shared.app.user_middleware if part.cls is SecurityMiddleware
    )._throttle
    throttle.passed("127.0.0.1")
    return shared


def log_in(visitor: Visitor, password: str = PASSWORD) -> httpx.Response:
    return visitor.post("/login", data={"password": password})


def test_without_a_password_it_does_not_start(tmp_path: object) -> None:
    settings = Settings(data_dir=tmp_path, lan=True)  # type: ignore[arg-type]
    with pytest.raises(StudioError, match="password"):
        build_app(Studio(settings, FakeWorker()), settings)


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/health",
        "/api/v1/openapi.json",
        "/api/v1/docs/docs.js",
        "/api/v1/images",
        "/api/v1/images/x",
        "/page/a.js",
        "/config",
        "/theme.css",
        "/assets/x.js",
        "/gradio_api/info",
        "/gradio_api/queue/data?session_hash=a",
        "/favicon.ico",
        "/monitoring",
        "/docs",
        "/openapi.json",
        "/nope",
    ],
)
def test_a_stranger_gets_nothing(lan: Site, path: str) -> None:
    answer = lan.visitor().get(path)
    assert answer.status_code in (401, 403, 404) and answer.json()["code"]
    assert answer.status_code == 401 or path in ("/monitoring", "/docs", "/openapi.json", "/nope")
    assert "set-cookie" not in answer.headers


def test_a_stranger_may_not_submit(lan: Site) -> None:
    answer = lan.visitor().post("/api/v1/jobs", json={"prompt": "x"})
    assert answer.status_code == 401 and lan.studio.queue("nobody") == ()


def test_a_visit_leads_to_the_password_and_from_there_to_the_page(lan: Site) -> None:
    me = lan.visitor()
    visit = me.get("/", headers=VISIT)
    assert visit.status_code == 303 and visit.headers["location"] == "/login"
    form = me.get("/login", headers=VISIT)
    assert form.status_code == 200 and 'type="password"' in form.text
    assert "script" not in form.text and "default-src 'none'" in form.headers["content-security-policy"]
    opened = log_in(me)
    assert opened.status_code == 303 and opened.headers["location"] == "/"
    assert "HttpOnly" in opened.headers["set-cookie"]
    assert me.get("/api/v1/health").status_code == 200 and me.finish(me.paint())["state"] == "done"


def test_http_basic_is_for_programs(lan: Site) -> None:
    auth = httpx.BasicAuth("anyone", PASSWORD.encode())
    assert lan.visitor(auth=auth).get("/api/v1/health").status_code == 200
    wrong = lan.visitor(auth=httpx.BasicAuth("anyone", "wrong")).get("/api/v1/health")
    assert wrong.status_code == 401 and wrong.json()["message"] == "Wrong password."


@pytest.mark.parametrize("header", ["Basic", "Basic !!!", "Basic " + "A" * 5000, "Bearer x", "Basic Og=="])
def test_an_odd_authorization_is_no_password(lan: Site, header: str) -> None:
    answer = lan.visitor().get("/api/v1/health", headers={"authorization": header})
    assert answer.status_code == 401


def test_200_wrong_passwords_are_slowed(lan: Site) -> None:
    me = lan.visitor()
    answers = [log_in(me, f"wrong {n}") for n in range(200)]
    assert answers[0].status_code == 401 and "Wrong password. Next try in 1 s." in answers[0].text
    slowed = [answer for answer in answers if answer.status_code == 429]
    assert len(slowed) >= 195 and all(int(answer.headers["retry-after"]) >= 1 for answer in slowed)
    assert log_in(me).status_code == 429  # the right one too: a guess must not be told from others


def test_who_is_in_stays_in_while_others_guess(lan: Site) -> None:
    me, guesser = lan.visitor(), lan.visitor()
    log_in(me)
    for n in range(20):
        log_in(guesser, f"wrong {n}")
    assert me.get("/api/v1/health").status_code == 200


@pytest.mark.parametrize(
    "body", [b"", b"password", b"password=%FF%FE", b"\xff", b"password=a&" * 50, b"x" * 9000, b"other=1"]
)
def test_an_odd_form_is_a_wrong_password(lan: Site, body: bytes) -> None:
    answer = lan.visitor().post("/login", content=body, headers={"content-type": "application/x-www-form-urlencoded"})
    assert answer.status_code == 401 and "Wrong password" in answer.text


def test_a_large_form_is_refused(lan: Site) -> None:
    assert lan.visitor().post("/login", content=b"x" * 20_000).status_code == 413
    assert lan.visitor().post("/login", content=(b"x" * 1000 for _ in range(20))).status_code == 413


def test_a_forged_session_opens_nothing(lan: Site) -> None:
    me = lan.visitor()
    log_in(me)
    name, value = next((n, v) for n, v in me.cookies.items() if n.startswith("darkroom_session"))
    for forged in ("9" * 10 + value[10:], value[:-1], "", "x"):
        assert lan.visitor(headers={"cookie": f"{name}={forged}"}).get("/api/v1/health").status_code == 401
    assert lan.visitor(headers={"cookie": f"{name}={value}"}).get("/api/v1/health").status_code == 200


def test_a_site_elsewhere_can_not_log_anyone_in(lan: Site) -> None:
    answer = lan.visitor().post("/login", data={"password": PASSWORD}, headers={"origin": "http://evil.example"})
    assert answer.status_code == 403


def test_people_on_one_network_keep_their_own_things(lan: Site) -> None:
    me, you = lan.visitor(), lan.visitor()
    log_in(me)
    log_in(you)
    image = me.picture()
    assert me.get(f"/api/v1/images/{image}").status_code == 200
    assert you.get(f"/api/v1/images/{image}").status_code == 404


def test_without_lan_there_is_no_password_page(me: Visitor) -> None:
    assert me.get("/login").status_code == me.post("/login").status_code == 404


def test_the_user_name_of_http_basic_says_whose_a_programs_jobs_are(lan: Site) -> None:
    anna, ben = (httpx.BasicAuth(name, PASSWORD.encode()) for name in ("anna", "ben"))
    job_id = lan.program(auth=anna).paint("by anna's program")
    assert lan.program(auth=anna).get(f"/api/v1/jobs/{job_id}").status_code == 200
    assert lan.program(auth=ben).get(f"/api/v1/jobs/{job_id}").status_code == 404
