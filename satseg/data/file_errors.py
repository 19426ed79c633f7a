"""Errors of single files: raised at the first one, or collected."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from satseg.errors import ConfigError, DataError, SatsegError

FileGuard = Callable[[Path], AbstractContextManager[object]]


class FileErrors:
    """Raise errors of files at once, or collect them and leave the files out."""

    def __init__(self) -> None:
        self.collected: list[tuple[Path, SatsegError]] | None = None

    def collect(self) -> None:
        """Collect errors from now on instead of raising them."""
        self.collected = self.collected or []

    @contextmanager
    def guard(self, file: Path) -> Iterator[None]:
        """Context in which a file is processed.

        Raises:
            SatsegError: As the block; a DataError or ConfigError only while errors are not collected.
        """
        try:
            yield
        except (DataError, ConfigError) as error:
            if self.collected is None:
                raise
            self.collected.append((file, error))

    def raise_first(self) -> None:
        """Raise the first collected error, if any; for callers left without a usable file."""
        if self.collected:
            raise self.collected[0][1]
