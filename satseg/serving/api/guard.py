"""Who may ask: those who know the password, and no web page of another site."""

from __future__ import annotations

import base64
import binascii
import secrets
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from satseg.serving.api.problems import problem

OPEN = ("/healthz", "/readyz")  # asked by machines that know no password, and tell nothing
CHALLENGE = 'Basic realm="satseg", charset="UTF-8"'
LOCAL_NAMES = frozenset({"127.0.0.1", "localhost", "::1"})


class Guard:
    """Stands before an application.

    Args:
        app: It.
        prefixes: Paths that are guarded.
        auth: User and password, if these are asked for.
        hosts: Names by which the server may be called; any where it is empty. A server of this machine alone answers
            to local names only, as a web page could otherwise reach it by a name of its own (DNS rebinding).
    """

    def __init__(
        self,
        app: ASGIApp,
        prefixes: Collection[str],
        auth: tuple[str, str] | None = None,
        hosts: Collection[str] = (),
    ) -> None:
        self._app, self._prefixes, self._auth, self._hosts = app, tuple(prefixes), auth, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        guarded = scope["type"] == "http" and scope["path"].startswith(self._prefixes)
        if guarded and (refused := self._refused(Headers(scope=scope), scope["path"])):
            await refused(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _refused(self, headers: Headers, path: str) -> ASGIApp | None:
        host = headers.get("host", "")
        if self._hosts and _name(f"//{host}") not in self._hosts:
            return problem(421, f"This server is not called {host[:80]}.")
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2] != host:
            return problem(403, "Web pages of other sites may not ask.")
        if self._auth and path not in OPEN and not self._knows(headers.get("authorization", "")):
            return problem(401, "Name user and password.", {"WWW-Authenticate": CHALLENGE})
        return None

    def _knows(self, authorization: str) -> bool:
        scheme, _, encoded = authorization.partition(" ")
        try:
            given = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            return False
        assert self._auth is not None
        return scheme.lower() == "basic" and secrets.compare_digest(given, ":".join(self._auth).encode())


def _name(address: str) -> str | None:
    try:
        return urlsplit(address).hostname
    except ValueError:
        return None
