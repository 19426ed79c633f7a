"""What browsers are told to refuse on this server's pages: frames, other servers, scripts that are not its own."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

TILES = "https://tile.openstreetmap.org"
# Styles are written into the page by Gradio and Bokeh; pictures go from one part of it to another as data and blobs.
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
    "Referrer-Policy": "strict-origin-when-cross-origin",  # the base map's server wants to know who asks
    "Cross-Origin-Resource-Policy": "same-origin",
}


def _policy(scripts: Sequence[str] = ()) -> str:
    allowed = POLICY | {"script-src": " ".join((POLICY["script-src"], *scripts))}
    return "; ".join(f"{name} {value}" for name, value in allowed.items())


PLAIN_HEADERS = ALWAYS | {"Content-Security-Policy": _policy()}  # of an answer that is no document
PAGE = "/"  # whose pieces of HTML Gradio fills in by templates that it compiles in the browser
INLINE = re.compile(rb"<script(?![^>]*\ssrc\s*=)[^>]*>(.*?)</script\s*>", re.DOTALL | re.IGNORECASE)


class SecurityHeaders:
    """Adds to each answer of an application what browsers should refuse.

    Scripts that the application itself wrote into a document are allowed by their hashes; whatever comes into the
    page later is not.

    Args:
        app: The application whose answers get them.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, with these headers."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if "text/html" in Headers(scope=scope).get("accept", ""):  # what is read here must not be compressed
            scope["headers"] = [pair for pair in scope["headers"] if pair[0] != b"accept-encoding"]
        await self._app(scope, receive, _Answer(send, is_page=scope["path"] == PAGE).send)


class _Answer:
    """One answer; a document is held back until its scripts are known."""

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
