"""Access control on every path: password, host name, and no requests by other sites' pages."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import secrets
import time
from collections import OrderedDict, deque
from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from satseg.serve.api.problems import problem
from satseg.serve.hosts import LOCAL_NAMES, bracketed, parse_host
from satseg.serve.visitors import VISITOR, Visitors

OPEN = {"/healthz", "/readyz"}  # health checks have no password, and these disclose nothing
LOGIN = "/login"
CHALLENGE = 'Basic realm="satseg", charset="UTF-8"'
HOST_HINT = "its operator can add other host names with trusted_hosts"
VIOLATION = 1008  # close code of a websocket: policy violation
MAX_ATTEMPTS, ATTEMPT_SECONDS = 20, 60  # wrong passwords per address, and the period in seconds
MAX_ADDRESSES = 10_000  # whose failures are stored


class Guard:
    """ASGI middleware that controls access to all routes of an application, including those of later releases.

    Args:
        app: The application to guard.
        visitors: Identifies visitors who have logged in.
        attempts: Counts wrong passwords.
        auth: User and password, if required.
        is_local: Whether the server listens on the loopback address. It then only accepts local host names: web pages
            could otherwise reach it by DNS rebinding.
        trusted_hosts: Further accepted host names, `*.example.com` for all subdomains. If there are any, a server that
            is not local accepts only these and addresses, else any name.
        login: Whether there is a login page.
    """

    def __init__(
        self,
        app: ASGIApp,
        visitors: Visitors,
        attempts: Attempts,
        auth: tuple[str, str] | None = None,
        *,
        is_local: bool,
        trusted_hosts: Collection[str] = (),
        login: bool = False,
    ) -> None:
        self._app, self._visitors, self._attempts, self._auth = app, visitors, attempts, auth
        self._trusted = [parse_host(bracketed(name)) or name.lower() for name in trusted_hosts]
        self._is_local = is_local
        self._login = login and auth is not None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        connection = HTTPConnection(scope)
        visitor = self._visitors.of(connection)
        refused = self._refused(connection, visitor)
        if refused is None:
            scope[VISITOR] = visitor
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await WebSocketClose(VIOLATION)(scope, receive, send)
        else:
            await refused(scope, receive, send)

    def _refused(self, connection: HTTPConnection, visitor: str | None) -> ASGIApp | None:
        hosts = connection.headers.getlist("host")
        host = hosts[0] if len(hosts) == 1 else ""
        is_old = not hosts and connection.scope.get("http_version") == "1.0"  # a health check, never a browser
        if not is_old and not self._accepts_host(parse_host(host)):
            return problem(421, f"This server does not accept the host name {host[:80]}; {HOST_HINT}.")
        if not self._is_same_site(connection, host):
            return problem(403, f"Requests by web pages of other sites are not allowed; {HOST_HINT}.")
        path = connection.scope["path"]
        is_open = path in OPEN or (self._login and path == LOGIN)
        if self._auth is None or is_open or visitor is not None:
            return None
        if "authorization" not in connection.headers:
            return self._unauthorized(connection)
        if (refusal := self._attempts.refusal(connection)) is not None:
            return refusal
        if self._has_password(connection.headers):
            return None
        self._attempts.add(connection)
        return self._unauthorized(connection)

    def _accepts_host(self, name: str | None) -> bool:
        if name is None:
            return False
        if name in LOCAL_NAMES or self._is_trusted(name):
            return True
        return not self._is_local and (not self._trusted or _is_address(name))

    def _is_trusted(self, name: str) -> bool:
        return any(name.endswith(one[1:]) if one.startswith("*.") else name == one for one in self._trusted)

    def _is_same_site(self, connection: HTTPConnection, host: str) -> bool:
        """Return whether a request does not come from another site's page; following a link from there is allowed."""
        headers = connection.headers
        for origin in headers.getlist("origin"):
            scheme, _, rest = origin.partition("://")
            trusted = scheme in ("http", "https") and self._is_trusted(parse_host(rest) or "")
            if rest != host and not trusted:  # a proxy may use another host name than browsers
                return False
        followed = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
        followed = followed and connection.scope.get("method") in ("GET", "HEAD")
        return followed or headers.get("sec-fetch-site", "none") in ("none", "same-origin")

    def _has_password(self, headers: Headers) -> bool:
        scheme, _, encoded = headers.get("authorization", "").partition(" ")
        try:
            given = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            return False
        assert self._auth is not None
        return scheme.lower() == "basic" and secrets.compare_digest(given, ":".join(self._auth).encode())

    def _unauthorized(self, connection: HTTPConnection) -> ASGIApp:
        """Return the response without valid credentials: a redirect to the login page, or status 401."""
        if self._login and connection.scope["path"] == "/" and "text/html" in connection.headers.get("accept", ""):
            return RedirectResponse(LOGIN, 303)
        is_of_page = self._login and not connection.scope["path"].startswith("/api/")
        challenge = None if is_of_page else {"WWW-Authenticate": CHALLENGE}  # a dialog would cover the page
        return problem(401, "User and password are required.", challenge)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class Attempts:
    """Counts wrong passwords by client address; users who share an address share the limit."""

    def __init__(self) -> None:
        self._wrong: OrderedDict[str, deque[float]] = OrderedDict()

    def add(self, connection: HTTPConnection) -> None:
        """Count a wrong password."""
        key = _key(connection)
        self._wrong.setdefault(key, deque(maxlen=MAX_ATTEMPTS)).append(time.monotonic())
        self._wrong.move_to_end(key)
        if len(self._wrong) > MAX_ADDRESSES:
            self._wrong.popitem(last=False)

    def refusal(self, connection: HTTPConnection) -> Response | None:
        """Return the refusal for an address with too many wrong passwords; None for any other."""
        times = self._wrong.get(_key(connection), deque())
        left = ATTEMPT_SECONDS - (time.monotonic() - times[0]) if len(times) == MAX_ATTEMPTS else 0.0
        if left <= 0:
            return None
        headers = {"Retry-After": str(round(left) + 1)}
        return problem(429, "Too many wrong passwords came from your address; try again in a minute.", headers)


def _key(connection: HTTPConnection) -> str:
    """Return a client's address, or its /64 network for IPv6."""
    host = connection.client.host if connection.client else ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:  # as set by a proxy
        return host
    return str(ipaddress.ip_network((int(address), 64), strict=False)) if address.version == 6 else host
