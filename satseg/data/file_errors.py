"""What is wrong with single files: an error at the first of them, or collected where all of it is wanted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from satseg.errors import ConfigError, DataError, SatsegError

FileGuard = Callable[[Path], AbstractContextManager[object]]


class FileErrors:
    """Notes what is wrong, once it has been told to; then files with a fault are left out."""

    def __init__(self) -> None:
        self.collected: list[tuple[Path, SatsegError]] | None = None

    def collect(self) -> None:
        """Raise no more."""
        self.collected = self.collected or []

    @contextmanager
    def guard(self, file: Path) -> Iterator[None]:
        """Surround what is done with a file.

        Raises:
            SatsegError: As the block; a DataError or ConfigError only where faults are not collected.
        """
        try:
            yield
        except (DataError, ConfigError) as error:
            if self.collected is None:
                raise
            self.collected.append((file, error))

    def raise_first(self) -> None:
        """Raise the first fault that was collected; to be called where nothing is left."""
        if self.collected:
            raise self.collected[0][1]
