"""Several files that take their names only once all are written and checked."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from satseg.errors import ResourceError


@contextmanager
def staged(output: Path) -> Iterator[Path]:
    """Give a path of the same name in a new folder beside; its folder's files take their places when the block ends.

    The file itself comes last, after those that belong to it; an older one makes way for them first, so that it never
    stands beside files of another. After an error in the block nothing new is there, and older files stay.

    Raises:
        ResourceError: If the system cannot write: no right, no space.
    """
    folder = output.with_name(f".{secrets.token_hex(6)}.tmp")
    try:
        folder.mkdir(parents=True)
        yield folder / output.name
        files = sorted(folder.iterdir(), key=lambda file: file.name == output.name)
        for file in files:
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
        if len(files) > 1:
            output.unlink(missing_ok=True)
        for file in files:
            file.replace(output.with_name(file.name))
    except OSError as error:
        if error.errno is None:  # a library's own error
            raise
        raise ResourceError(f"{output} cannot be written: {error.strerror}.") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
