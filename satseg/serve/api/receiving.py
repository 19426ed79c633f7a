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

CHUNK = 1 << 18  # bytes written at a time, which each request may hold in memory
MAX_SECONDS = 900.0


@dataclass
class Transfers:
    """Images in transfer, which are not in the queue yet, so that slow clients do not block others.

    Attributes:
        most: Maximum bytes of all of them on disk.
        num_bytes: Bytes received of unfinished images.
    """

    most: int
    num_bytes: int = 0

    def add(self, size: int) -> None:
        """Count received bytes.

        Raises:
            BusyError: If there are too many.
        """
        if self.num_bytes + size > self.most:
            raise BusyError("Too many images are being uploaded; try again in a minute.")
        self.num_bytes += size


async def receive(request: Request, path: Path, limits: Limits, transfers: Transfers) -> int:
    """Write a request's body to a file, and return its size in bytes.

    Raises:
        UploadTypeError: If it is a form, or has a Content-Encoding.
        UploadTooLargeError: If it is too large; if the header says so, nothing is read.
        UploadTimeoutError: If it takes too long; see `connections` for stalled clients.
        BusyError: If too many bytes are being uploaded.
        ResourceError: If the disk is full.
    """
    check_headers(request, limits)
    size = 0
    try:
        async with asyncio.timeout(MAX_SECONDS):
            with disk_errors(), path.open("wb") as file:
                async for chunk in _chunks(request):
                    transfers.add(len(chunk))
                    size += len(chunk)
                    _check_size(size, limits)
                    await run_in_threadpool(file.write, chunk)
    except TimeoutError:
        raise UploadTimeoutError("The image took too long to upload.") from None
    finally:
        transfers.num_bytes -= size
    if not size:
        raise UploadTypeError(f"Send a {ACCEPTED_TYPES} image as the body of the request; it was empty.")
    return size


def check_headers(request: Request, limits: Limits) -> None:
    """Check by the headers whether a body can be accepted.

    Raises:
        UploadTypeError: If it is a form, or has a Content-Encoding.
        UploadTooLargeError: If it is too large.
    """
    if request.headers.get("content-type", "").lower().startswith("multipart/"):  # curl claims other forms
        raise UploadTypeError(f"Send a {ACCEPTED_TYPES} image as the body of the request itself, not as a form.")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise UploadTypeError("Send the image without Content-Encoding; images have their own compression.")
    _check_size(int(request.headers.get("content-length", 0)), limits)  # the server has checked that it is a number


def _check_size(size: int, limits: Limits) -> None:
    if size > limits.num_bytes:
        raise UploadTooLargeError(f"The image is too large: at most {size_text(limits.num_bytes)} are accepted.")


async def _chunks(request: Request) -> AsyncIterator[bytes]:
    """Yield the body in chunks of at least CHUNK bytes, except for the last."""
    buffer = bytearray()
    async for chunk in request.stream():
        buffer += chunk
        if len(buffer) >= CHUNK:
            yield bytes(buffer)
            buffer.clear()
    if buffer:
        yield bytes(buffer)


@contextmanager
def disk_errors() -> Iterator[None]:
    """Convert errors on writing, so that clients are asked to retry later.

    Raises:
        ResourceError: If the disk is full or not writable.
    """
    try:
        yield
    except TimeoutError:  # a subclass of OSError, but about the client
        raise
    except OSError as error:
        raise ResourceError(f"The image cannot be stored on the server ({error.strerror}); try again later.") from error
