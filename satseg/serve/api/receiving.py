"""Receiving request bodies into files, without trusting any of their bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from satseg.errors import BusyError, ResourceError, UploadTimeoutError, UploadTooLargeError, UploadTypeError
from satseg.files import size_text
from satseg.serve.uploads import ACCEPTED_TYPES, Limits

CHUNK = 1 << 18  # bytes that are written at a time, and that each request may have in memory
MAX_SECONDS = 900.0


@dataclass
class Arrivals:
    """Images on their way, which have no place in the queue: a client that takes its time keeps nobody out.

    Attributes:
        most: Bytes that all of them together may have on the disk.
        num_bytes: Bytes that have come of those that have not come to their end.
    """

    most: int
    num_bytes: int = 0

    def add(self, size: int) -> None:
        """Take bytes in.

        Raises:
            BusyError: If there are too many.
        """
        if self.num_bytes + size > self.most:
            raise BusyError("Too many images are arriving; try again in a minute.")
        self.num_bytes += size


async def receive(request: Request, path: Path, limits: Limits, arrivals: Arrivals) -> int:
    """Write a request's body into a file, and return how many bytes it has.

    Raises:
        UploadTypeError: If it is a form, or compressed as a whole.
        UploadTooLargeError: If it has too many bytes; told by the header, nothing is read.
        UploadTimeoutError: If it takes too long; the connection sees to it that something comes at all.
        BusyError: If too much arrives for others.
        ResourceError: If the disk is full.
    """
    check_headers(request, limits)
    size = 0
    try:
        async with asyncio.timeout(MAX_SECONDS):
            with writing(), path.open("wb") as file:
                async for chunk in _gathered(request):
                    arrivals.add(len(chunk))
                    size += len(chunk)
                    _check_size(size, limits)
                    await run_in_threadpool(file.write, chunk)
    except TimeoutError:
        raise UploadTimeoutError("The image did not come to its end in time.") from None
    finally:
        arrivals.num_bytes -= size
    if not size:
        raise UploadTypeError(f"Send a {ACCEPTED_TYPES} image as the body of the request; it was empty.")
    return size


def check_headers(request: Request, limits: Limits) -> None:
    """See by its headers whether a body can be taken.

    Raises:
        UploadTypeError: If it is a form, or compressed as a whole.
        UploadTooLargeError: If it has too many bytes.
    """
    if request.headers.get("content-type", "").lower().startswith("multipart/"):  # `curl --data-binary` claims a form
        raise UploadTypeError(f"Send a {ACCEPTED_TYPES} image as the body of the request itself, not as a form.")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise UploadTypeError("Send the image without Content-Encoding; it has its own compression.")
    _check_size(int(request.headers.get("content-length", 0)), limits)  # the server has checked that it is a number


def _check_size(size: int, limits: Limits) -> None:
    if size > limits.num_bytes:
        raise UploadTooLargeError(f"The image is too large: at most {size_text(limits.num_bytes)} are taken.")


async def _gathered(request: Request) -> AsyncIterator[bytes]:
    """Return the body in pieces that are worth writing."""
    gathered = bytearray()
    async for chunk in request.stream():
        gathered += chunk
        if len(gathered) >= CHUNK:
            yield bytes(gathered)
            gathered.clear()
    if gathered:
        yield bytes(gathered)


@contextmanager
def writing() -> Iterator[None]:
    """Tell clients to come back when the block cannot write.

    Raises:
        ResourceError: If the system cannot: no space, no right.
    """
    try:
        yield
    except TimeoutError:  # an OSError by inheritance, and about the client
        raise
    except OSError as error:
        raise ResourceError(f"The image cannot be kept on the server ({error.strerror}); try again later.") from error
