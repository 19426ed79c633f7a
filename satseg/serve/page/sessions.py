"""Sessions of the page's visitors, whose files are removed some time after they leave."""

from __future__ import annotations

import hashlib
import secrets
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from satseg.serve.page.views import Thumbnails
from satseg.serve.segmenting import Segmented
from satseg.serve.served_models import ServedModel
from satseg.serve.tickets import Job
from satseg.serve.uploads import Upload

PICTURES = 16  # kept per visitor, as a browser may still request them
IDLE_SECONDS = 86_400.0  # after which an inactive page counts as closed
SWEEP_SECONDS = 30.0  # maximum between removals of expired sessions


@dataclass
class Work:
    """An upload and its results.

    Attributes:
        folder: Folder of its files.
        served: The model.
        upload: The file, once checked.
        unlike: Differences from the training data, one sentence each.
        job: The latest job.
        found: The map.
        small: The map at screen size.
        clicks: Clicked pixels of the image, (col, row); the last two at most.
    """

    folder: Path
    served: ServedModel
    upload: Upload | None = None
    unlike: tuple[str, ...] = ()
    job: Job[Any] | None = None
    found: Segmented | None = None
    small: Thumbnails | None = None
    clicks: tuple[tuple[int, int], ...] = ()

    @property
    def is_busy(self) -> bool:
        """True while a job is running or waiting."""
        return self.job is not None and not self.job.future.done()

    def cancel(self) -> None:
        """Cancel the current job."""
        if self.job is not None:
            self.job.ticket.cancel()

    def discard(self) -> None:
        """Cancel the current job, and remove all files."""
        self.cancel()
        if self.job is None:
            self._remove()
        else:
            self.job.future.add_done_callback(self._remove)  # until then it may still write files

    def _remove(self, _: object = None) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclass
class Session:
    """A visitor's open page.

    Attributes:
        folder: Folder of uploads and images.
        served: The model in use.
        work: The current upload.
        left: Whether the page was closed or lost its connection; it may reconnect.
        lost: Whether results that the page still shows were discarded.
        touched: Time of the last activity.
    """

    folder: Path
    served: ServedModel
    work: Work | None = None
    left: bool = False
    lost: bool = False
    touched: float = field(default_factory=time.monotonic)
    _pictures: dict[Path, None] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self) -> Work:
        """Discard the current upload, and start another."""
        self.end()
        folder = self.folder / secrets.token_hex(8)
        folder.mkdir(parents=True)
        self.work, self.lost = Work(folder, self.served), False
        return self.work

    def end(self) -> None:
        """Discard the current upload."""
        work, self.work = self.work, None
        if work is not None:
            work.discard()

    def leave(self) -> None:
        """Handle a closed page: discard unfinished work, and keep finished work for a while."""
        self.left = True
        if self.work is not None and self.work.found is None:
            self.end()
            self.lost = True
        elif self.work is not None:
            self.work.cancel()

    def picture(self, pixels: np.ndarray) -> Path:
        """Write an image, uint8 (h, w, 3), to a file that is kept until PICTURES newer ones exist."""
        height, width, _ = pixels.shape
        path = self.folder / f"{hashlib.blake2b(pixels.tobytes(), digest_size=16).hexdigest()}_{width}x{height}.png"
        with self._lock:
            if path not in self._pictures:
                Image.fromarray(pixels).save(path, compress_level=1)  # a user is waiting
            self._pictures.pop(path, None)  # most recently used last
            self._pictures[path] = None
            for old in list(self._pictures)[:-PICTURES]:
                del self._pictures[old]
                old.unlink(missing_ok=True)
        return path

    def close(self) -> None:
        """Discard the session and its files."""
        self.end()
        shutil.rmtree(self.folder, ignore_errors=True)


class Sessions:
    """All sessions.

    Args:
        root: Parent of the visitors' folders.
        served: The default model.
        keep_seconds: Time for which files are kept after a page was closed, as it may reconnect.
    """

    def __init__(self, root: Path, served: ServedModel, keep_seconds: float) -> None:
        self.root, self.keep_seconds = root, keep_seconds
        self._served = served
        self._sessions: dict[str, Session] = {}
        self._lock = threading.Lock()

    @staticmethod
    def key(visitor: str, named: str) -> str:
        """Return the key of a visitor's session, whose own name is chosen by the browser."""
        return f"{visitor}.{named}"

    def is_of(self, visitor: str, path: Path) -> bool:
        """Return whether a path lies in the folder of one of a visitor's sessions."""
        inside = path.relative_to(self.root).parts if path.is_relative_to(self.root) else ()
        return len(inside) > 1 and inside[0].startswith(f"{visitor}-")

    def open(self, key: str | None) -> Session:
        """Open a visitor's session."""
        folder = self.root / f"{str(key).partition('.')[0]}-{secrets.token_hex(16)}"
        with self._lock:
            return self._sessions.setdefault(str(key), Session(folder, self._served))

    def of(self, key: str | None) -> Session:
        """Return a visitor's session; for one that has expired, a new session marked as lost."""
        with self._lock:
            session = self._sessions.get(str(key))
        if session is None:
            session = self.open(key)
            session.left = session.lost = True  # there will be no event when the page is closed
        session.touched = time.monotonic()
        return session

    def leave(self, key: str | None) -> None:
        """Handle a closed page or a lost connection."""
        with self._lock:
            session = self._sessions.get(str(key))
        if session is not None:
            session.touched = time.monotonic()
            session.leave()

    def sweep(self) -> None:
        """Close expired sessions."""
        now = time.monotonic()
        with self._lock:
            expired = {key: session for key, session in self._sessions.items() if self._is_expired(session, now)}
            for key in expired:
                del self._sessions[key]
        for session in expired.values():
            session.close()

    def _is_expired(self, session: Session, now: float) -> bool:
        busy = session.work is not None and session.work.is_busy
        return not busy and now - session.touched > (self.keep_seconds if session.left else IDLE_SECONDS)

    def start_sweeping(self, also: Callable[[], None]) -> None:
        """Close expired sessions and call `also` periodically, until the process ends."""

        def sweep() -> None:
            while True:
                time.sleep(min(SWEEP_SECONDS, self.keep_seconds / 2))
                self.sweep()
                also()

        threading.Thread(target=sweep, name="sweep", daemon=True).start()
