"""What is known of a job, as it lies on the disk."""

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
    """What is known of a job.

    Attributes:
        id: Not to be guessed: whoever knows it may have the result.
        model: Name of the model.
        digest: SHA-256 of the model's file: another one may have the name later.
        class_names: The model's.
        name: What its owner calls the image.
        preflight: As for `scene_of`.
        state: `waiting`, `running`, `done` or `failed`.
        attempts: How often it was begun.
        created: Seconds since 1970.
        finished: Seconds since 1970, or None.
        detail: Why it failed.
        warnings: What the owner should know.
        num_pixels: Of the image.
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
        """The name without its ending, fit for a file name."""
        return stem_of(self.name)

    def save(self, folder: Path) -> None:
        """Write it into its job's folder."""
        write_json(folder / RECORD, asdict(self))


def read_records(folder: Path) -> list[Record]:
    """Return the records below a folder; those of another version of satseg are passed over."""
    found = ((path, _read(path)) for path in sorted(folder.glob(f"*/{RECORD}")))
    return [record for path, record in found if record is not None and record.id == path.parent.name]


def _read(path: Path) -> Record | None:
    try:
        known: dict[str, Any] = read_json(path)
        return Record(**known)
    except (RecordError, TypeError):
        return None
