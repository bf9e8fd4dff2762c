"""The place of the page at "/": a page that says Darkroom is starting, until the real one is put in.

The server answers while gradio is still imported: everything that is gradio's is refused meanwhile with 503 and
Retry-After, and the API works. Knows gradio's page only as an application with a lifespan.
"""

import asyncio
import secrets
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from api.errors import Starting, error_response

RETRY_AFTER_S = 2


class PageSlot:
    """ASGI application at "/".

    Args:
        starting_html: The page until the real one is there, with {{nonce}} in its scripts and styles; "" for none.
        ancestors: The sites that may show it in a frame.
        dress: Wraps the page as it is put in.
    """

    def __init__(self, starting_html: str, ancestors: str, dress: Callable[[ASGIApp], ASGIApp]) -> None:
        self._html, self._ancestors, self._dress = starting_html, ancestors, dress
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None  # of the server, while it runs
        self._page: Starlette | None = None
        self._dressed: ASGIApp | None = None
        self._ended = asyncio.Event()
        self._lives: list[asyncio.Task[None]] = []

    @property
    def is_filled(self) -> bool:
        """Whether the real page answers."""
        return self._dressed is not None

    @property
    def routes(self) -> Sequence[BaseRoute]:
        """Those of the page, for whoever lists an application's routes."""
        return self._page.routes if self._page else ()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = self._dressed or self._starting(scope)
        await answer(scope, receive, send)

    def _starting(self, scope: Scope) -> Response:
        if not self._html or scope["path"] != "/" or scope["method"] != "GET":
            error = Starting("The page is still loading.", "Try again in a few seconds.")
            return error_response(error, headers={"Retry-After": str(RETRY_AFTER_S)})
        nonce = secrets.token_urlsafe(16)
        policy = (
            f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; "
            "font-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
            f"frame-ancestors {self._ancestors}"
        )
        headers = {"Content-Security-Policy": policy, "Cache-Control": "no-store"}
        return HTMLResponse(self._html.replace("{{nonce}}", nonce), headers=headers)

    def fill(self, page: Starlette) -> None:
        """Put the page in its place, from any thread; it answers from the moment this returns.

        Raises:
            Exception: what its lifespan raised, where the server runs already.
        """
        with self._lock:
            self._page, loop = page, self._loop
        if loop is not None:
            asyncio.run_coroutine_threadsafe(self._begin(page), loop).result()
        self._dressed = self._dress(page)

    @asynccontextmanager
    async def lifespan(self, app: object) -> AsyncIterator[None]:
        """The lifespan of the application around it: the page's own begins with it, or when the page is put in."""
        self._ended = asyncio.Event()
        with self._lock:
            self._loop, page = asyncio.get_running_loop(), self._page
        try:
            if page is not None:
                await self._begin(page)
            yield
        finally:
            with self._lock:
                self._loop = None
            self._ended.set()
            await asyncio.gather(*self._lives)
            self._lives.clear()

    async def _begin(self, page: Starlette) -> None:
        """Enter the page's lifespan, in a task that leaves it as well."""
        begun = asyncio.Event()

        async def live() -> None:
            async with page.router.lifespan_context(page):
                begun.set()
                await self._ended.wait()

        life = asyncio.create_task(live())
        entered = asyncio.create_task(begun.wait())
        await asyncio.wait({life, entered}, return_when=asyncio.FIRST_COMPLETED)
        if life.done():
            entered.cancel()
            life.result()
        self._lives.append(life)
