"""Error responses: problem details with a status and one sentence (RFC 9457)."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

from satseg import errors
from satseg.serve.headers import PLAIN_HEADERS
from satseg.serve.public_messages import FAILED, public_message
from satseg.serve.uploads import display_name

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
OVERRIDE_HINT = "use ?preflight=warn to have it segmented anyway"
# The first match counts; all other SatsegErrors are about the image.
STATUS: dict[type[Exception], int] = {
    errors.UploadTypeError: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    errors.UploadTooLargeError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.UploadTimeoutError: HTTPStatus.REQUEST_TIMEOUT,
    errors.NotAcceptableError: HTTPStatus.NOT_ACCEPTABLE,
    errors.NotFoundError: HTTPStatus.NOT_FOUND,
    errors.NotReadyError: HTTPStatus.CONFLICT,
    errors.ShuttingDownError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.BusyError: HTTPStatus.TOO_MANY_REQUESTS,
    errors.CancelledError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.ResourceError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.SatsegError: HTTPStatus.UNPROCESSABLE_ENTITY,
}


class Problem(BaseModel):
    """Problem details of an error."""

    status: int = Field(description="The HTTP status.", examples=[404])
    title: str = Field(description="The name of the HTTP status.", examples=["Not Found"])
    detail: str = Field(
        description="The problem and its remedy, in one sentence.",
        examples=["There is no model nobody; choose my_run."],
    )


def problem(status: int, detail: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """Return a response with problem details."""
    body = Problem(status=status, title=HTTPStatus(status).phrase, detail=detail)
    return JSONResponse(body.model_dump(), status, headers, MEDIA_TYPE)


def add_handlers(app: FastAPI, root: Path, retry_after: Callable[[], int]) -> None:
    """Make an application report errors as problem details.

    Args:
        app: The application.
        root: Folder whose paths are not disclosed.
        retry_after: Returns the seconds after which clients should retry.
    """

    def known(request: Request, error: Exception) -> Response:
        status = next(status for kind, status in STATUS.items() if isinstance(error, kind))
        wait = status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.CONFLICT)
        seconds = getattr(error, "seconds", None)
        delay = retry_after() if seconds is None else max(1, math.ceil(seconds))
        headers = {"Retry-After": str(delay)} if wait else None
        name = display_name(request.query_params.get("name", "image"))
        return problem(status, public_message(str(error), root, name, override_hint=OVERRIDE_HINT), headers)

    def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"][1:]) or "request"
        return problem(HTTPStatus.UNPROCESSABLE_ENTITY, f"{name}: {first['msg']}.")

    def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        headers = dict(error.headers) if error.headers else None
        return problem(error.status_code, f"{str(error.detail).rstrip('.')}.", headers)

    def failed(request: Request, error: Exception) -> Response:
        logger.exception("A request failed", exc_info=error)
        return problem(HTTPStatus.INTERNAL_SERVER_ERROR, FAILED, PLAIN_HEADERS)  # sent outside the middleware

    app.add_exception_handler(errors.SatsegError, known)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, refused)
    app.add_exception_handler(ClientDisconnect, lambda request, error: Response(status_code=HTTPStatus.BAD_REQUEST))
    app.add_exception_handler(Exception, failed)
