"""Behind a reverse proxy: whose word counts, which names, where cookies and places lead, and who is at the machine."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import app as program
from studio.settings import Settings
from studio.studio import Studio
from tests.support.fakes import FakeWorker
from tests.support.model_folders import make_model

PUBLIC = "darkroom.example"
OWN = "127.0.0.1:7860"


class Here:
    """The whole site, asked in this process as a proxy or a stranger would."""

    def __init__(self, folder: Path, **choices: Any) -> None:
        make_model(folder / "models")
        settings = Settings(data_dir=folder / "data", model_dirs=(folder / "models",), hub_offline=True, **choices)
        self.studio = Studio(settings, FakeWorker())
        self.studio.start()
        self.site = program.build_site(self.studio, settings)

    def ask(
        self, path: str, method: str = "GET", client: str = "127.0.0.1", scheme: str = "http", **headers: str
    ) -> httpx.Response:
        async def go() -> httpx.Response:
            transport = httpx.ASGITransport(self.site, raise_app_exceptions=False, client=(client, 5))
            async with httpx.AsyncClient(transport=transport, base_url=f"{scheme}://{OWN}") as asking:
                return await asking.request(
                    method, path, headers={name.replace("_", "-"): value for name, value in headers.items()}
                )

        return asyncio.run(go())


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Here]:
    site = Here(tmp_path_factory.mktemp("proxied"), root_path="/darkroom", trusted_hosts=(PUBLIC, "other.example:8443"))
    yield site
    site.studio.stop()


@pytest.mark.parametrize(
    "host,status",
    [
        (PUBLIC, 200),
        ("DARKROOM.example", 200),
        (f"{PUBLIC}:8443", 200),
        ("other.example:8443", 200),
        (OWN, 200),
        ("other.example", 421),
        ("other.example:80", 421),
        ("evil.example", 421),
        ("xdarkroom.example", 421),
        (f"{PUBLIC}.evil", 421),
        ("", 421),
        (f"{PUBLIC}:", 421),
        (f"{PUBLIC}:x", 421),
    ],
)
def test_only_names_that_were_named_are_answered(here: Here, host: str, status: int) -> None:
    assert here.ask("/api/v1/health", host=host).status_code == status


@pytest.mark.parametrize(
    "client,told,status",
    [
        ("127.0.0.1", PUBLIC, 200),
        ("::1", PUBLIC, 200),
        ("::ffff:127.0.0.1", PUBLIC, 200),
        ("192.168.1.9", PUBLIC, 403),
        ("127.0.0.1", "evil.example", 403),
    ],
)
def test_only_a_trusted_proxy_says_which_host_was_asked(here: Here, client: str, told: str, status: int) -> None:
    answer = here.ask("/api/v1/health", client=client, x_forwarded_host=told, origin=f"https://{told}")
    assert answer.status_code == status


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/health",
        "/darkroom/api/v1/health",
        "/page/darkroom.js",
        "/darkroom/page/darkroom.js",
        "/theme.css",
        "/darkroom/theme.css",
        "/darkroom/",
    ],
)
def test_a_proxy_may_take_the_path_off_or_leave_it(here: Here, path: str) -> None:
    assert here.ask(path, host=PUBLIC).status_code == 200


def test_the_path_without_its_slash_leads_to_the_page_and_what_only_begins_so_to_nothing(here: Here) -> None:
    led = here.ask("/darkroom", host=PUBLIC)
    assert (led.status_code, led.headers["location"]) == (308, "/darkroom/")
    assert here.ask("/darkroomy/api/v1/health", host=PUBLIC).status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        "/darkroom/../api/v1/health",
        "/darkroom//api/v1/health",
        "/darkroom/%2e%2e/x",
        "/darkroom/darkroom/api/v1/health",
    ],
)
def test_the_path_is_taken_off_once_and_hides_nothing(here: Here, path: str) -> None:
    assert here.ask(path, host=PUBLIC).status_code in (404, 200 if path.startswith("/darkroom/../") else 404)


def test_cookies_are_those_of_the_path_by_the_public_name_and_of_all_here(here: Here) -> None:
    assert "; Path=/darkroom;" in here.ask("/", host=PUBLIC).headers["set-cookie"]
    assert "; Path=/darkroom;" in here.ask("/darkroom/").headers["set-cookie"]
    assert "; Path=/;" in here.ask("/").headers["set-cookie"]


@pytest.mark.parametrize(
    "headers,root",
    [
        ({"x_forwarded_host": PUBLIC, "x_forwarded_proto": "https"}, f"https://{PUBLIC}/darkroom"),
        ({"host": PUBLIC, "x_forwarded_proto": "https"}, f"https://{PUBLIC}/darkroom"),
        ({"host": PUBLIC}, f"http://{PUBLIC}/darkroom"),
        ({"host": PUBLIC, "client": "192.168.1.9", "x_forwarded_proto": "https"}, f"http://{PUBLIC}/darkroom"),
        ({"x_forwarded_host": "evil.example"}, f"http://{OWN}/darkroom"),
        ({"x_gradio_server": "http://evil.example"}, f"http://{OWN}/darkroom"),
    ],
)
def test_the_page_is_told_where_it_stands_by_trusted_words_only(here: Here, headers: dict[str, str], root: str) -> None:
    assert here.ask("/config", **headers).json()["root"] == root


@pytest.mark.parametrize(
    "headers",
    [
        {"host": PUBLIC},
        {"x_forwarded_host": PUBLIC},
        {"x_forwarded_for": "203.0.113.9"},
        {"x_forwarded_for": "127.0.0.1"},
        {"host": f"{PUBLIC}:443"},
    ],
)
def test_who_comes_by_the_proxy_is_not_at_the_machine(here: Here, headers: dict[str, str]) -> None:
    refused = here.ask("/api/v1/models/none", "DELETE", **headers)
    assert refused.status_code == 403 and "on the machine itself" in refused.json()["hint"]
    assert here.ask("/api/v1/models/none", "DELETE").status_code == 404


def test_another_sites_page_stays_out(here: Here) -> None:
    assert here.ask("/api/v1/health", host=PUBLIC, origin="https://evil.example").status_code == 403
    assert here.ask("/api/v1/health", host=PUBLIC, origin=f"https://{PUBLIC}").status_code == 200


def test_no_address_of_the_page_begins_at_the_root(here: Here) -> None:
    page = here.ask("/darkroom/", host=PUBLIC).text
    ours = [line for line in page.splitlines() if "page/darkroom" in line or "preload" in line]
    assert ours and not any('="/' in line for line in ours)
    style = here.ask("/page/darkroom.css").text
    assert 'url("/' not in style and "url('/" not in style and "url(/" not in style
    script = here.ask("/page/darkroom.js").text
    assert '"/api' not in script and "`/api" not in script and '"/page' not in script


def test_a_password_that_is_set_is_asked_for_by_the_public_name_too(tmp_path: Path) -> None:
    site = Here(tmp_path, root_path="/darkroom", trusted_hosts=(PUBLIC,), password="open")
    try:
        led = site.ask("/darkroom/", host=PUBLIC, accept="text/html")
        assert (led.status_code, led.headers["location"]) == (303, "/darkroom/login")
        assert 'action="login"' in site.ask("/darkroom/login", host=PUBLIC).text
        assert site.ask("/api/v1/jobs", host=PUBLIC).status_code == 401
    finally:
        site.studio.stop()


def test_a_proxy_elsewhere_is_trusted_when_it_is_named(tmp_path: Path) -> None:
    site = Here(tmp_path, trusted_hosts=(PUBLIC,), trusted_proxies=("10.0.0.0/8",))
    try:
        assert site.ask("/config", client="10.1.2.3", x_forwarded_host=PUBLIC).json()["root"] == f"http://{PUBLIC}"
        assert site.ask("/config", x_forwarded_host=PUBLIC).json()["root"] == f"http://{OWN}"
    finally:
        site.studio.stop()
