"""VRTs that give a raster a single dtype, and a single mask of all missing pixels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np

from satseg.data.rasters.stack_vrt import add, add_band, add_georeferencing, add_mask, gdal_name
from satseg.data.rasters.validity import Validity, can_hold
from satseg.spec import is_nodata_per_band


def uniform_vrt(source: Any, path: Path | str, values: Mapping[int, float | None]) -> str:
    """Return a VRT of a raster with one dtype, no nodata value, and one mask that equals `Validity.valid_pixels`.

    GDAL's warper honours either a mask or nodata values, and cannot combine several of them.

    Args:
        source: The open raster.
        path: Its file or URL.
        values: Nodata value of each band to be read, by its one-based number. Masks of other bands are left out; an
            alpha band among them is data and masks nothing.
    """
    validity = Validity.of(source)
    dtype = str(np.result_type(*(validity.dtypes[number - 1] for number in values)))
    root = _dataset(source)
    for number in source.indexes:
        _add_source(add_band(root, number, source.descriptions[number - 1] or "", dtype, None), path, str(number))
    factors = [(path, f"mask,{number}") for number in _masked(validity, values)]
    factors += [(vrt, "1") for vrt in _validities(source, path, validity, values)]
    if factors:
        mask = add_mask(root, len(factors))
        for name, number in factors:
            _add_source(mask, name, number)
    return ET.tostring(root, encoding="unicode")


def _masked(validity: Validity, values: Mapping[int, float | None]) -> list[int]:
    """Return the numbers of the bands whose masks apply."""
    shared = [next(iter(values))] if validity.shared_mask else []
    return [*shared, *(number for number in validity.own_masks if number in values)]


def _validities(source: Any, path: Path | str, validity: Validity, values: Mapping[int, float | None]) -> list[str]:
    """Return single-band VRTs that are 0 where a pixel is missing by its value."""
    found: list[str] = []
    together: list[str] = []
    for number, value in values.items():
        dtype = validity.dtypes[number - 1]
        if np.issubdtype(dtype, np.floating):
            found.append(_zero_where_equal(source, path, number, math.nan))
        if value is not None and can_hold(dtype, value):
            (found if is_nodata_per_band(value, dtype) else together).append(
                _zero_where_equal(source, path, number, value)
            )
    if together:
        found.append(_zero_where_all_zero(source, together))
    alpha = () if set(validity.alpha) & values.keys() else validity.alpha
    return found + [_zero_unless_positive(source, path, number) for number in alpha]


def _zero_where_equal(source: Any, path: Path | str, number: int, value: float) -> str:
    """Return a single-band VRT that is 0 where a band of the raster has a value, and 255 elsewhere."""
    inner, outer = _dataset(source), _dataset(source)
    _add_source(add_band(inner, 1, "", source.dtypes[number - 1], value), path, str(number))
    _add_source(
        add(outer, "VRTRasterBand", dataType="Byte", band="1"), ET.tostring(inner, encoding="unicode"), "mask,1"
    )
    return ET.tostring(outer, encoding="unicode")


def _zero_unless_positive(source: Any, path: Path | str, number: int) -> str:
    """Return a single-band VRT that is 0 where a band of the raster is 0 or less, and 255 elsewhere."""
    root = _dataset(source)
    band = add(root, "VRTRasterBand", dataType="Byte", band="1")
    _add_source(band, path, str(number), table="0:0,1e-30:255")  # values beyond either end take that end's value
    return ET.tostring(root, encoding="unicode")


def _zero_where_all_zero(source: Any, vrts: list[str]) -> str:
    """Return a single-band VRT that is 0 where all given ones are."""
    if len(vrts) == 1:
        return vrts[0]
    root = _dataset(source)
    band = add(root, "VRTRasterBand", dataType="Byte", band="1", subClass="VRTDerivedRasterBand")
    add(band, "PixelFunctionType", "sum")  # saturates at 255
    for vrt in vrts:
        _add_source(band, vrt, "1")
    return ET.tostring(root, encoding="unicode")


def _dataset(source: Any) -> ET.Element:
    root = ET.Element("VRTDataset", rasterXSize=str(source.width), rasterYSize=str(source.height))
    add_georeferencing(root, source.crs.to_wkt() if source.crs else None, source.transform)
    return root


def _add_source(band: ET.Element, name: Path | str, number: str, table: str | None = None) -> None:
    element = add(band, "ComplexSource" if table else "SimpleSource")
    is_vrt = isinstance(name, str) and name.startswith("<")
    add(element, "SourceFilename", str(name) if is_vrt else gdal_name(name), relativeToVRT="0")
    add(element, "SourceBand", number)
    if table:
        add(element, "LUT", table)
