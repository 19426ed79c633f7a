"""Downloads of a finished map, written on request."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from satseg.errors import SatsegError
from satseg.mapping import write_areas
from satseg.serve.map_exports import write_png, write_polygons
from satseg.serve.segmenting import Segmented
from satseg.serve.tickets import Ticket

logger = logging.getLogger(__name__)

POLYGONS = ("GeoPackage", "GeoJSON")  # GeoJSON needs longitude and latitude, which may be unknown
SUFFIXES = {"GeoTIFF": ".tif", "PNG": ".png", "GeoPackage": ".gpkg", "GeoJSON": ".geojson", "CSV": ".csv"}


def write_downloads(found: Segmented, class_names: Sequence[str], ticket: Ticket) -> dict[str, Path]:
    """Write the downloads that do not exist yet.

    Returns:
        Files by kind, as in `SUFFIXES`; without polygons that cannot be written.

    Raises:
        SatsegError: If a file other than polygons cannot be written.
        CancelledError: If the job was cancelled.
    """
    ticket.total, paths = len(SUFFIXES), {}
    for kind, suffix in SUFFIXES.items():
        ticket.tick()
        path = found.classes.with_suffix(suffix)
        try:
            if not path.exists():
                _write(kind, found, path, class_names, ticket)
            paths[kind] = path
        except SatsegError as error:
            if kind not in POLYGONS:
                raise
            logger.warning("No %s for a visitor: %s", kind, error)
    return paths


def _write(kind: str, found: Segmented, path: Path, class_names: Sequence[str], ticket: Ticket) -> None:
    if kind in POLYGONS:
        write_polygons(found.classes, path, class_names, ticket)
    elif kind == "PNG":
        write_png(found.classes, path)
    else:
        write_areas(found.areas, path)
