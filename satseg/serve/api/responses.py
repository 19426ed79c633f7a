"""Responses: content negotiation, and a finished map as a file of the negotiated media type."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO

from starlette.responses import Response, StreamingResponse

from satseg.errors import NotAcceptableError, NotFoundError
from satseg.serve.estimates import POLYGONS, CostModel
from satseg.serve.map_exports import num_corners, write_png, write_polygons
from satseg.serve.tickets import Continuation, Ticket

SMALL = 1 << 20  # bytes up to which a response is sent from memory
CHUNK = 1 << 18
MAX_WARNINGS = 4000  # characters of the header
TIFF, PNG, GEOJSON = "image/tiff", "image/png", "application/geo+json"
MAPS, EVIDENCE = (TIFF, PNG, GEOJSON), (PNG, TIFF)  # possible media types; the first is the default
SUFFIXES = {TIFF: ".tif", PNG: ".png", GEOJSON: ".geojson"}


def start_conversion(
    classes: Path, media: str, class_names: Sequence[str], costs: CostModel, ticket: Ticket
) -> Path | Continuation[Path]:
    """Return a map as a file of a media type, or a continuation that converts it if that is slow.

    Raises:
        ResourceError: If the disk is full.
        CancelledError: If the job was cancelled.
    """
    if media != GEOJSON or classes.with_suffix(SUFFIXES[media]).exists():
        return convert(classes, media, class_names, ticket)
    corners = num_corners(classes, len(class_names), ticket)
    ticket.complete()
    make = partial(convert, classes, media, class_names)
    return Continuation(make, costs.estimate(POLYGONS, corners))


def convert(classes: Path, media: str, class_names: Sequence[str], ticket: Ticket) -> Path:
    """Return a map as a file of a media type, converting it if the file does not exist.

    Raises:
        DataError: If its polygons have too many corners for GeoJSON.
        ResourceError: If the disk is full.
        CancelledError: If the job was cancelled.
    """
    path = classes.with_suffix(SUFFIXES[media])
    if path.exists():
        return path
    with tempfile.TemporaryDirectory(prefix=".", dir=classes.parent) as folder:  # hidden, in case the process is killed
        made = Path(folder) / path.name
        if media == PNG:
            write_png(classes, made)
        else:
            write_polygons(classes, made, class_names, ticket)
        made.replace(path)
    ticket.complete()
    return path


def file_response(path: Path, media: str, name: str, headers: dict[str, str] | None = None) -> Response:
    """Return a response with a file, which may be removed at once, as it is already open.

    Raises:
        NotFoundError: If it was removed before.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError:
        raise NotFoundError("The file no longer exists.") from None
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


def warning_header(notes: Sequence[str]) -> dict[str, str]:
    """Return the header with the warnings for the client, a JSON list."""
    kept = list(notes)
    while len(json.dumps(kept)) > MAX_WARNINGS:
        kept.pop()
    return {"Satseg-Warnings": json.dumps(kept)} if kept else {}


def negotiated(accept: str | None, offered: Sequence[str]) -> str:
    """Return the media type that a client prefers (RFC 9110, 12.5.1); of equals, the one offered first.

    Args:
        accept: Value of the header `Accept`; anything by default.
        offered: Available media types.

    Raises:
        NotAcceptableError: If the client accepts none of these.
    """
    ranges = [_range(part) for part in (accept or "*/*").split(",") if part.strip()]
    best = max(offered, key=lambda media: _quality(media, ranges))  # the first of equals
    if _quality(best, ranges) <= 0:
        raise NotAcceptableError(f"The response can be {', '.join(offered)}; set the header Accept to one of these.")
    return best


def _range(part: str) -> tuple[str, float]:
    media, *parameters = (piece.strip().lower() for piece in part.split(";"))
    weights = [value for name, _, value in (p.partition("=") for p in parameters) if name.strip() == "q"]
    try:
        return media, float(weights[0]) if weights else 1.0
    except ValueError:
        return media, 0.0


def _quality(media: str, ranges: Sequence[tuple[str, float]]) -> float:
    """Return the weight of the most specific matching range."""
    names = (media, f"{media.partition('/')[0]}/*", "*/*")
    return next((weight for name in names for found, weight in ranges if found == name), 0.0)
