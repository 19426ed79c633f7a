"""Exports of a finished map as PNG or polygons; large ones in a separate process, so as not to block the server."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import rasterio
import rasterio.shutil

from satseg import errors
from satseg.data.rasters.header import Window
from satseg.data.rasters.opening import CACHE_BYTES, quiet
from satseg.files import atomic_path
from satseg.mapping import write_vectors
from satseg.mapping.classmap import open_class_map
from satseg.serve.tickets import Ticket

MAX_CORNERS = 500_000  # about a minute of work and a 120 MB response for noise
FEW_CORNERS = 5_000  # fewer are written faster than a process starts
POLL_SECONDS = 0.2  # between checks for cancellation


def write_png(classes: Path, path: Path) -> None:
    """Write a map as a PNG in its classes' colours, at full size."""
    options = {"GDAL_PAM_ENABLED": "NO", "GDAL_CACHEMAX": CACHE_BYTES}  # no .aux.xml beside it
    with rasterio.Env(**options), quiet(), atomic_path(path) as temporary:
        rasterio.shutil.copy(classes, temporary, driver="PNG")


def write_polygons(classes: Path, output: Path, class_names: Sequence[str], ticket: Ticket) -> None:
    """Write the polygons of a map as GeoJSON or GeoPackage, by the output's suffix.

    Raises:
        DataError: If the map has too many corners.
        ResourceError: If the output cannot be written.
        CancelledError: If the job was cancelled.
    """
    corners = num_corners(classes, len(class_names), ticket)
    if corners > MAX_CORNERS:
        raise errors.DataError(
            f"The map's polygons have more than {MAX_CORNERS:,} corners, which is too many; "
            "use the GeoTIFF (with the API, Accept: image/tiff)."
        )
    if corners <= FEW_CORNERS:
        write_vectors(classes, output, class_names)
    else:  # GDAL blocks other threads while it writes GeoJSON
        _write_in_process(classes, output, class_names, ticket)


def num_corners(classes: Path, num_classes: int, ticket: Ticket) -> int:
    """Count the corners of a map's polygons, which determine time and size; stop above MAX_CORNERS."""
    count = 0
    with open_class_map(classes, num_classes) as source:
        for window in source.blocks():
            ticket.tick(0)
            pixels = source.read(Window(window.col - 1, window.row - 1, window.width + 1, window.height + 1))
            same_along, same_down = pixels[:, 1:] == pixels[:, :-1], pixels[1:] == pixels[:-1]
            straight = (same_along[1:] & same_along[:-1]) | (same_down[:, 1:] & same_down[:, :-1])
            count += straight.size - int(np.count_nonzero(straight))
            if count > MAX_CORNERS:
                break
    return count


def _write_in_process(classes: Path, output: Path, class_names: Sequence[str], ticket: Ticket) -> None:
    command = [sys.executable, "-m", "satseg.serve.map_exports", str(classes), str(output), json.dumps(class_names)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            stderr = None
            while stderr is None:
                ticket.tick(0)
                with suppress(subprocess.TimeoutExpired):
                    stderr = process.communicate(timeout=POLL_SECONDS)[1]
        finally:
            process.kill()
    if process.returncode:
        raise _error(stderr, process.returncode)


def _error(stderr: str, code: int) -> Exception:
    if code < 0:
        return errors.ResourceError("The map's polygons do not fit into memory; use the GeoTIFF.")
    kind, _, text = stderr.strip().rpartition("\n")[2].partition(": ")
    known = getattr(errors, kind, None)
    return known(text) if isinstance(known, type) and issubclass(known, errors.SatsegError) else RuntimeError(stderr)


def _main(classes: str, output: str, class_names: str) -> None:
    try:
        write_vectors(Path(classes), Path(output), json.loads(class_names))
    except errors.SatsegError as error:
        sys.exit(f"{type(error).__name__}: {' '.join(str(error).split())}")


if __name__ == "__main__":
    _main(*sys.argv[1:])
