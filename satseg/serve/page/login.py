"""The login page, which does not use Gradio."""

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
    """Logs visitors in and out.

    Args:
        visitors: Issues cookies.
        auth: User and password.
        attempts: Counts wrong passwords.
    """

    def __init__(self, visitors: Visitors, auth: tuple[str, str], attempts: Attempts) -> None:
        self._visitors, self._auth, self._attempts = visitors, auth, attempts

    def routes(self) -> list[Route]:
        """Return the routes for logging in and out."""
        return [
            Route(LOGIN, self.show, methods=["GET"]),
            Route(LOGIN, self.log_in, methods=["POST"]),
            Route(LOGOUT, self.log_out, methods=["GET"]),
        ]

    async def show(self, request: Request) -> Response:
        """Show the form."""
        return HTMLResponse(login_page(LOGIN))

    async def log_in(self, request: Request) -> Response:
        """Check user and password, and set a cookie."""
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

    async def log_out(self, request: Request) -> Response:
        """Revoke the cookie."""
        response = RedirectResponse(LOGIN, 303)
        self._visitors.revoke(response, request)
        return response
