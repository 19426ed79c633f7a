"""The door between visitors and Gradio: what the page needs is let through, what is another's or the server's is not.

Gradio believes what an event says: which session it belongs to, and where on the server's disk its files are. So
visitors never name either: a session is that of the browser that asks, and an uploaded file goes by a name that the
server signed for this browser. Whatever an event holds besides is of the kind that its part of the page has: a number,
a text, or a list of texts.
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
# What the page in a browser asks for. Gradio has many more routes, most of which ask for no login: none is reachable,
# nor is one that a later release adds.
PUBLIC_FOLDERS = ("/assets/", "/static/", "/svelte/")  # of Gradio's package: scripts, styles, fonts
PLAIN = {"/", "/favicon.ico", "/theme.css", f"{API}/theme.css", f"{API}/startup-events", f"{API}/app_id"}
EVENTS = {f"{API}/queue/join", f"{API}/run/predict"}
ENDINGS = {f"{API}/cancel", f"{API}/reset"}
UPLOAD = f"{API}/upload"
ASKED = {f"{API}/queue/data": "session_hash", f"{API}/upload_progress": "upload_id"}  # by a name of the browser's
MAX_BYTES = 1 << 20  # of an event
SESSION = re.compile(r"[\w-]{1,64}", re.ASCII)
NOT_KEPT = (b"cache-control", b"no-store")  # by a cache that others ask
FILE_DATA = {"_type": "gradio.FileData"}


class NotOwnedError(Exception):
    """A request names what its visitor does not have; whether anyone has it, or it exists at all, is not told."""


class Gate:
    """Stands before Gradio's application.

    Args:
        app: What lies behind the door.
        visitors: Says who asks.
        sent: Files that pages have sent.
        shared: Folder of files that all visitors see.
        sessions: Whose folders hold what each visitor sees.
        events: Those that the page has, by number.
    """

    def __init__(
        self,
        app: ASGIApp,
        visitors: Visitors,
        sent: UploadFolder,
        shared: Path,
        sessions: Sessions,
        events: Mapping[int, Event],
    ) -> None:
        self._app, self._visitors, self._sessions, self._events = app, visitors, sessions, events
        self._sent, self._uploads, self._shared = sent, sent.folder, shared.resolve()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, changed where need be, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        method, path = scope["method"], scope["path"]
        try:
            if method in ("GET", "HEAD"):
                await self._get(path, scope, receive, send)
            elif method == "POST" and path == UPLOAD:
                await self._upload(_visitor(scope), scope, receive, send)
            elif method == "POST" and path in EVENTS | ENDINGS:
                body = await self._event(path, _visitor(scope), Request(scope, receive))
                await self._app(_with_body(scope, body), _receiving(body, receive), send)
            else:
                raise NotOwnedError
        except NotOwnedError:
            await problem(404, "There is nothing of yours here; if the page is older than the server, load it again.")(
                scope, receive, send
            )

    async def _get(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        if path == "/" and scope.get(VISITOR) is None:
            send = self._welcoming(scope, send)
        elif path in PLAIN or path.startswith(PUBLIC_FOLDERS):
            pass
        elif path.startswith(FILE):
            file = self._shown(_visitor(scope), path.removeprefix(FILE))
            scope = _at(scope, f"{FILE}{file}")
        elif path.startswith(HEARTBEAT):
            scope = _at(scope, HEARTBEAT + _session(_visitor(scope), path.removeprefix(HEARTBEAT)))
        elif path in ASKED:
            scope = _asking(scope, ASKED[path])
        else:
            raise NotOwnedError
        await self._app(scope, receive, send)

    def _welcoming(self, scope: Scope, send: Send) -> Send:
        """Return a way to answer that gives a new visitor a cookie."""

        async def welcome(message: Message) -> None:
            if message["type"] == "http.response.start":
                response = Response()
                self._visitors.welcome(response, scope)
                message = {**message, "headers": [*message["headers"], *_cookies(response), NOT_KEPT]}
            await send(message)

        return welcome

    async def _event(self, path: str, visitor: str, request: Request) -> bytes:
        """Return the body of an event as Gradio may have it."""
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_BYTES:
                raise NotOwnedError
        try:
            said = json.loads(body)
        except (ValueError, RecursionError):
            raise NotOwnedError from None
        if not isinstance(said, dict):
            raise NotOwnedError
        kept = {"fn_index": said.get("fn_index")}
        if path in ENDINGS:
            kept["event_id"] = said.get("event_id")
        elif type(kept["fn_index"]) is not int or kept["fn_index"] not in self._events:
            raise NotOwnedError
        else:
            event, happened = self._events[kept["fn_index"]], _plain(said.get("event_data"))
            if not event.has_selection(happened):
                raise NotOwnedError
            kept["trigger_id"] = said.get("trigger_id")
            kept["data"] = self._values(visitor, event, said.get("data"))
            kept["event_data"] = happened
        if not all(_is_simple(value) for key, value in kept.items() if key not in ("data", "event_data")):
            raise NotOwnedError
        kept["session_hash"] = _session(visitor, said.get("session_hash"))
        try:
            return json.dumps(kept, ensure_ascii=False, allow_nan=False).encode()
        except ValueError:  # NaN, or half of a character: Gradio's answer would be a traceback
            raise NotOwnedError from None

    def _values(self, visitor: str, event: Event, data: object) -> list[object]:
        """Return an event's values, if there is one of its kind for each part."""
        values = data if isinstance(data, list) else []
        if len(values) != len(event.parts):
            raise NotOwnedError
        return [self._value(visitor, part, value) for part, value in zip(event.parts, values, strict=True)]

    def _value(self, visitor: str, part: object, value: object) -> object:
        """Return the value of a part of the page, which is never a file but where the part takes one."""
        if is_file(part):
            if isinstance(value, dict) and isinstance(value.get("path"), str):
                return {"path": str(self._uploaded(visitor, value["path"])), "meta": FILE_DATA}
            if value is None:
                return None
        elif fits(part, value):
            return value
        raise NotOwnedError

    async def _upload(self, visitor: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a file in, and tell a name for it that is worth something to this visitor alone."""
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
                body = json.dumps([self._named(visitor, Path(path)) for path in json.loads(body)]).encode()
            headers = MutableHeaders(raw=list(start["headers"]))
            headers["content-length"] = str(len(body))
            await send({**start, "headers": headers.raw})
            await send({"type": "http.response.body", "body": body})

        if b"upload_id=" in scope["query_string"]:
            scope = _asking(scope, "upload_id")
        headers = [(name, value) for name, value in scope["headers"] if name != b"accept-encoding"]
        with self._sent.arriving(receive) as counting:
            await self._app({**scope, "headers": headers}, counting, rename)

    def _named(self, visitor: str, path: Path) -> str:
        inside = path.relative_to(self._uploads).as_posix()
        return f"{self._visitors.sign('upload', visitor, inside)}/{inside}"

    def _uploaded(self, visitor: str, name: str) -> Path:
        """Return the file that a name was given to.

        Raises:
            NotOwnedError: If the server did not give the name to this visitor, or no file of its own is there.
        """
        signature, _, inside = name.partition("/")
        if not self._visitors.verify(signature, "upload", visitor, inside):
            raise NotOwnedError
        path = self._uploads / inside
        if path.resolve() != path:  # a link, which no upload makes
            raise NotOwnedError
        return path

    def _shown(self, visitor: str, name: str) -> Path:
        """Return a file that a page shows or offers.

        Raises:
            NotOwnedError: If it is none of the visitor's, nor one of those that all see.
        """
        path = Path(name)
        if not path.is_absolute():
            return self._uploaded(visitor, name)
        if "\0" not in name and ".." not in path.parts and self._is_open(visitor, path):
            resolved = path.resolve()
            if self._is_open(visitor, resolved):
                return resolved
        raise NotOwnedError

    def _is_open(self, visitor: str, path: Path) -> bool:
        return path.is_relative_to(self._shared) or self._sessions.is_of(visitor, path)


def _visitor(scope: Scope) -> str:
    visitor: str | None = scope.get(VISITOR)
    if visitor is None:
        raise NotOwnedError
    return visitor


def _asking(scope: Scope, key: str) -> Scope:
    """Return a request whose query names what is the visitor's own."""
    named = parse_qs(scope["query_string"].decode("latin-1")).get(key, [""])[-1]
    return {**scope, "query_string": urlencode({key: _session(_visitor(scope), named)}).encode()}


def _session(visitor: str, named: object) -> str:
    """Return the name of a visitor's session or upload: a browser calls them as it likes, and reaches no one else's."""
    if not isinstance(named, str) or not SESSION.fullmatch(named):
        raise NotOwnedError
    return Sessions.key(visitor, named)


def _is_simple(value: object) -> bool:
    return value is None or isinstance(value, str | int | float | bool)


def _plain(event: object) -> Mapping[str, Any] | None:
    """Return what happened without the files that it happened to: numbers, texts, lists of these."""
    if not isinstance(event, dict):
        return None
    kept = {
        key: value if _is_simple(value) or (isinstance(value, list) and all(map(_is_simple, value))) else None
        for key, value in event.items()
    }
    return {"value": None} | kept


def _at(scope: Scope, path: str) -> Scope:
    return {**scope, "path": path, "raw_path": path.encode(errors="surrogateescape")}


def _with_body(scope: Scope, body: bytes) -> Scope:
    headers = MutableHeaders(raw=[pair for pair in scope["headers"] if pair[0] != b"transfer-encoding"])
    headers["content-length"], headers["content-type"] = str(len(body)), "application/json"
    return {**scope, "headers": headers.raw}


def _receiving(body: bytes, receive: Receive) -> Receive:
    """Return a way to receive a body that was read, and then what comes after it."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def read() -> Message:
        return messages.pop() if messages else await receive()

    return read


def _cookies(response: Response) -> list[tuple[bytes, bytes]]:
    return [pair for pair in response.raw_headers if pair[0] == b"set-cookie"]
