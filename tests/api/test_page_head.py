"""The HTML of "/" gets our head; nothing else is touched."""

import asyncio
import gzip
from typing import Any

import httpx
from starlette.types import ASGIApp, Receive, Scope, Send

from api.page_head import PageHead, rewrite

GRADIO = b"""<!doctype html><html><head>
<meta charset="utf-8" />
<meta
  name="viewport"
  content="width=device-width, initial-scale=1, shrink-to-fit=no"
/>
<meta property="og:title" content="Gradio" />
<meta
  name="twitter:creator" content="@Gradio" />
<script>window.gradio_config = {"title":"\\u003c/head\\u003e\\u003cscript\\u003e"};</script>
<script type="module" crossorigin src="./assets/index.js"></script>
</head><body><script>1</script></body></html>"""
HEAD = b'<script>window.ours = 1;</script>\n<link rel="stylesheet" href="/page/a.css">\n'


def test_our_lines_stand_last_in_the_head() -> None:
    html = rewrite(GRADIO, HEAD, "N")
    assert html.index(b'type="module"') < html.index(b"/page/a.css") < html.index(b"</head>")
    assert html.count(b"window.ours") == html.count(b"/page/a.css") == 1


def test_every_script_gets_the_nonce() -> None:
    html = rewrite(GRADIO, HEAD, "N")
    assert html.count(b"<script") == html.count(b'<script nonce="N"') == 4


def test_the_theme_is_asked_for_at_once() -> None:
    """Gradio asks for it after its scripts have run, and draws nothing before it is there."""
    themed = GRADIO.replace(b'{"title"', b'{"theme_hash":"0a1b2c3d4e","title"')
    html = rewrite(themed, HEAD, "N")
    assert b'<link rel="preload" href="theme.css?v=0a1b2c3d4e" as="style">' in html
    assert b"theme.css" not in rewrite(GRADIO, HEAD, "N")


def test_gradios_own_tags_are_gone_and_the_viewport_covers() -> None:
    html = rewrite(GRADIO, HEAD, "N")
    assert b"og:" not in html and b"twitter:" not in html
    assert html.count(b'name="viewport"') == 1 and b"viewport-fit=cover" in html


def application(body: list[bytes], headers: list[tuple[bytes, bytes]], seen: dict[str, Any]) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.update(dict(scope["headers"]))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for part in body:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body"})

    return app


def fetch(app: ASGIApp, path: str = "/", method: str = "GET") -> httpx.Response:
    async def go() -> httpx.Response:
        around = PageHead(app, HEAD.decode(), lambda nonce: f"script-src 'nonce-{nonce}'")
        async with httpx.AsyncClient(transport=httpx.ASGITransport(around), base_url="http://x") as client:
            return await client.request(method, path, headers={"accept-encoding": "br, gzip"})

    return asyncio.run(go())


HTML = [(b"content-type", b"text/html; charset=utf-8"), (b"content-length", str(len(GRADIO)).encode())]


def test_a_page_in_pieces_is_rewritten_whole_with_the_right_length() -> None:
    seen: dict[str, Any] = {}
    answer = fetch(application([GRADIO[:50], GRADIO[50:]], HTML, seen))
    assert b"/page/a.css" in answer.content
    assert answer.headers["content-length"] == str(len(answer.content))
    assert b"accept-encoding" not in seen


def test_the_nonce_is_in_the_policy_and_never_the_same() -> None:
    answers = [fetch(application([GRADIO], HTML, {})) for _ in range(2)]
    nonces = [answer.headers["content-security-policy"].split("'nonce-")[1][:-1] for answer in answers]
    assert nonces[0] != nonces[1]
    assert all(f'nonce="{nonce}"' in answer.text for nonce, answer in zip(nonces, answers, strict=True))


def test_other_paths_methods_and_types_pass_untouched() -> None:
    assert fetch(application([GRADIO], HTML, {}), "/other").content == GRADIO
    assert b"/page/a.css" not in fetch(application([GRADIO], HTML, {}), method="HEAD").content
    assert fetch(application([b"{}"], [(b"content-type", b"application/json")], {})).content == b"{}"


def test_a_page_that_is_compressed_in_spite_of_us_passes_untouched() -> None:
    headers = [(b"content-type", b"text/html"), (b"content-encoding", b"gzip")]
    assert fetch(application([gzip.compress(GRADIO)], headers, {})).content == GRADIO
