"""Job records on disk."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from satseg.errors import RecordError
from satseg.files import write_json
from satseg.runs.documents import read_json
from satseg.serve.uploads import stem_of

State = Literal["waiting", "running", "done", "failed"]
RECORD = "job.json"


@dataclass
class Record:
    """The record of a job.

    Attributes:
        id: A secret: anyone who knows it may fetch the result.
        model: Name of the model.
        digest: SHA-256 of the model file, as another model may have the name later.
        class_names: Classes of the model.
        name: The client's name for the image.
        preflight: As for `scene_of`.
        state: `waiting`, `running`, `done` or `failed`.
        attempts: Number of times the job was started.
        created: Seconds since 1970.
        finished: Seconds since 1970, or None.
        detail: Reason for the failure.
        warnings: Warnings for the client.
        num_pixels: Number of pixels of the image.
    """

    id: str
    model: str
    digest: str
    class_names: list[str]
    name: str
    preflight: str
    state: State = "waiting"
    attempts: int = 0
    created: float = field(default_factory=time.time)
    finished: float | None = None
    detail: str = ""
    warnings: list[str] = field(default_factory=list)
    num_pixels: int = 0

    @property
    def stem(self) -> str:
        """The name without its suffix, safe as a file name."""
        return stem_of(self.name)

    def save(self, folder: Path) -> None:
        """Write the record to the job's folder."""
        write_json(folder / RECORD, asdict(self))


def read_records(folder: Path) -> list[Record]:
    """Read the records in a folder, skipping those of other versions of satseg."""
    found = ((path, _read(path)) for path in sorted(folder.glob(f"*/{RECORD}")))
    return [record for path, record in found if record is not None and record.id == path.parent.name]


def _read(path: Path) -> Record | None:
    try:
        known: dict[str, Any] = read_json(path)
        return Record(**known)
    except (RecordError, TypeError):
        return None
