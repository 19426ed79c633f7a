"""A scene's working folder: room for all that is written, and results that appear whole."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rasterio.errors import RasterioError

from satseg.data.rasters.opening import reason
from satseg.errors import ResourceError
from satseg.files import size_text
from satseg.inference.journal import Journal
from satseg.inference.rasters import WorkRaster


def begin(journal: Journal, rasters: Sequence[WorkRaster], seam_bytes: int) -> None:
    """Take the room that the work needs, or say at once that it is not there.

    Raises:
        ResourceError: If there is no room, or no right to write.
    """
    with writing(journal.folder.parent), _all_or_nothing(journal):
        journal.start()
        free = shutil.disk_usage(journal.folder).free
        needed = 2 * sum(raster.num_bytes for raster in rasters) + seam_bytes  # as they grow, and then compressed
        if needed > free:
            raise ResourceError(
                f"{journal.folder.parent} has {size_text(free)} free, but up to {size_text(needed)} are needed; "
                f"make room for {size_text(needed - free)} more, or name another output."
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
    """Make cloud-optimised GeoTIFFs in the working folder, and give them their names.

    Raises:
        ResourceError: If there is no room or no right.
    """
    with writing(outputs[0].parent):
        made = [raster.finish(overviews) for raster in rasters]
        for path, output in zip(made, outputs, strict=True):
            path.replace(output)


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn what the system or GDAL says of a write into one line."""
    try:
        yield
    except RasterioError as error:
        raise ResourceError(f"{folder} cannot be written ({reason(error)}); is the disk full?") from error
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else reason(error)
        raise ResourceError(f"{folder} cannot be written: {why}.") from error
