"""Proves at every start that the mounted page reads no file it did not receive and fetches no address.

Gradio 6.31 skips that check in mounted applications unless a flag says that it was launched, and can't be kept from
fetching. A version that changes either must not be served, so this tries it on the page itself. Knows gradio only as
objects that are passed in.
"""

import asyncio
import secrets
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from contract.errors import StudioError

# Carrier-grade NAT: not private by gradio's rules, and not routed on the internet.
FAR_ADDRESS = "http://100.64.0.1:9/"
PATIENCE_S = 5.0
Fetch = Callable[[str], Awaitable[object]]


def self_test(demo: Any, fetch: Fetch) -> None:
    """Refuse to go on when the page is open.

    Args:
        demo: The mounted gradio Blocks.
        fetch: Gradio's function that fetches addresses; closed when it raises PermissionError.

    Raises:
        StudioError: a canary file was read, or an address would have been fetched.
    """

    async def test() -> None:
        # Any failure but PermissionError means that it tried.
        if not isinstance(await _outcome(fetch(FAR_ADDRESS)), PermissionError):
            raise StudioError(
                "The page would fetch addresses for others, so it is not served.",
                "Install the gradio that requirements.txt names.",
                code="self_test",
            )
        with tempfile.TemporaryDirectory(prefix="canary-") as folder:
            canary = Path(folder) / f"canary-{secrets.token_hex(12)}.txt"
            canary.write_text("not for anyone", "utf-8")
            for event in tuple(demo.fns.values()):
                if any(not block.stateful for block in event.inputs or ()):
                    await _check_file_is_refused(demo, event, canary)

    asyncio.run(test())


async def _check_file_is_refused(demo: Any, event: Any, canary: Path) -> None:
    file = {"path": str(canary), "orig_name": canary.name, "meta": {"_type": "gradio.FileData"}}
    inputs = [None if block.stateful else file for block in event.inputs]
    outcome = await _outcome(demo.process_api(event, inputs, request=None, state=None))
    copies = [copy for block in event.inputs for copy in Path(block.GRADIO_CACHE).rglob(canary.name)]
    for copy in copies:
        copy.unlink()
    if copies or type(outcome).__name__ != "InvalidPathError":
        raise StudioError(
            "The page would read files that nobody gave it, so it is not served.",
            "Install the gradio that requirements.txt names.",
            code="self_test",
        )


async def _outcome(work: Awaitable[object]) -> object:
    """The result: a value or the exception itself."""
    outcomes = await asyncio.gather(asyncio.wait_for(work, PATIENCE_S), return_exceptions=True)
    return outcomes[0]
