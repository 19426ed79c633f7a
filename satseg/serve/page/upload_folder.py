"""Files uploaded through the page: one per request, limited in number, and removed when they expire."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gradio import route_utils
from starlette.datastructures import FormData
from starlette.formparsers import MultiPartException
from starlette.types import Message, Receive

from satseg.errors import BusyError
from satseg.serve.api.receiving import Transfers

FIELD = "files"  # field of Gradio's form
MAX_FILES = 1000


class SingleFileParser(route_utils.GradioMultiPartParser):  # type: ignore[misc]
    """A form with exactly one file; by default, Gradio accepts a thousand, and holds other fields in memory."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "max_files": 1, "max_fields": 0})

    def on_headers_finished(self) -> None:
        """Refuse a file in another field, which the page would not use."""
        super().on_headers_finished()
        if self._current_part.field_name != FIELD:
            raise MultiPartException(f"The file must be in the field {FIELD}.")

    async def parse(self) -> FormData:
        """Parse the form, and remove its files on any error."""
        try:
            form: FormData = await super().parse()
            return form
        except BaseException as error:
            for file in self._files_to_close_on_error:
                file.close()
                Path(file.name).unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise MultiPartException("The image cannot be stored on the server; try again later.") from error
            raise


class UploadFolder:
    """Gradio's folder of uploads.

    Args:
        folder: The folder.
        most: Maximum bytes of all finished files.
        keep_seconds: Time for which files are kept; those in use are linked elsewhere.
        transfers: Counts the bytes of unfinished files, together with the API's.
    """

    def __init__(self, folder: Path, most: int, keep_seconds: float, transfers: Transfers) -> None:
        self.folder = folder.resolve()
        self._most, self._keep_seconds, self._arrivals = most, keep_seconds, transfers

    @contextmanager
    def receiving(self, receive: Receive) -> Iterator[Receive]:
        """Make room for a file, and provide a `receive` that counts its bytes."""
        self._make_room()
        num_bytes = 0

        async def counting() -> Message:
            nonlocal num_bytes
            message = await receive()
            size = len(message.get("body", b""))
            try:
                self._arrivals.add(size)
            except BusyError as error:
                raise MultiPartException(str(error)) from None
            num_bytes += size
            return message

        try:
            yield counting
        finally:
            self._arrivals.num_bytes -= num_bytes

    def sweep(self) -> None:
        """Remove expired files."""
        for path, (changed, _) in self._finished():
            if time.time() - changed > self._keep_seconds:
                path.unlink(missing_ok=True)

    def _make_room(self) -> None:
        """Remove the oldest files while there are too many; on the event loop, on which Gradio adds new ones."""
        found = self._finished()
        num_bytes = sum(size for _, (_, size) in found)
        for index, (path, (_, size)) in enumerate(found):
            if num_bytes <= self._most and len(found) - index < MAX_FILES:
                break
            path.unlink(missing_ok=True)
            num_bytes -= size
        for folder in {path.parent for path, _ in found}:
            if not any(folder.iterdir()):
                folder.rmdir()

    def _finished(self) -> list[tuple[Path, tuple[float, int]]]:
        """Return files with their time of change and size in bytes, oldest first.

        Unfinished files are in the folder itself, finished ones in subfolders named by hash.
        """
        found = []
        for path in self.folder.glob("*/*"):
            try:
                status = path.lstat()
            except FileNotFoundError:  # removed meanwhile
                continue
            found.append((path, (status.st_ctime, status.st_size)))
        return sorted(found, key=lambda one: one[1])
