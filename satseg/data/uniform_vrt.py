"""The VRT that shows a raster whose bands differ in dtype, nodata or mask as one whose bands are alike."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np

from satseg.data.missing import Marks, can_hold
from satseg.data.stack_vrt import add, add_band, add_mask, add_place, gdal_name


def are_alike(source: Any, values: Sequence[float | None]) -> bool:
    """Tell whether all bands of an open raster have one dtype, one nodata value and one mask."""
    marks = Marks.of(source)
    return len(set(marks.dtypes)) == 1 and len(set(map(repr, values))) == 1 and not marks.own_masks


def uniform_vrt(source: Any, path: Path | str, values: Mapping[int, float | None]) -> str:
    """Return the VRT of a raster with numbers in floats, NaN where a band has its nodata value, and one mask of all.

    Args:
        source: The open raster.
        path: Its file or URL.
        values: The nodata value of each band that will be read, by its one-based number. Masks of other bands are left
            out, and where an alpha band is among them it is data, and marks nothing.
    """
    marks = Marks.of(source)
    alpha = () if set(marks.alpha) & values.keys() else marks.alpha
    dtype = str(np.result_type(np.float32, *marks.dtypes))
    root = ET.Element("VRTDataset", rasterXSize=str(source.width), rasterYSize=str(source.height))
    add_place(root, source.crs.to_wkt() if source.crs else None, source.transform)
    for number in source.indexes:
        value, is_alpha = values.get(number), number in alpha
        band = add_band(root, number, source.descriptions[number - 1] or "", dtype, None if is_alpha else math.nan)
        if is_alpha:
            add(band, "ColorInterp", "Alpha")
        held = value is not None and not is_alpha and can_hold(marks.dtypes[number - 1], value)
        _add_part(band, path, str(number), repr(value) if held else None)
    masked = [*source.indexes[: int(marks.shared_mask)], *(n for n in marks.own_masks if n in values)]
    if masked:
        mask = add_mask(root, len(masked))
        for number in masked:
            _add_part(mask, path, f"mask,{number}", None)
    return ET.tostring(root, encoding="unicode")


def _add_part(band: ET.Element, path: Path | str, number: str, nodata: str | None) -> None:
    element = add(band, "SimpleSource" if nodata is None else "ComplexSource")
    add(element, "SourceFilename", gdal_name(path), relativeToVRT="0")
    add(element, "SourceBand", number)
    if nodata is not None:
        add(element, "NODATA", nodata)
