"""State shared by all requests: models, queue, limits and temporary folders."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from prometheus_client import Counter
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from satseg.errors import BusyError, NotFoundError, UploadTooLargeError
from satseg.serve.api.receiving import Transfers, disk_errors, receive
from satseg.serve.direct import Batches
from satseg.serve.estimates import CostModel, Estimate
from satseg.serve.jobs import Jobs
from satseg.serve.served_models import ServedModel
from satseg.serve.tickets import Continuation, Ticket
from satseg.serve.uploads import Limits, Upload, check_upload

Result = TypeVar("Result")
POLL_SECONDS = 0.5  # between checks that a client is still connected
UPLOADS_PER_JOB = 2  # maximum-size uploads on disk per queued job: some are read or written while others wait
THREADS = 2  # that read and write while the engine computes, and as many for large images
SMALL_BYTES = 4 << 20  # of an upload that is checked quickly


@dataclass(frozen=True)
class Service:
    """State shared by all requests.

    Attributes:
        served: The models by name.
        jobs: The job queue.
        limits: Maximum size of uploads.
        direct_pixels: Maximum number of pixels that a single request may segment.
        root: Folder of temporary files.
        batches: Images that may be segmented in one batch.
        costs: Cost model of jobs that need no model.
        ready: Set when the models have warmed up.
        megapixels: Counts segmented pixels, of all clients.
        transfers: Images in transfer; they may take as much of the disk as a full queue.
    """

    served: Mapping[str, ServedModel]
    jobs: Jobs
    limits: Limits
    direct_pixels: int
    root: Path
    batches: Batches = field(default_factory=Batches)
    costs: CostModel = field(default_factory=CostModel)
    ready: threading.Event = field(default_factory=threading.Event)
    megapixels: Counter = field(default_factory=lambda: Counter("satseg_megapixels", "Segmented.", registry=None))
    transfers: Transfers = field(init=False)
    _pools: tuple[ThreadPoolExecutor, ThreadPoolExecutor] = field(
        default_factory=lambda: (ThreadPoolExecutor(THREADS, "io"), ThreadPoolExecutor(THREADS, "io long"))
    )
    _stored: dict[Path, int] = field(default_factory=dict)  # bytes by request folder

    def __post_init__(self) -> None:
        object.__setattr__(self, "transfers", Transfers(self.jobs.capacity * self.limits.num_bytes))

    def model(self, name: str | None) -> ServedModel:
        """Return a model; the first by default.

        Raises:
            NotFoundError: If there is no model of that name.
        """
        if name is None:
            return next(iter(self.served.values()))
        if name not in self.served:
            raise NotFoundError(f"There is no model {name[:80]}; choose {', '.join(self.served)}.")
        return self.served[name]

    @asynccontextmanager
    async def request_folder(self, *, patient: bool = False) -> AsyncIterator[Path]:
        """Provide a temporary folder for a request.

        Args:
            patient: Whether the request creates a job instead of waiting for the result.

        Raises:
            BusyError: If too many images are waiting; raised before the image is read.
            ShuttingDownError: If the server is about to end.
            ResourceError: If the disk is full.
        """
        self.jobs.check(patient=patient)
        self._check_room(0)
        folder = self.root / secrets.token_hex(8)
        try:
            with disk_errors():
                folder.mkdir(parents=True)
            yield folder
        finally:
            self._stored.pop(folder, None)
            await run_in_threadpool(shutil.rmtree, folder, ignore_errors=True)

    async def receive(self, request: Request, path: Path, folder: Path) -> None:
        """Write a request's body to a file, and count its bytes until the request ends.

        Args:
            request: The request.
            path: The file.
            folder: The request's folder.

        Raises:
            UploadError: If it cannot be accepted.
            BusyError: If too many images are being uploaded or processed.
            ResourceError: If the disk is full.
        """
        size = await receive(request, path, self.limits, self.transfers)
        self._check_room(size)
        self._stored[folder] = size

    def _check_room(self, size: int) -> None:
        stored = self._stored.values()
        if sum(stored) + size > UPLOADS_PER_JOB * self.jobs.capacity * self.limits.num_bytes:
            raise BusyError("The images that are waiting have too many bytes; try again in a minute.")

    async def run_alongside(self, call: Callable[[], Result], *, is_long: bool = False) -> Result:
        """Run a call in a thread while the engine computes for others; long calls do not block short ones."""
        return await asyncio.get_running_loop().run_in_executor(self._pools[is_long], call)

    async def check(self, path: Path, name: str) -> Upload:
        """Check a received file; see `check_upload`."""
        is_long = path.stat().st_size > SMALL_BYTES
        return await self.run_alongside(partial(check_upload, path, name, self.limits), is_long=is_long)

    async def run(
        self, work: Callable[[Ticket], Result | Continuation[Result]], estimate: Estimate, request: Request
    ) -> Result:
        """Queue a job and wait for its result; cancel it if the client disconnects.

        Raises:
            BusyError: If the queue is full.
            CancelledError: If the client has disconnected.
        """
        job = self.jobs.submit(work, estimate, patient=False)
        future = asyncio.wrap_future(job.future)
        try:
            while not (await asyncio.wait([future], timeout=POLL_SECONDS))[0]:
                if await request.is_disconnected():
                    job.ticket.cancel()
            return future.result()
        finally:
            job.ticket.cancel()  # no effect on a finished job
            await asyncio.wait([future])  # until then it may write to the request's folder
            future.exception()  # or asyncio would log it as never retrieved

    def count_pixels(self, upload: Upload) -> None:
        """Count the pixels of a segmented image."""
        self.megapixels.inc(upload.info.width * upload.info.height / 1e6)

    def check_direct(self, upload: Upload, advice: str) -> None:
        """Check that an image is small enough for a single request.

        Args:
            upload: The image.
            advice: What the client can do instead.

        Raises:
            UploadTooLargeError: If it is too large.
        """
        if upload.info.width * upload.info.height > self.direct_pixels:
            raise UploadTooLargeError(
                f"{upload.name} has {upload.info.width:,} x {upload.info.height:,} pixels, more than the "
                f"{self.direct_pixels / 1e6:,.10g} million that a single request may have: {advice}."
            )

    def close(self) -> None:
        """Shut down the threads."""
        for pool in self._pools:
            pool.shutdown(cancel_futures=True)
