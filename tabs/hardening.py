"""Closes what gradio leaves open in a mounted application; `api/security/selftest.py` proves it at every start.

Gradio checks that a file path in a request is one it received only in applications that were launched,
and fetches addresses for clients with no switch against it.
"""

import gradio as gr
from gradio import processing_utils


class NoFetching:
    """The HTTP transport that gradio gets: it refuses every request."""

    async def __aenter__(self) -> "NoFetching":
        return self

    async def __aexit__(self, *reason: object) -> None:
        return None

    async def aclose(self) -> None:
        return None

    async def handle_async_request(self, request: object) -> object:
        raise PermissionError("Darkroom fetches no addresses.")


def harden(page: gr.Blocks) -> None:
    """Have file paths checked, and refuse to fetch. Sets gradio's own attributes, once a process."""
    page.has_launched = True
    processing_utils.async_transport = NoFetching()  # type: ignore[assignment]


async def fetch(address: str) -> object:
    """Fetch as gradio does; raises PermissionError once the page is hardened."""
    return await processing_utils.async_ssrf_protected_get(address)
