"""What each visitor has open, in a folder that goes some time after the visitor has gone."""

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

PICTURES = 16  # a visitor's last, of which a browser may still ask
IDLE_SECONDS = 86_400.0  # after which a page that does nothing is taken for closed
LOOK_SECONDS = 30.0  # at most, between two looks at who has gone


@dataclass
class Work:
    """One upload, and what was made of it.

    Attributes:
        folder: Of its files.
        served: The model.
        upload: The file, once it was checked.
        unlike: What speaks against it, a sentence each, where it is unlike the training.
        job: What is computed last.
        found: The map.
        small: That for the screen.
        clicks: Pixels of the image that were clicked, (col, row); the last two at most.
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
        """Whether something is computed, or waits for its turn."""
        return self.job is not None and not self.job.future.done()

    def cancel(self) -> None:
        """Stop what is being computed."""
        if self.job is not None:
            self.job.ticket.cancel()

    def discard(self) -> None:
        """Stop what is being computed, and leave no file."""
        self.cancel()
        if self.job is None:
            self._remove()
        else:
            self.job.future.add_done_callback(self._remove)  # until then it may write a file or two

    def _remove(self, _: object = None) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclass
class Session:
    """A visitor.

    Attributes:
        folder: Of the visitor's uploads, and of pictures of them.
        served: The model in use.
        work: The upload at hand.
        left: Whether the page was closed, or its connection broke; it may be back.
        lost: Whether that took away what the page still shows.
        touched: When the visitor last did something.
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
        """Discard the upload at hand, and begin another."""
        self.end()
        folder = self.folder / secrets.token_hex(8)
        folder.mkdir(parents=True)
        self.work, self.lost = Work(folder, self.served), False
        return self.work

    def end(self) -> None:
        """Discard the upload at hand."""
        work, self.work = self.work, None
        if work is not None:
            work.discard()

    def leave(self) -> None:
        """Note that nobody is told any more; what was finished stays for a while."""
        self.left = True
        if self.work is not None and self.work.found is None:
            self.end()
            self.lost = True
        elif self.work is not None:
            self.work.cancel()

    def picture(self, pixels: np.ndarray) -> Path:
        """Return a file with a picture, uint8 (h, w, 3), which stays until some more were made."""
        height, width, _ = pixels.shape
        path = self.folder / f"{hashlib.blake2b(pixels.tobytes(), digest_size=16).hexdigest()}_{width}x{height}.png"
        with self._lock:
            if path not in self._pictures:
                Image.fromarray(pixels).save(path, compress_level=1)  # someone waits for it
            self._pictures.pop(path, None)  # what was asked for last comes last
            self._pictures[path] = None
            for old in list(self._pictures)[:-PICTURES]:
                del self._pictures[old]
                old.unlink(missing_ok=True)
        return path

    def close(self) -> None:
        """Discard all."""
        self.end()
        shutil.rmtree(self.folder, ignore_errors=True)


class Sessions:
    """All visitors.

    Args:
        root: Where folders of visitors are made.
        served: The model that a new visitor uses.
        keep_seconds: How long a page's uploads stay when it has gone: it may be back.
    """

    def __init__(self, root: Path, served: ServedModel, keep_seconds: float) -> None:
        self.root, self.keep_seconds = root, keep_seconds
        self._served = served
        self._sessions: dict[str, Session] = {}
        self._lock = threading.Lock()

    @staticmethod
    def key(visitor: str, named: str) -> str:
        """Return how a session of a visitor is called here; the visitor calls it as it likes."""
        return f"{visitor}.{named}"

    def is_of(self, visitor: str, path: Path) -> bool:
        """Say whether a path lies in the folder of one of a visitor's sessions."""
        inside = path.relative_to(self.root).parts if path.is_relative_to(self.root) else ()
        return len(inside) > 1 and inside[0].startswith(f"{visitor}-")

    def open(self, key: str | None) -> Session:
        """Return the session of a visitor who has just come."""
        folder = self.root / f"{str(key).partition('.')[0]}-{secrets.token_hex(16)}"
        with self._lock:
            return self._sessions.setdefault(str(key), Session(folder, self._served))

    def of(self, key: str | None) -> Session:
        """Return a visitor's session; of one who was forgotten, a new one that says so."""
        with self._lock:
            session = self._sessions.get(str(key))
        if session is None:
            session = self.open(key)
            session.left = session.lost = True  # nobody will tell when the page is closed
        session.touched = time.monotonic()
        return session

    def leave(self, key: str | None) -> None:
        """Note that a page was closed, or that its connection broke."""
        with self._lock:
            session = self._sessions.get(str(key))
        if session is not None:
            session.touched = time.monotonic()
            session.leave()

    def sweep(self) -> None:
        """Forget visitors that will not be back."""
        now = time.monotonic()
        with self._lock:
            gone = {key: session for key, session in self._sessions.items() if self._is_gone(session, now)}
            for key in gone:
                del self._sessions[key]
        for session in gone.values():
            session.close()

    def _is_gone(self, session: Session, now: float) -> bool:
        busy = session.work is not None and session.work.is_busy
        return not busy and now - session.touched > (self.keep_seconds if session.left else IDLE_SECONDS)

    def keep_sweeping(self, beside: Callable[[], None]) -> None:
        """Forget visitors, and do something beside, from time to time, for as long as the process lives."""

        def sweep() -> None:
            while True:
                time.sleep(min(LOOK_SECONDS, self.keep_seconds / 2))
                self.sweep()
                beside()

        threading.Thread(target=sweep, name="sweep", daemon=True).start()
