"""Validity of pixels by nodata values, masks and alpha bands."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rasterio.dtypes import in_dtype_range
from rasterio.enums import ColorInterp, MaskFlags

from satseg.spec import is_nodata_per_band

Values = Sequence[float | None]


@dataclass(frozen=True)
class Validity:
    """Nodata values, masks and alpha bands of a file, from its header.

    Attributes:
        nodata: Declared value by band; None if there is none.
        dtypes: Dtypes of the stored numbers, by band.
        alpha: One-based numbers of the alpha bands, in which missing pixels are 0, or negative in a signed dtype.
        shared_mask: Whether one mask applies to all bands.
        own_masks: One-based numbers of the bands with a mask of their own.
    """

    nodata: tuple[float | None, ...]
    dtypes: tuple[str, ...]
    alpha: tuple[int, ...] = ()
    shared_mask: bool = False
    own_masks: tuple[int, ...] = ()

    @classmethod
    def of(cls, source: Any) -> Validity:
        """Return the validity of an open raster."""
        flags = source.mask_flag_enums
        return cls(
            nodata=tuple(None if value is None else float(value) for value in source.nodatavals),
            dtypes=tuple(source.dtypes),
            alpha=tuple(n for n, kind in zip(source.indexes, source.colorinterp) if kind == ColorInterp.alpha),
            # GDAL treats alpha as a mask only in images of two or four bands; here it always counts.
            shared_mask=any(MaskFlags.per_dataset in kinds and MaskFlags.alpha not in kinds for kinds in flags),
            own_masks=tuple(n for n, kinds in zip(source.indexes, flags) if not kinds),
        )

    @property
    def is_masked(self) -> bool:
        """Whether anything but nodata values hides pixels."""
        return self.shared_mask or bool(self.alpha or self.own_masks)

    def nodata_values(
        self, bands: Sequence[int], nodata: float | None = None, default_nodata: float | None = None
    ) -> tuple[float | None, ...]:
        """Return the nodata values of bands.

        Args:
            bands: One-based numbers.
            nodata: The user's value, which takes precedence.
            default_nodata: Value if none of these bands declares one.
        """
        own = tuple(self.nodata[number - 1] for number in bands)
        if nodata is not None:
            return (nodata,) * len(own)
        return own if any(value is not None for value in own) else (default_nodata,) * len(own)

    def common_nodata(self, bands: Sequence[int]) -> float | None:
        """Return the nodata value that all given bands declare; None if there is none, or they differ."""
        values = self.nodata_values(bands)
        return values[0] if len({repr(value) for value in values}) == 1 else None  # by text: NaN is not itself

    def valid_pixels(
        self, source: Any, image: np.ndarray, bands: Sequence[int], values: Values, **part: Any
    ) -> np.ndarray:
        """Return the valid pixels (h, w) of an image.

        Args:
            source: The open raster, for its masks and alpha bands.
            image: Numbers as stored (bands, h, w).
            bands: Their one-based numbers; if an alpha band is among them it is data, and no alpha band is a mask.
            values: Nodata value of each; see `is_nodata_per_band`.
            part: Arguments the image was read with: `window`, `out_shape`.
        """
        usable = has_data(image, values, [self.dtypes[number - 1] for number in bands])
        if self.shared_mask:
            usable &= source.read_masks(bands[0], **part) > 0
        for number in set(self.own_masks) & set(bands):
            usable &= source.read_masks(number, **part) > 0
        if not set(self.alpha) & set(bands):
            for number in self.alpha:
                usable &= source.read(number, **part) > 0
        return usable


def has_data(image: np.ndarray, values: Values, dtypes: Sequence[str]) -> np.ndarray:
    """Return the pixels (h, w) of an image (bands, h, w) that are finite and not nodata.

    Args:
        image: Numbers, in the dtype that holds those of all bands.
        values: Nodata value of each band; see `is_nodata_per_band`.
        dtypes: Dtypes of the bands as stored.
    """
    present = np.ones(image.shape[1:], bool)
    if np.issubdtype(image.dtype, np.floating):
        present &= np.isfinite(image).all(0)
    in_all: np.ndarray | None = None
    for band, value, dtype in zip(image, values, dtypes, strict=True):
        if value is None or not can_hold(dtype, value):
            continue
        missing = band == np.dtype(dtype).type(value)
        if is_nodata_per_band(value, dtype):
            present &= ~missing
        else:
            in_all = missing if in_all is None else in_all & missing
    return present if in_all is None else present & ~in_all


def can_hold(dtype: str, value: float) -> bool:
    """Return True if a dtype can hold a value; False for NaN, which is detected without comparison."""
    if math.isnan(value):
        return False
    return np.issubdtype(dtype, np.floating) or bool(in_dtype_range(value, dtype) and value % 1 == 0)
