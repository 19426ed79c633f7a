"""Security headers, by which browsers refuse frames, other servers and foreign scripts on this server's pages."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

TILES = "https://tile.openstreetmap.org"
# Gradio and Bokeh write inline styles; images pass between parts of the page as data and blob URLs.
POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self' 'unsafe-inline'",
    "img-src": f"'self' data: blob: {TILES}",
    "font-src": "'self' data:",
    "connect-src": "'self'",
    "manifest-src": "'self'",
    "form-action": "'self'",
    "base-uri": "'self'",
    "frame-ancestors": "'none'",
}
ALWAYS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "strict-origin-when-cross-origin",  # the tile server requires a referrer
    "Cross-Origin-Resource-Policy": "same-origin",
}


def _policy(scripts: Sequence[str] = ()) -> str:
    allowed = POLICY | {"script-src": " ".join((POLICY["script-src"], *scripts))}
    return "; ".join(f"{name} {value}" for name, value in allowed.items())


PLAIN_HEADERS = ALWAYS | {"Content-Security-Policy": _policy()}  # of a response that is not an HTML document
PAGE = "/"  # Gradio compiles templates in the browser there, which needs unsafe-eval
INLINE = re.compile(rb"<script(?![^>]*\ssrc\s*=)[^>]*>(.*?)</script\s*>", re.DOTALL | re.IGNORECASE)


class SecurityHeaders:
    """Adds security headers to each response of an application.

    Inline scripts that the application itself wrote into a document are allowed by their hashes; scripts added later
    are not.

    Args:
        app: The application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond with these headers."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if "text/html" in Headers(scope=scope).get("accept", ""):  # parsed here, so not compressed
            scope["headers"] = [pair for pair in scope["headers"] if pair[0] != b"accept-encoding"]
        await self._app(scope, receive, _Response(send, is_page=scope["path"] == PAGE).send)


class _Response:
    """One response; a document is buffered until its scripts are known."""

    def __init__(self, send: Send, *, is_page: bool) -> None:
        self._send, self._is_page = send, is_page
        self._start: Message | None = None
        self._document = bytearray()

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            if Headers(raw=message["headers"]).get("content-type", "").startswith("text/html"):
                self._start = message
            else:
                await self._send(_with_policy(message, []))
        elif message["type"] == "http.response.body" and self._start is not None:
            self._document += message.get("body", b"")
            if not message.get("more_body"):
                allowed = [_hash(script) for script in INLINE.findall(self._document)]
                await self._send(_with_policy(self._start, [*allowed, *(["'unsafe-eval'"] if self._is_page else [])]))
                await self._send({"type": "http.response.body", "body": bytes(self._document)})
        else:
            await self._send(message)


def _with_policy(start: Message, scripts: Sequence[str]) -> Message:
    headers = MutableHeaders(raw=list(start["headers"]))
    for name, value in (ALWAYS | {"Content-Security-Policy": _policy(scripts)}).items():
        headers[name] = value
    return {**start, "headers": headers.raw}


def _hash(script: bytes) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script).digest()).decode()}'"
