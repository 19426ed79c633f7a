"""What of a scene is finished, so that a run that was stopped at any moment goes on and ends with the same bytes."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from satseg.errors import RecordError
from satseg.files import write_json
from satseg.runs.documents import read_json

NAME = "journal.json"


class Journal:
    """The record in a scene's working folder.

    Args:
        folder: The working folder, beside the output; made anew where it belongs to other work.
        work: All that the result depends on, as plain data.
    """

    def __init__(self, folder: Path, work: Mapping[str, Any]) -> None:
        self.folder = folder
        self.key = hashlib.sha256(json.dumps(work, sort_keys=True).encode()).hexdigest()
        self.finished = self._read()

    @property
    def fresh(self) -> bool:
        """Whether the work begins here."""
        return self.finished is None

    def start(self) -> None:
        """Begin anew, in an empty folder."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)

    def record(self, finished: int) -> None:
        """Say that so many strips are finished, and safe on the disk."""
        self.finished = finished
        write_json(self.folder / NAME, {"key": self.key, "finished": finished})

    def clear(self) -> None:
        """Take the working folder away: the result stands."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _read(self) -> int | None:
        try:
            record = read_json(self.folder / NAME)
            return int(record["finished"]) if record["key"] == self.key else None
        except (RecordError, ValueError, KeyError, TypeError):
            return None
