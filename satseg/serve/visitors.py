"""Who is who among the page's visitors: a browser is known by a cookie that this process signed."""

from __future__ import annotations

import hashlib
import hmac
import secrets

from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import Scope

VISITOR = "satseg.visitor"  # of a request's scope: who asks; None for someone new


class Visitors:
    """Gives visitors their cookies, and knows them again; nothing is kept about those who are about.

    What is signed for one visitor is worth nothing in the hands of another, or of another server.
    """

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._gone: set[str] = set()

    def sign(self, *words: str) -> str:
        """Return what only this process can make of some words, 32 hexadecimal digits."""
        message = "\0".join(f"{len(word)}:{word}" for word in words)
        return hmac.new(self._key, message.encode(errors="surrogatepass"), hashlib.sha256).hexdigest()[:32]

    def verify(self, signature: str, *words: str) -> bool:
        """Say whether some words were signed."""
        return hmac.compare_digest(signature.encode(errors="surrogatepass"), self.sign(*words).encode())

    def of(self, connection: HTTPConnection) -> str | None:
        """Return who asks: a name for folders and sessions, which is not the cookie and does not lead to it."""
        token, _, signature = connection.cookies.get(cookie_name(connection.scope), "").partition(".")
        known = self.verify(signature, "cookie", token) and token not in self._gone
        return self._named(token) if known else None

    def welcome(self, response: Response, scope: Scope) -> None:
        """Give whoever receives a response a new cookie."""
        token = secrets.token_hex(16)
        value, is_secure = f"{token}.{self.sign('cookie', token)}", scope["scheme"] == "https"
        response.set_cookie(cookie_name(scope), value, httponly=True, samesite="lax", secure=is_secure)

    def revoke(self, response: Response, connection: HTTPConnection) -> None:
        """Take a visitor's cookie away, for good."""
        name = cookie_name(connection.scope)
        if self.of(connection) is not None:
            self._gone.add(connection.cookies[name].partition(".")[0])
        response.delete_cookie(name)

    def _named(self, token: str) -> str:
        return self.sign("visitor", token)


def cookie_name(scope: Scope) -> str:
    """Return a cookie's name: browsers send a host's cookies to all of its ports, so each server has its own."""
    server = scope.get("server")
    return f"satseg_{server[1] if server else 0}"
