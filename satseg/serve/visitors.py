"""Identification of the page's visitors by signed cookies."""

from __future__ import annotations

import hashlib
import hmac
import secrets

from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import Scope

VISITOR = "satseg.visitor"  # key in a request's scope: the visitor's id, or None for a new one


class Visitors:
    """Issues and verifies cookies, without storing anything about current visitors.

    A signature is bound to one visitor and one server process.
    """

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._revoked: set[str] = set()

    def sign(self, *words: str) -> str:
        """Return a signature of some words by this process, 32 hexadecimal digits."""
        message = "\0".join(f"{len(word)}:{word}" for word in words)
        return hmac.new(self._key, message.encode(errors="surrogatepass"), hashlib.sha256).hexdigest()[:32]

    def verify(self, signature: str, *words: str) -> bool:
        """Return whether a signature is valid for some words."""
        return hmac.compare_digest(signature.encode(errors="surrogatepass"), self.sign(*words).encode())

    def of(self, connection: HTTPConnection) -> str | None:
        """Return the id of a request's visitor, from which the cookie cannot be derived; None for a new one."""
        token, _, signature = connection.cookies.get(cookie_name(connection.scope), "").partition(".")
        known = self.verify(signature, "cookie", token) and token not in self._revoked
        return self._id_of(token) if known else None

    def set_cookie(self, response: Response, scope: Scope) -> None:
        """Add a cookie for a new visitor to a response."""
        token = secrets.token_hex(16)
        value, is_secure = f"{token}.{self.sign('cookie', token)}", scope["scheme"] == "https"
        response.set_cookie(cookie_name(scope), value, httponly=True, samesite="lax", secure=is_secure)

    def revoke(self, response: Response, connection: HTTPConnection) -> None:
        """Delete a visitor's cookie, and refuse it from now on."""
        name = cookie_name(connection.scope)
        if self.of(connection) is not None:
            self._revoked.add(connection.cookies[name].partition(".")[0])
        response.delete_cookie(name)

    def _id_of(self, token: str) -> str:
        return self.sign("visitor", token)


def cookie_name(scope: Scope) -> str:
    """Return the cookie's name, which includes the port, as browsers send cookies to all ports of a host."""
    server = scope.get("server")
    return f"satseg_{server[1] if server else 0}"
