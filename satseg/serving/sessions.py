"""What each visitor has open, in a folder that goes when the visitor does."""

from __future__ import annotations

import secrets
import shutil
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from satseg.serving.jobs import Job
from satseg.serving.segmenting import Segmented
from satseg.serving.served import Served
from satseg.serving.thumbnails import Thumbnails


@dataclass
class Work:
    """One upload, and what was made of it.

    Attributes:
        folder: Of its files.
        served: The model.
        job: What is computed last.
        found: The map.
        small: That for the screen.
        clicks: Pixels of the image that were clicked, (col, row); the last two at most.
    """

    folder: Path
    served: Served
    job: Job[Any] | None = None
    found: Segmented | None = None
    small: Thumbnails | None = None
    clicks: tuple[tuple[int, int], ...] = ()

    def discard(self) -> None:
        """Stop what is being computed, and leave no file."""
        if self.job is None:
            self._remove()
            return
        self.job.ticket.cancel()
        self.job.future.add_done_callback(self._remove)  # until then it may write a file or two

    def _remove(self, _: object = None) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclass
class Session:
    """A visitor.

    Attributes:
        root: Where folders of uploads are made.
        served: The model in use.
        work: The upload at hand.
    """

    root: Path
    served: Served
    work: Work | None = None

    def begin(self) -> Work:
        """Discard the upload at hand, and begin another."""
        self.end(self.work)
        folder = self.root / secrets.token_hex(8)
        folder.mkdir(parents=True)
        self.work = Work(folder, self.served)
        return self.work

    def end(self, work: Work | None) -> None:
        """Discard an upload, at hand or no longer."""
        if work is not None:
            work.discard()
        if self.work is work:
            self.work = None


class Sessions:
    """All visitors.

    Args:
        root: Where folders of uploads are made.
        served: The model that a new visitor uses.
    """

    def __init__(self, root: Path, served: Served) -> None:
        self._root, self._served = root, served
        self._sessions: dict[str, Session] = {}
        self._lock = threading.Lock()

    def of(self, key: str | None) -> Session:
        """Return a visitor's session."""
        with self._lock:
            return self._sessions.setdefault(str(key), Session(self._root, self._served))

    def close(self, key: str | None) -> None:
        """Forget a visitor, whose files go."""
        with self._lock:
            session = self._sessions.pop(str(key), None)
        if session is not None:
            session.end(session.work)
