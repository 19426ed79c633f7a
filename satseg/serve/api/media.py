"""What an answer can be, and which of these a client takes."""

from __future__ import annotations

from collections.abc import Sequence

from satseg.errors import NotAcceptableError

TIFF, PNG, GEOJSON = "image/tiff", "image/png", "application/geo+json"
MAPS, EVIDENCE = (TIFF, PNG, GEOJSON), (PNG, TIFF)  # what answers can be; the first by default
SUFFIXES = {TIFF: ".tif", PNG: ".png", GEOJSON: ".geojson"}


def negotiated(accept: str | None, offered: Sequence[str]) -> str:
    """Return the media type that a client likes best (RFC 9110, 12.5.1); among equals the one offered first.

    Args:
        accept: Value of the header `Accept`; anything by default.
        offered: What can be had.

    Raises:
        NotAcceptableError: If none of these is taken.
    """
    ranges = [_range(part) for part in (accept or "*/*").split(",") if part.strip()]
    best = max(offered, key=lambda media: _quality(media, ranges))  # the first of equals
    if _quality(best, ranges) <= 0:
        raise NotAcceptableError(f"The answer can be {', '.join(offered)}; ask for one of these by the header Accept.")
    return best


def _range(part: str) -> tuple[str, float]:
    media, *parameters = (piece.strip().lower() for piece in part.split(";"))
    weights = [value for name, _, value in (p.partition("=") for p in parameters) if name.strip() == "q"]
    try:
        return media, float(weights[0]) if weights else 1.0
    except ValueError:
        return media, 0.0


def _quality(media: str, ranges: Sequence[tuple[str, float]]) -> float:
    """Return the weight that the most specific range gives."""
    names = (media, f"{media.partition('/')[0]}/*", "*/*")
    return next((weight for name in names for found, weight in ranges if found == name), 0.0)
