"""Working folder of a scene, with its journal; results are moved out of it only when complete."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rasterio.errors import RasterioError

from satseg.data.rasters.opening import reason
from satseg.errors import RecordError, ResourceError
from satseg.files import size_text, write_json
from satseg.inference.work_rasters import WorkRaster
from satseg.runs.documents import read_json

NAME = "journal.json"


class Journal:
    """The record of finished strips in a scene's working folder, so that an interrupted run can resume.

    Args:
        folder: The working folder, beside the output; recreated if it belongs to other work.
        work: Everything that the result depends on, as plain data.
    """

    def __init__(self, folder: Path, work: Mapping[str, Any]) -> None:
        self.folder = folder
        self.key = hashlib.sha256(json.dumps(work, sort_keys=True).encode()).hexdigest()
        self.finished = self._read()

    @property
    def fresh(self) -> bool:
        """True if there is nothing to resume."""
        return self.finished is None

    def start(self) -> None:
        """Create an empty folder."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)

    def record(self, finished: int) -> None:
        """Record the number of strips that are finished and flushed to the disk."""
        self.finished = finished
        write_json(self.folder / NAME, {"key": self.key, "finished": finished})

    def clear(self) -> None:
        """Remove the working folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _read(self) -> int | None:
        try:
            record = read_json(self.folder / NAME)
            return int(record["finished"]) if record["key"] == self.key else None
        except (RecordError, ValueError, KeyError, TypeError):
            return None


def allocate(journal: Journal, rasters: Sequence[WorkRaster], seam_bytes: int) -> None:
    """Create the working rasters at full size, or fail at once if the disk is too small.

    Raises:
        ResourceError: If there is no space, or no permission to write.
    """
    with write_errors(journal.folder.parent), _all_or_nothing(journal):
        journal.start()
        free = shutil.disk_usage(journal.folder).free
        needed = 2 * sum(raster.num_bytes for raster in rasters) + seam_bytes  # uncompressed, then compressed
        if needed > free:
            raise ResourceError(
                f"{journal.folder.parent} has {size_text(free)} free, but up to {size_text(needed)} are needed; "
                f"make room for {size_text(needed - free)} more, or choose another output."
            )
        for raster in rasters:
            raster.create()
        journal.record(0)


@contextmanager
def _all_or_nothing(journal: Journal) -> Iterator[None]:
    try:
        yield
    except BaseException:
        journal.clear()
        raise


def publish(rasters: Sequence[WorkRaster], outputs: Sequence[Path], overviews: str) -> None:
    """Write cloud-optimised GeoTIFFs in the working folder, then move them to their destination.

    Raises:
        ResourceError: If there is no space, or no permission to write.
    """
    with write_errors(outputs[0].parent):
        made = [raster.finish(overviews) for raster in rasters]
        for path, output in zip(made, outputs, strict=True):
            path.replace(output)


@contextmanager
def write_errors(folder: Path) -> Iterator[None]:
    """Convert errors of the operating system and GDAL on writing.

    Raises:
        ResourceError: In one line, with the reason.
    """
    try:
        yield
    except RasterioError as error:
        raise ResourceError(f"{folder} cannot be written ({reason(error)}); is the disk full?") from error
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else reason(error)
        raise ResourceError(f"{folder} cannot be written: {why}.") from error
