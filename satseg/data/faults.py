"""What is wrong with single files: an error at the first of them, or noted where all of it is wanted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from satseg.errors import ConfigError, DataError, SatsegError

Attempt = Callable[[Path], AbstractContextManager[object]]


class Faults:
    """Notes what is wrong, once it has been told to; then files with a fault are left out."""

    def __init__(self) -> None:
        self.noted: list[tuple[Path, SatsegError]] | None = None

    def note_all(self) -> None:
        """Raise no more."""
        self.noted = self.noted or []

    @contextmanager
    def of(self, file: Path) -> Iterator[None]:
        """Surround what is done with a file.

        Raises:
            SatsegError: As the block; a DataError or ConfigError only where faults are not noted.
        """
        try:
            yield
        except (DataError, ConfigError) as error:
            if self.noted is None:
                raise
            self.noted.append((file, error))

    def raise_first(self) -> None:
        """Raise the first fault that was noted; to be called where nothing is left."""
        if self.noted:
            raise self.noted[0][1]
