"""Jobs for large images, stored on disk, so that a server that was stopped or killed resumes them on restart."""

from __future__ import annotations

import logging
import re
import secrets
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

from satseg.errors import CancelledError, NotFoundError, SatsegError
from satseg.locks import LOCK_FILE, hold
from satseg.serve.api.job_records import Record, read_records
from satseg.serve.api.problems import OVERRIDE_HINT
from satseg.serve.api.receiving import disk_errors
from satseg.serve.api.responses import start_conversion
from satseg.serve.api.service import Service
from satseg.serve.estimates import MAP_FILE
from satseg.serve.public_messages import FAILED, public_message
from satseg.serve.segmenting import map_upload, scene_of
from satseg.serve.tickets import Continuation, Job, QueuePosition, Ticket
from satseg.serve.uploads import Upload, check_upload

logger = logging.getLogger(__name__)

UPLOAD, MAP = "upload", "map.tif"
MAX_STARTS = 2  # a job during which the server died this often is not tried again
MAX_FINISHED = 100  # jobs whose results are kept
PRUNE_SECONDS = 60.0  # maximum between removals of expired jobs
GONE = "There is no such job; it was removed, or has expired."
ID = re.compile(r"[0-9a-f]{32}")


class JobStore:
    """All jobs of a server.

    Args:
        folder: Folder of the jobs, exclusive to this server.
        service: Models and the queue.
        keep_seconds: Time for which results are kept.

    Raises:
        InUseError: If another server uses the folder.
        ResourceError: If it cannot be written.
    """

    def __init__(self, folder: Path, service: Service, keep_seconds: float) -> None:
        self._folder, self._service, self._keep_seconds = folder, service, keep_seconds
        self._owned = ExitStack()  # until the process ends, as jobs may write until then
        self._owned.enter_context(hold(folder / LOCK_FILE, f"jobs_dir={folder}", "set another"))
        self._records: dict[str, Record] = {}
        self._running: dict[str, Job[None]] = {}
        self._lock = threading.Lock()
        self._closed = threading.Event()

    def folder_of(self, job: str) -> Path:
        """Return the folder of a job's files."""
        return self._folder / job

    def map_of(self, job: str) -> Path:
        """Return a finished job's map."""
        return self.folder_of(job) / MAP

    def new(self) -> tuple[str, Path]:
        """Create a folder for a job; return the job's id and the path for its image.

        Raises:
            ResourceError: If the disk is full.
        """
        job = secrets.token_hex(16)
        with disk_errors():
            self.folder_of(job).mkdir(mode=0o700, parents=True)
        return job, self.folder_of(job) / UPLOAD

    def abandon(self, job: str) -> None:
        """Remove the folder of a job that was not accepted, or is no longer needed."""
        shutil.rmtree(self.folder_of(job), ignore_errors=True)

    def accept(self, record: Record, upload: Upload) -> Record:
        """Accept and persist a job whose image was received.

        Raises:
            BusyError: If too many wait already.
        """
        self._save(record)
        self._submit(record, upload, force=False)
        return record

    def find(self, job: str) -> tuple[Record, float]:
        """Return a job's record and its finished share, 0 to 1.

        Raises:
            NotFoundError: If there is none.
        """
        record = self._records.get(job)
        if record is None or self._is_expired(record):
            raise NotFoundError(GONE)
        running = self._running.get(job)
        share = 1.0 if record.state == "done" else running.ticket.share if running is not None else 0.0
        return record, share

    def queue_position(self, job: str) -> QueuePosition | None:
        """Return a job's position in the queue; None if it is finished."""
        running = self._running.get(job)
        return None if running is None else running.ticket.queue_position

    def forget(self, job: str) -> None:
        """Cancel a job and remove its files.

        Raises:
            NotFoundError: If there is none.
        """
        self.find(job)
        self._remove(job)

    def _remove(self, job: str) -> None:
        with self._lock:
            self._records.pop(job, None)
            running = self._running.get(job)
        if running is None:
            self.abandon(job)
            return
        running.ticket.cancel()
        running.future.add_done_callback(lambda _: self.abandon(job))

    def convert(self, job: str, media: str, ticket: Ticket) -> Path | Continuation[Path]:
        """Return a finished job's map as a file of a media type, or a continuation that converts it if that is slow.

        Raises:
            NotFoundError: If it was removed, before or meanwhile.
            SatsegError: If it cannot be converted.
        """
        record, _ = self.find(job)
        made = partial(start_conversion, self.map_of(job), media, record.class_names, self._service.costs)
        return self._if_kept(job, made, ticket)

    def _if_kept(
        self, job: str, work: Callable[[Ticket], Path | Continuation[Path]], ticket: Ticket
    ) -> Path | Continuation[Path]:
        try:
            with disk_errors():
                made = work(ticket)
        finally:
            if job not in self._records:
                self.abandon(job)  # files written since
                raise NotFoundError(GONE)
        return replace(made, work=partial(self._if_kept, job, made.work)) if isinstance(made, Continuation) else made

    def resume_all(self) -> None:
        """Resume the jobs of an earlier server, and start to remove expired ones."""
        for record in read_records(self._folder):
            self._records[record.id] = record
            if record.state in ("waiting", "running"):
                self._resume(record)
        for path in self._folder.glob("*"):  # of requests that the earlier server had not accepted yet
            if ID.fullmatch(path.name) and path.name not in self._records:
                self.abandon(path.name)
        threading.Thread(target=self._prune_periodically, name="prune", daemon=True).start()

    def close(self) -> None:
        """Stop removing expired jobs."""
        self._closed.set()

    def _resume(self, record: Record) -> None:
        try:
            if record.attempts >= MAX_STARTS:
                raise SatsegError(f"The server crashed {record.attempts} times while processing this image.")
            served = self._service.served.get(record.model)
            if served is None or served.models.digests[0] != record.digest:
                raise SatsegError(f"The server was restarted without the model {record.model} that this job uses.")
            (path,) = self.folder_of(record.id).glob(f"{UPLOAD}.*")
            upload = check_upload(path, record.name, self._service.limits)
            self._submit(record, upload, force=True)
        except (SatsegError, ValueError) as error:
            self._fail(record, str(error) if isinstance(error, SatsegError) else "The image was lost.")

    def _submit(self, record: Record, upload: Upload, *, force: bool) -> None:
        costs, num_pixels = self._service.model(record.model).costs, upload.info.width * upload.info.height
        with self._lock:  # so that the job cannot finish before it is registered
            estimate = costs.estimate(MAP_FILE, num_pixels)
            job = self._service.jobs.submit(partial(self._compute, record, upload), estimate, force=force)
            self._records[record.id], self._running[record.id] = record, job
        job.future.add_done_callback(lambda _: self._running.pop(record.id, None))

    def _compute(self, record: Record, upload: Upload, ticket: Ticket) -> None:
        served = self._service.model(record.model)
        try:
            record.state, record.attempts = "running", record.attempts + 1
            self._save(record)
            scene, record.warnings = scene_of(served, upload, record.preflight)
            map_upload(served, scene, self.folder_of(record.id) / MAP, ticket)
            self._service.count_pixels(upload)
            record.state, record.finished = "done", time.time()
            self._save(record)
        except CancelledError:  # by the client, or because the server stops, in which case the next one resumes it
            record.state, record.attempts = "waiting", record.attempts - 1
            if record.id in self._records:
                self._save(record)
            return
        except Exception as error:
            if not isinstance(error, SatsegError):
                logger.exception("Job %s failed", record.id)
            known = isinstance(error, SatsegError)
            folder, name = self.folder_of(record.id), record.name
            self._fail(
                record, public_message(str(error), folder, name, override_hint=OVERRIDE_HINT) if known else FAILED
            )
        upload.path.unlink(missing_ok=True)

    def _fail(self, record: Record, detail: str) -> None:
        record.state, record.finished, record.detail = "failed", time.time(), detail
        self._save(record)

    def _save(self, record: Record) -> None:
        record.save(self.folder_of(record.id))

    def _is_expired(self, record: Record) -> bool:
        return record.finished is not None and record.finished < time.time() - self._keep_seconds

    def _prune_periodically(self) -> None:
        while True:
            self._prune()
            if self._closed.wait(min(PRUNE_SECONDS, self._keep_seconds)):
                return

    def _prune(self) -> None:
        with self._lock:
            records = list(self._records.values())
        finished = sorted((r for r in records if r.finished), key=lambda r: -(r.finished or 0))
        for number, record in enumerate(finished):
            if number >= MAX_FINISHED or self._is_expired(record):
                self._remove(record.id)
