"""Answers HEAD wherever there is a GET: the same response without its body. Outermost, so that no route handles it.

The application answers a GET; the headers are sent, Content-Length included, the body is not. A stream ends where it
would begin. The security middleware answers HEAD of gradio's event streams itself: see `is_head`.
"""

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send


def is_head(scope: Scope) -> bool:
    """Whether the GET that the application sees was a HEAD."""
    return bool(scope.get("state", {}).get("is_head"))


class HeadRequests:
    """ASGI middleware: hands HEAD on as GET and keeps the body back."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return
        streams = asyncio.Event()

        async def without_body(message: Message) -> None:
            if message["type"] == "http.response.start":
                await send(message)
            elif message["type"] == "http.response.body" and not streams.is_set():
                if message.get("more_body", False):
                    streams.set()
                await send({"type": "http.response.body", "body": b""})

        seen = {**scope, "method": "GET", "state": {**scope.get("state", {}), "is_head": True}}
        answering = asyncio.ensure_future(self._app(seen, receive, without_body))
        begun = asyncio.ensure_future(streams.wait())
        try:
            await asyncio.wait({answering, begun}, return_when=asyncio.FIRST_COMPLETED)
            if answering.done():
                answering.result()
        finally:
            for task in (begun, answering):
                task.cancel()
            await asyncio.gather(begun, answering, return_exceptions=True)
