"""Selection of bands by number or by name."""

from __future__ import annotations

from collections.abc import Sequence

from satseg.data.rasters.header import RasterInfo
from satseg.data.rasters.opening import redacted
from satseg.errors import BandError


def band_numbers(info: RasterInfo, wanted: Sequence[int | str] | None) -> tuple[int, ...]:
    """Return the one-based numbers of bands that are given by number or name, in the given order.

    Args:
        info: The file's header.
        wanted: Numbers and names; all bands but alpha by default.

    Raises:
        BandError: If there is no such band, or more than one of that name.
    """
    if wanted is None:
        return info.bands
    return tuple(_number(info, band) for band in wanted)


def bands_by_name(info: RasterInfo, names: Sequence[str]) -> tuple[int, ...] | None:
    """Return the one-based numbers of bands by name, or None if any is missing or ambiguous."""
    if any(info.band_names.count(name) != 1 for name in names):
        return None
    return tuple(info.band_names.index(name) + 1 for name in names)


def _number(info: RasterInfo, band: int | str) -> int:
    if isinstance(band, int):
        if not 1 <= band <= len(info.band_names):
            raise BandError(
                f"{redacted(info.path)} has no band {band}, only 1 to {len(info.band_names)}; set dataset.bands to "
                "some of these."
            )
        return band
    if info.band_names.count(band) != 1:
        raise BandError(
            f"{redacted(info.path)} has {info.band_names.count(band) or 'no'} bands named {band}, only "
            f"{', '.join(info.band_names)}; set dataset.bands to some of these, or to numbers."
        )
    return info.band_names.index(band) + 1
