"""From a finished map to the bytes of an answer."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO

from starlette.responses import Response, StreamingResponse

from satseg.errors import NotFoundError
from satseg.serve.api.media import GEOJSON, PNG, SUFFIXES
from satseg.serve.pace import POLYGONS, Pace
from satseg.serve.page.downloads import write_picture
from satseg.serve.polygons import num_corners, write_polygons
from satseg.serve.tickets import Onward, Ticket

SMALL = 1 << 20  # bytes up to which an answer is kept in memory
CHUNK = 1 << 18
MOST_WARNINGS = 4000  # characters: a header is not endless


def in_media(classes: Path, media: str, class_names: Sequence[str], pace: Pace, ticket: Ticket) -> Path | Onward[Path]:
    """Return a map as a file of a media type, or how that is made where it may take long.

    Raises:
        ResourceError: If the disk is full.
        CancelledError: If the job was cancelled.
    """
    if media != GEOJSON or classes.with_suffix(SUFFIXES[media]).exists():
        return as_media(classes, media, class_names, ticket)
    corners = num_corners(classes, len(class_names), ticket)
    ticket.complete()
    make = partial(as_media, classes, media, class_names)
    return Onward(make, pace.estimate(POLYGONS, corners))


def as_media(classes: Path, media: str, class_names: Sequence[str], ticket: Ticket) -> Path:
    """Return a map as a file of a media type; it is made where it is not there.

    Raises:
        DataError: If it has too many areas for GeoJSON.
        ResourceError: If the disk is full.
        CancelledError: If the job was cancelled.
    """
    path = classes.with_suffix(SUFFIXES[media])
    if path.exists():
        return path
    with tempfile.TemporaryDirectory(prefix=".", dir=classes.parent) as folder:  # a process that is killed leaves files
        made = Path(folder) / path.name
        if media == PNG:
            write_picture(classes, made)
        else:
            write_polygons(classes, made, class_names, ticket)
        made.replace(path)
    ticket.complete()
    return path


def answer(path: Path, media: str, name: str, headers: dict[str, str] | None = None) -> Response:
    """Answer with a file, which may be removed at once: it is open already.

    Raises:
        NotFoundError: If it was removed before.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError:
        raise NotFoundError("It is not there any more.") from None
    size = os.fstat(file.fileno()).st_size
    safe = name.encode("ascii", "replace").decode().replace("?", "_")
    headers = {"Content-Disposition": f'attachment; filename="{safe}"'} | (headers or {})
    if size <= SMALL:
        with file:
            return Response(file.read(), headers=headers, media_type=media)
    return StreamingResponse(_pieces(file), headers=headers | {"Content-Length": str(size)}, media_type=media)


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    with file:
        while piece := file.read(CHUNK):
            yield piece


def warnings(notes: Sequence[str]) -> dict[str, str]:
    """Return the header that carries what the owner of an image should know, a JSON list."""
    kept = list(notes)
    while len(json.dumps(kept)) > MOST_WARNINGS:
        kept.pop()
    return {"Satseg-Warnings": json.dumps(kept)} if kept else {}
