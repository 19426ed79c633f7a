"""Forms that break off: what had come of them is removed."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.formparsers import MultiPartException
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class WholeForms:
    """Tells an application of a form that broke off as of one that is wrong, after which alone Gradio removes files.

    Args:
        app: The application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http" or "multipart/" not in Headers(scope=scope).get("content-type", "").lower():
            await self._app(scope, receive, send)
            return
        whole = False

        async def receiving() -> Message:
            nonlocal whole
            message = await receive()
            if message["type"] == "http.disconnect" and not whole:
                raise MultiPartException("The form broke off.")
            whole = whole or not message.get("more_body", False)
            return message

        await self._app(scope, receiving, send)
