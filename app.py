"""Darkroom: settings -> Studio -> middleware + API -> serve -> page. The only file that knows every part.

The server answers before gradio is imported: "/" says meanwhile that Darkroom is starting, and the API works. Nothing
heavy is imported at module level: a spawned worker process imports this file again.
"""

import logging
import os
import signal
import socket
import sys
import threading
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from contract.errors import StudioError
from studio import VERSION
from studio.storage.log_lines import log_plainly

if TYPE_CHECKING:
    import uvicorn
    from fastapi import FastAPI

    from studio.settings import Settings
    from studio.studio import Studio

PROJECT = Path(__file__).resolve().parent
logger = logging.getLogger("darkroom")


def build_studio(settings: "Settings") -> "Studio":
    """The studio with the workers that the settings name; nothing is started yet."""
    from studio.studio import Studio
    from studio.workers import make_workers

    workers, more = make_workers(settings)
    return Studio(settings, *workers, more=more)


def build_site(studio: "Studio", settings: "Settings") -> "FastAPI":
    """Middleware, API and page in one application, whole. Raises as `add_page`."""
    site = starting_site(studio, settings)
    add_page(site, studio, settings)
    return site


def starting_site(studio: "Studio", settings: "Settings") -> "FastAPI":
    """The application without the page: "/" says that Darkroom is starting, until `add_page` is through."""
    from api.app import build_app
    from tabs.head import page_front
    from tabs.starting import starting_html

    front = page_front()
    return build_app(
        studio,
        settings,
        page_files=front.files,
        version=VERSION,
        head_html=front.head_html,
        starting_html=starting_html(front),
    )


def add_page(site: "FastAPI", studio: "Studio", settings: "Settings") -> None:
    """Import gradio, build the page and put it into its slot; the site may be served meanwhile.

    Raises:
        StudioError: gradio can't be imported, or the start self-test found that it would serve or fetch what it must
            not.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["GRADIO_TEMP_DIR"] = str(settings.data_dir / "tmp")
    from api.security.selftest import self_test

    try:
        from tabs.hardening import fetch, harden
        from tabs.site import build_page, page_application
    except ImportError as error:
        logger.debug("the page's imports", exc_info=True)
        raise StudioError(
            f"The page can't be built: {error}.", "Run launch.py, which installs what is missing.", code="imports"
        ) from error
    page = build_page(studio)
    harden(page)
    application = page_application(page, settings.root_path)
    self_test(page, fetch)
    site.state.page = page
    site.state.page_slot.fill(application)


def listen(settings: "Settings") -> socket.socket:
    """Take the port before anything slow starts, so that a taken one is said at once."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        listener = socket.create_server((settings.host, settings.port), family=family, backlog=512)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # asyncio forgets it on a given socket
        return listener
    except OSError as error:
        raise StudioError(
            f"Darkroom can't listen on {settings.host}:{settings.port} ({error.strerror}).",
            "Choose another with --port, or end the program that uses it.",
        ) from None


def usable_cores() -> int:
    """How many processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def serve(site: "FastAPI", studio: "Studio", settings: "Settings", listener: socket.socket) -> None:
    """Serve until Ctrl-C or SIGTERM; the page is built meanwhile. Open event streams are given one second.

    Raises:
        Exception: what building the page raised, which ends the program.
    """
    from contextlib import nullcontext

    from api.security.connections import http_server, most_connections, raise_file_limit

    server = http_server(
        site,
        most_connections=most_connections(raise_file_limit()),
        proxy_headers=settings.space_host is not None,
        log_level="warning",
    )
    # uvicorn raises the signal a second time after its shutdown, inside the event loop: a traceback.
    server.capture_signals = nullcontext  # type: ignore[method-assign,assignment]
    failures: list[Exception] = []

    def end(*_: object) -> None:
        server.should_exit = True

    def build() -> None:
        try:
            add_page(site, studio, settings)
            if not server.should_exit:
                studio.start()  # after the page is built: on one core, loading torch beside it would hold it up
        except Exception as error:
            if not server.should_exit:
                failures.append(error)
                server.should_exit = True

    signal.signal(signal.SIGINT, end)
    signal.signal(signal.SIGTERM, end)
    builder = threading.Thread(target=build, name="page-builder", daemon=True)
    builder.start()
    threading.Thread(target=_announce, args=(server, settings), daemon=True).start()
    server.run(sockets=[listener])
    builder.join(1.0)  # an import can't be interrupted: it may outlast this
    if failures:
        raise failures[0]
    logger.info("Darkroom has ended")


def _announce(server: "uvicorn.Server", settings: "Settings") -> None:
    from api.security.trusted_hosts import EVERYWHERE, in_url, outgoing_address

    tick = threading.Event()
    while not server.started and not server.should_exit:
        tick.wait(0.05)
    is_here = settings.host in ("127.0.0.1", "::1", *EVERYWHERE)
    url = f"http://{'localhost' if is_here else in_url(settings.host)}:{settings.port}"
    logger.info("Darkroom is at %s   (Ctrl-C ends it)", url)
    if settings.lan and settings.host in EVERYWHERE:
        for address in outgoing_address():
            logger.info("On your network: http://%s:%s", in_url(address), settings.port)
    if settings.open_browser and server.started:
        webbrowser.open(url)


def main(arguments: Sequence[str]) -> int:
    """Run the program; the exit code says whether it could start."""
    log_plainly()
    logging.getLogger("httpx").setLevel(logging.WARNING)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    from studio.settings import load_settings

    studio = None
    try:
        settings = load_settings(arguments, os.environ, PROJECT)
        settings.visitors_password()  # missing, it is said before anything slow starts
        listener = listen(settings)
        studio = build_studio(settings)
        studio.open()
        if settings.worker == "process" and usable_cores() > 1:
            studio.start_worker()  # it imports torch while this process imports gradio
        serve(starting_site(studio, settings), studio, settings, listener)
        return 0
    except StudioError as error:
        logger.error("%s %s", error.message, error.hint)
        return 1
    except KeyboardInterrupt:
        return 0
    finally:
        if studio is not None:
            studio.stop()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
