"""Filter in front of Gradio, which passes only the requests that the page needs, and only to the visitor's own data.

Gradio trusts the session and the file paths in an event. So visitors never choose either: the session is bound to the
browser's cookie, and an uploaded file has a name that the server signed for this browser. All other values of an event
must have the type that its component has: a number, a string, or a list of strings.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from satseg.serve.api.problems import problem
from satseg.serve.page.events import Event, fits, is_file
from satseg.serve.page.sessions import Sessions
from satseg.serve.page.upload_folder import UploadFolder
from satseg.serve.visitors import VISITOR, Visitors

API = "/gradio_api"
FILE = f"{API}/file="
HEARTBEAT = f"{API}/heartbeat/"
# The routes that the page uses. Gradio has many more, most of them without authentication: none is reachable, nor are
# those that a later release adds.
PUBLIC_FOLDERS = ("/assets/", "/static/", "/svelte/")  # of Gradio's package: scripts, styles, fonts
PLAIN = {"/", "/favicon.ico", "/theme.css", f"{API}/theme.css", f"{API}/startup-events", f"{API}/app_id"}
EVENTS = {f"{API}/queue/join", f"{API}/run/predict"}
CANCELLATIONS = {f"{API}/cancel", f"{API}/reset"}
UPLOAD = f"{API}/upload"
# Event streams, with the query key of the session or upload.
STREAMS = {f"{API}/queue/data": "session_hash", f"{API}/upload_progress": "upload_id"}
MAX_BYTES = 1 << 20  # of an event
SESSION = re.compile(r"[\w-]{1,64}", re.ASCII)
NO_STORE = (b"cache-control", b"no-store")  # for shared caches
FILE_DATA = {"_type": "gradio.FileData"}


class NotOwnedError(Exception):
    """A request names something that its visitor does not own; whether it exists is not disclosed."""


class Gate:
    """ASGI middleware in front of Gradio's application.

    Args:
        app: Gradio's application.
        visitors: Identifies visitors.
        uploads: Folder of uploaded files.
        shared: Folder of files that all visitors may see.
        sessions: Sessions, whose folders hold each visitor's files.
        events: Events of the page, by number.
    """

    def __init__(
        self,
        app: ASGIApp,
        visitors: Visitors,
        uploads: UploadFolder,
        shared: Path,
        sessions: Sessions,
        events: Mapping[int, Event],
    ) -> None:
        self._app, self._visitors, self._sessions, self._events = app, visitors, sessions, events
        self._uploads, self._shared = uploads, shared.resolve()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, rewritten if necessary, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        method, path = scope["method"], scope["path"]
        try:
            if method in ("GET", "HEAD"):
                await self._get(path, scope, receive, send)
            elif method == "POST" and path == UPLOAD:
                await self._upload(_visitor(scope), scope, receive, send)
            elif method == "POST" and path in EVENTS | CANCELLATIONS:
                body = await self._event(path, _visitor(scope), Request(scope, receive))
                await self._app(_with_body(scope, body), _replay(body, receive), send)
            else:
                raise NotOwnedError
        except NotOwnedError:
            await problem(404, "Not found; if the server was restarted, reload the page.")(scope, receive, send)

    async def _get(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        if path == "/" and scope.get(VISITOR) is None:
            send = self._with_cookie(scope, send)
        elif path in PLAIN or path.startswith(PUBLIC_FOLDERS):
            pass
        elif path.startswith(FILE):
            file = self._visible_file(_visitor(scope), path.removeprefix(FILE))
            scope = _at(scope, f"{FILE}{file}")
        elif path.startswith(HEARTBEAT):
            scope = _at(scope, HEARTBEAT + _session(_visitor(scope), path.removeprefix(HEARTBEAT)))
        elif path in STREAMS:
            scope = _with_session(scope, STREAMS[path])
        else:
            raise NotOwnedError
        await self._app(scope, receive, send)

    def _with_cookie(self, scope: Scope, send: Send) -> Send:
        """Return a `send` that adds a cookie for a new visitor."""

        async def send_with_cookie(message: Message) -> None:
            if message["type"] == "http.response.start":
                response = Response()
                self._visitors.set_cookie(response, scope)
                message = {**message, "headers": [*message["headers"], *_cookies(response), NO_STORE]}
            await send(message)

        return send_with_cookie

    async def _event(self, path: str, visitor: str, request: Request) -> bytes:
        """Return the body of an event, reduced to what Gradio may receive."""
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_BYTES:
                raise NotOwnedError
        try:
            sent = json.loads(body)
        except (ValueError, RecursionError):
            raise NotOwnedError from None
        if not isinstance(sent, dict):
            raise NotOwnedError
        passed = {"fn_index": sent.get("fn_index")}
        if path in CANCELLATIONS:
            passed["event_id"] = sent.get("event_id")
        elif type(passed["fn_index"]) is not int or passed["fn_index"] not in self._events:
            raise NotOwnedError
        else:
            event, event_data = self._events[passed["fn_index"]], _plain(sent.get("event_data"))
            if not event.has_selection(event_data):
                raise NotOwnedError
            passed["trigger_id"] = sent.get("trigger_id")
            passed["data"] = self._values(visitor, event, sent.get("data"))
            passed["event_data"] = event_data
        if not all(_is_simple(value) for key, value in passed.items() if key not in ("data", "event_data")):
            raise NotOwnedError
        passed["session_hash"] = _session(visitor, sent.get("session_hash"))
        try:
            return json.dumps(passed, ensure_ascii=False, allow_nan=False).encode()
        except ValueError:  # NaN or a lone surrogate, on which Gradio would fail with a traceback
            raise NotOwnedError from None

    def _values(self, visitor: str, event: Event, data: object) -> list[object]:
        """Return an event's values, one of the right type per component."""
        values = data if isinstance(data, list) else []
        if len(values) != len(event.parts):
            raise NotOwnedError
        return [self._value(visitor, part, value) for part, value in zip(event.parts, values, strict=True)]

    def _value(self, visitor: str, part: object, value: object) -> object:
        """Return a component's value, which may be a file only if the component takes files."""
        if is_file(part):
            if isinstance(value, dict) and isinstance(value.get("path"), str):
                return {"path": str(self._uploaded(visitor, value["path"])), "meta": FILE_DATA}
            if value is None:
                return None
        elif fits(part, value):
            return value
        raise NotOwnedError

    async def _upload(self, visitor: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Accept a file, and return a name for it that is valid for this visitor only."""
        start: Message = {}
        answer = bytearray()

        async def rename(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                start = message
                return
            answer.extend(message.get("body", b""))
            if message.get("more_body"):
                return
            body = bytes(answer)
            if start["status"] == 200:
                body = json.dumps([self._signed_name(visitor, Path(path)) for path in json.loads(body)]).encode()
            headers = MutableHeaders(raw=list(start["headers"]))
            headers["content-length"] = str(len(body))
            await send({**start, "headers": headers.raw})
            await send({"type": "http.response.body", "body": body})

        if b"upload_id=" in scope["query_string"]:
            scope = _with_session(scope, "upload_id")
        headers = [(name, value) for name, value in scope["headers"] if name != b"accept-encoding"]
        with self._uploads.receiving(receive) as counting:
            await self._app({**scope, "headers": headers}, counting, rename)

    def _signed_name(self, visitor: str, path: Path) -> str:
        inside = path.relative_to(self._uploads.folder).as_posix()
        return f"{self._visitors.sign('upload', visitor, inside)}/{inside}"

    def _uploaded(self, visitor: str, name: str) -> Path:
        """Return the uploaded file with a signed name.

        Raises:
            NotOwnedError: If the name was not signed for this visitor, or the file is not an upload.
        """
        signature, _, inside = name.partition("/")
        if not self._visitors.verify(signature, "upload", visitor, inside):
            raise NotOwnedError
        path = self._uploads.folder / inside
        if path.resolve() != path:  # a link, which uploads never create
            raise NotOwnedError
        return path

    def _visible_file(self, visitor: str, name: str) -> Path:
        """Return a file that a page displays or offers for download.

        Raises:
            NotOwnedError: If it is neither the visitor's own nor shared.
        """
        path = Path(name)
        if not path.is_absolute():
            return self._uploaded(visitor, name)
        if "\0" not in name and ".." not in path.parts and self._is_visible(visitor, path):
            resolved = path.resolve()
            if self._is_visible(visitor, resolved):
                return resolved
        raise NotOwnedError

    def _is_visible(self, visitor: str, path: Path) -> bool:
        return path.is_relative_to(self._shared) or self._sessions.is_of(visitor, path)


def _visitor(scope: Scope) -> str:
    visitor: str | None = scope.get(VISITOR)
    if visitor is None:
        raise NotOwnedError
    return visitor


def _with_session(scope: Scope, key: str) -> Scope:
    """Return a request whose query names the visitor's own session or upload."""
    named = parse_qs(scope["query_string"].decode("latin-1")).get(key, [""])[-1]
    return {**scope, "query_string": urlencode({key: _session(_visitor(scope), named)}).encode()}


def _session(visitor: str, named: object) -> str:
    """Return the server's name of a visitor's session or upload, from one that the browser chose freely."""
    if not isinstance(named, str) or not SESSION.fullmatch(named):
        raise NotOwnedError
    return Sessions.key(visitor, named)


def _is_simple(value: object) -> bool:
    return value is None or isinstance(value, str | int | float | bool)


def _plain(event: object) -> Mapping[str, Any] | None:
    """Return event data reduced to numbers, strings and lists of these; files become None."""
    if not isinstance(event, dict):
        return None
    passed = {
        key: value if _is_simple(value) or (isinstance(value, list) and all(map(_is_simple, value))) else None
        for key, value in event.items()
    }
    return {"value": None} | passed


def _at(scope: Scope, path: str) -> Scope:
    return {**scope, "path": path, "raw_path": path.encode(errors="surrogateescape")}


def _with_body(scope: Scope, body: bytes) -> Scope:
    headers = MutableHeaders(raw=[pair for pair in scope["headers"] if pair[0] != b"transfer-encoding"])
    headers["content-length"], headers["content-type"] = str(len(body)), "application/json"
    return {**scope, "headers": headers.raw}


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that yields a body that was already read, then further messages."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def read() -> Message:
        return messages.pop() if messages else await receive()

    return read


def _cookies(response: Response) -> list[tuple[bytes, bytes]]:
    return [pair for pair in response.raw_headers if pair[0] == b"set-cookie"]
