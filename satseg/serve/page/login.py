"""The page that asks for user and password: the only one that is shown before, and made of nothing of Gradio's."""

from __future__ import annotations

import secrets
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from satseg.serve.api.guard import LOGIN, Attempts
from satseg.serve.page.fragments import login_page
from satseg.serve.visitors import Visitors

MAX_BYTES = 4096  # of the form
LOGOUT = "/logout"


class Login:
    """Lets visitors in, and out.

    Args:
        visitors: Who is given a cookie.
        auth: User and password.
        attempts: Counts wrong ones.
    """

    def __init__(self, visitors: Visitors, auth: tuple[str, str], attempts: Attempts) -> None:
        self._visitors, self._auth, self._attempts = visitors, auth, attempts

    def routes(self) -> list[Route]:
        """Return the routes that answer."""
        return [
            Route(LOGIN, self.ask, methods=["GET"]),
            Route(LOGIN, self.enter, methods=["POST"]),
            Route(LOGOUT, self.leave, methods=["GET"]),
        ]

    async def ask(self, request: Request) -> Response:
        """Show the form."""
        return HTMLResponse(login_page(LOGIN))

    async def enter(self, request: Request) -> Response:
        """Give whoever knows the password a cookie."""
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_BYTES:
                return HTMLResponse(login_page(LOGIN, is_wrong=True), 413)
        if (refusal := self._attempts.refusal(request)) is not None:
            return refusal
        form = parse_qs(body.decode(errors="replace"), keep_blank_values=True)
        given = ":".join(form.get(name, [""])[-1] for name in ("username", "password"))
        if not secrets.compare_digest(given.encode(), ":".join(self._auth).encode()):
            self._attempts.add(request)
            return HTMLResponse(login_page(LOGIN, is_wrong=True), 401)
        response = RedirectResponse("/", 303)
        self._visitors.set_cookie(response, request.scope)
        return response

    async def leave(self, request: Request) -> Response:
        """Take the cookie back."""
        response = RedirectResponse(LOGIN, 303)
        self._visitors.revoke(response, request)
        return response
