"""Files that pages have sent: one a request, few enough in all, and removed when their time is over."""

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
from satseg.serve.api.receiving import Arrivals

FIELD = "files"  # of Gradio's form
MAX_FILES = 1000


class SingleFileParser(route_utils.GradioMultiPartParser):  # type: ignore[misc]
    """A form with one file and nothing else: Gradio takes a thousand files, and keeps other fields in memory."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "max_files": 1, "max_fields": 0})

    def on_headers_finished(self) -> None:
        """Refuse a file that the page would not find again."""
        super().on_headers_finished()
        if self._current_part.field_name != FIELD:
            raise MultiPartException(f"The file must be in the field {FIELD}.")

    async def parse(self) -> FormData:
        """Read the form; whatever ends it early, no file stays."""
        try:
            form: FormData = await super().parse()
            return form
        except BaseException as error:
            for file in self._files_to_close_on_error:
                file.close()
                Path(file.name).unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise MultiPartException("The image cannot be kept on the server; try again later.") from error
            raise


class UploadFolder:
    """The folder into which Gradio puts what pages send.

    Args:
        folder: The folder.
        most: Bytes that finished files may have together.
        keep_seconds: How long a file stays; what an event has taken has a link elsewhere.
        arrivals: Counts the bytes of unfinished ones, together with the API's.
    """

    def __init__(self, folder: Path, most: int, keep_seconds: float, arrivals: Arrivals) -> None:
        self.folder = folder.resolve()
        self._most, self._keep_seconds, self._arrivals = most, keep_seconds, arrivals

    @contextmanager
    def arriving(self, receive: Receive) -> Iterator[Receive]:
        """Make room for a file, and give a way to receive it that counts its bytes."""
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
        """Remove the files whose time is over."""
        for path, (changed, _) in self._finished():
            if time.time() - changed > self._keep_seconds:
                path.unlink(missing_ok=True)

    def _make_room(self) -> None:
        """Remove the oldest files while there are too many; on the event loop, where Gradio moves new ones here."""
        found = self._finished()
        num_bytes = sum(size for _, (_, size) in found)
        for place, (path, (_, size)) in enumerate(found):
            if num_bytes <= self._most and len(found) - place < MAX_FILES:
                break
            path.unlink(missing_ok=True)
            num_bytes -= size
        for folder in {path.parent for path, _ in found}:
            if not any(folder.iterdir()):
                folder.rmdir()

    def _finished(self) -> list[tuple[Path, tuple[float, int]]]:
        """Return files with the time of their last change and their bytes, the oldest first.

        Unfinished files lie in the folder itself, finished ones in folders named by their hashes.
        """
        found = []
        for path in self.folder.glob("*/*"):
            try:
                status = path.lstat()
            except FileNotFoundError:  # removed since
                continue
            found.append((path, (status.st_ctime, status.st_size)))
        return sorted(found, key=lambda one: one[1])
