"""What all requests share: models, the queue, limits, and folders that go when their request does."""

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
from satseg.serve.api.receiving import Arrivals, receive, writing
from satseg.serve.direct import Batches
from satseg.serve.estimates import CostModel, Estimate
from satseg.serve.jobs import Jobs
from satseg.serve.served_models import ServedModel
from satseg.serve.tickets import Continuation, Ticket
from satseg.serve.uploads import Limits, Upload, check_upload

Result = TypeVar("Result")
LOOK_SECONDS = 0.5  # between two looks whether a client is still there
ROOM_A_JOB = 2  # full uploads whose bytes may be there: some are read or written while others wait for the engine
BESIDE = 2  # threads that read and write while the engine computes, and as many for what is large
SMALL_BYTES = 4 << 20  # of an upload that is checked soon


@dataclass(frozen=True)
class Service:
    """What requests share.

    Attributes:
        served: The models by name.
        jobs: The queue.
        limits: For uploads.
        direct_pixels: Larger images are no matter of a single request.
        root: Folder of what is temporary.
        batches: Images that may be segmented together.
        costs: Of work that needs no model.
        ready: Set when the models have warmed up.
        megapixels: Counts what was segmented, for whomever.
        arrivals: Images on their way; they may take as much of the disk as a full queue.
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
    arrivals: Arrivals = field(init=False)
    _pools: tuple[ThreadPoolExecutor, ThreadPoolExecutor] = field(
        default_factory=lambda: (ThreadPoolExecutor(BESIDE, "beside"), ThreadPoolExecutor(BESIDE, "beside long"))
    )
    _placed: dict[Path, int] = field(default_factory=dict)  # bytes by the folders of requests

    def __post_init__(self) -> None:
        object.__setattr__(self, "arrivals", Arrivals(self.jobs.capacity * self.limits.num_bytes))

    def model(self, name: str | None) -> ServedModel:
        """Return a model; the first by default.

        Raises:
            NotFoundError: If there is none of the name.
        """
        if name is None:
            return next(iter(self.served.values()))
        if name not in self.served:
            raise NotFoundError(f"There is no model {name[:80]}; there is {', '.join(self.served)}.")
        return self.served[name]

    @asynccontextmanager
    async def request_folder(self, *, patient: bool = False) -> AsyncIterator[Path]:
        """Give a request a folder of its own for as long as it is worked on.

        Args:
            patient: Whether a job comes of it, and no answer at once.

        Raises:
            BusyError: If too many images wait; nothing of the image has been read then.
            ShuttingDownError: If the server is about to end.
            ResourceError: If the disk is full.
        """
        self.jobs.check(patient=patient)
        self._check_room(0)
        folder = self.root / secrets.token_hex(8)
        try:
            with writing():
                folder.mkdir(parents=True)
            yield folder
        finally:
            self._placed.pop(folder, None)
            await run_in_threadpool(shutil.rmtree, folder, ignore_errors=True)

    async def receive(self, request: Request, path: Path, folder: Path) -> None:
        """Write a request's body into a file; from its end on its bytes count among those that are worked on.

        Args:
            request: The request.
            path: The file.
            folder: The request's own.

        Raises:
            UploadError: If it cannot be taken.
            BusyError: If too many images arrive or are worked on.
            ResourceError: If the disk is full.
        """
        size = await receive(request, path, self.limits, self.arrivals)
        self._check_room(size)
        self._placed[folder] = size

    def _check_room(self, size: int) -> None:
        placed = self._placed.values()
        if sum(placed) + size > ROOM_A_JOB * self.jobs.capacity * self.limits.num_bytes:
            raise BusyError("The images that are waiting have too many bytes; try again in a minute.")

    async def run_alongside(self, call: Callable[[], Result], *, is_long: bool = False) -> Result:
        """Make a call while the engine computes for others; a long one is no hindrance to short ones."""
        return await asyncio.get_running_loop().run_in_executor(self._pools[is_long], call)

    async def check(self, path: Path, name: str) -> Upload:
        """Check a file that was received; see `check_upload`."""
        is_long = path.stat().st_size > SMALL_BYTES
        return await self.run_alongside(partial(check_upload, path, name, self.limits), is_long=is_long)

    async def run(
        self, work: Callable[[Ticket], Result | Continuation[Result]], estimate: Estimate, request: Request
    ) -> Result:
        """Have work done in its turn; a client that has gone is not waited for.

        Raises:
            BusyError: If too much waits already.
            CancelledError: If the client has gone.
        """
        job = self.jobs.submit(work, estimate, patient=False)
        future = asyncio.wrap_future(job.future)
        try:
            while not (await asyncio.wait([future], timeout=LOOK_SECONDS))[0]:
                if await request.is_disconnected():
                    job.ticket.cancel()
            return future.result()
        finally:
            job.ticket.cancel()  # of no effect on one that is finished
            await asyncio.wait([future])  # until then it may write into the request's folder
            future.exception()  # asyncio logs one that nobody has asked for

    def count_pixels(self, upload: Upload) -> None:
        """Count an image."""
        self.megapixels.inc(upload.info.width * upload.info.height / 1e6)

    def check_direct(self, upload: Upload, advice: str) -> None:
        """See whether an image is small enough for a single request.

        Args:
            upload: The image.
            advice: What else its owner can do.

        Raises:
            UploadTooLargeError: If it is not.
        """
        if upload.info.width * upload.info.height > self.direct_pixels:
            raise UploadTooLargeError(
                f"{upload.name} has {upload.info.width:,} x {upload.info.height:,} pixels, more than the "
                f"{self.direct_pixels / 1e6:,.10g} million that are answered at once: {advice}."
            )

    def close(self) -> None:
        """Let the threads go."""
        for pool in self._pools:
            pool.shutdown(cancel_futures=True)
