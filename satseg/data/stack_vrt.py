"""The VRT that shows bands of separate files as one raster, on the grid of the finest."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree as ET

from rasterio import Affine
from rasterio.dtypes import dtype_rev, typename_fwd

from satseg.data.opening import is_remote
from satseg.data.raster import RasterInfo, read_info
from satseg.data.stack_grid import EXACT, Placement, common_dtype, common_nodata, finest, place

BLOCK = 512  # a coarse band is resampled in blocks of a fixed grid, so that no value depends on the window read
Rectangle = tuple[float, float, float, float]  # column, row, width, height


class Missing(NamedTuple):
    """The nodata value of a file, and the one of all bands; None where there is none."""

    own: float | None
    shared: float | None

    @property
    def is_changed(self) -> bool:
        """Whether the file's own value is another one."""
        return self.own is not None and repr(self.own) != repr(self.shared)


NOTHING = Missing(None, None)


def stack_vrt(files: Mapping[str, Path | str], nodata: float | None = None) -> str:
    """Return the VRT of bands in separate files.

    Coarser bands are resampled bilinearly from their valid pixels; a pixel that lies in a missing one is nodata.
    Numbers get the dtype that holds those of all files, and the files' nodata values become one.

    Args:
        files: File or URL by band, of one band each; they cover the same area in one CRS.
        nodata: The value that marks a missing pixel; the files' own by default.

    Raises:
        RasterReadError: If a file cannot be read.
        DataError: If the files do not fit together; names both.
    """
    infos = {band: read_info(file) for band, file in files.items()}
    grid, dtype = finest(list(infos.values())), common_dtype(list(infos.values()))
    shared = common_nodata(list(infos.values()), dtype) if nodata is None else nodata
    root = ET.Element("VRTDataset", rasterXSize=str(grid.width), rasterYSize=str(grid.height))
    if grid.crs:
        _add(root, "SRS", grid.crs)
    if grid.transform:
        a, b, c, d, e, f = grid.transform
        _add(root, "GeoTransform", _numbers((c, a, b, f, d, e)))
    for number, (band, info) in enumerate(infos.items(), 1):
        own = info.nodata if nodata is None else nodata
        _add_band(_band(root, number, band, dtype, shared), info, grid, Missing(own, shared), dtype)
    if grid.masked:
        mask = _add(_add(root, "MaskBand"), "VRTRasterBand", dataType="Byte")
        _add_source(mask, grid, f"mask,{grid.bands[0]}")
    ET.indent(root)
    return ET.tostring(root, encoding="unicode") + "\n"


def _band(root: ET.Element, number: int, name: str, dtype: str, nodata: float | None) -> ET.Element:
    band = _add(root, "VRTRasterBand", dataType=_type_name(dtype), band=str(number))
    _add(band, "Description", name)
    if nodata is not None:
        _add(band, "NoDataValue", repr(nodata))
    return band


def _add_band(band: ET.Element, info: RasterInfo, grid: RasterInfo, missing: Missing, dtype: str) -> None:
    placement = place(info, grid)
    off = placement.overhang(info, grid)
    if (info.width, info.height) == (grid.width, grid.height) and max(map(abs, off)) < EXACT:
        _add_source(band, info, str(info.bands[0]), missing=missing)
        return
    warped = _add(band, "SimpleSource")
    _add(warped, "SourceFilename", _warped(info, grid, placement, missing, dtype), relativeToVRT="0")
    _add(warped, "SourceBand", "1")
    for source, target in _edges(info, grid, off):
        _add_source(band, info, str(info.bands[0]), source, target, missing)


def _edges(info: RasterInfo, grid: RasterInfo, off: Sequence[float]) -> list[tuple[Rectangle, Rectangle]]:
    """Return which of a file's pixels fill the edges of the grid that it does not reach."""
    left, top, right, bottom = (max(0, math.floor(0.5 - o + EXACT)) for o in off)  # a centre on the edge is outside
    width, height = grid.width, grid.height
    edges = [
        ((0, 0, info.width, 1), (0, 0, width, top)),
        ((0, info.height - 1, info.width, 1), (0, height - bottom, width, bottom)),
        ((0, 0, 1, info.height), (0, 0, left, height)),
        ((info.width - 1, 0, 1, info.height), (width - right, 0, right, height)),
    ]
    return [(source, target) for source, target in edges if target[2] and target[3]]


def _warped(info: RasterInfo, grid: RasterInfo, placement: Placement, missing: Missing, dtype: str) -> str:
    root = ET.Element(
        "VRTDataset", rasterXSize=str(grid.width), rasterYSize=str(grid.height), subClass="VRTWarpedDataset"
    )
    band = _add(root, "VRTRasterBand", dataType=_type_name(dtype), band="1", subClass="VRTWarpedRasterBand")
    _add(root, "BlockXSize", str(min(BLOCK, grid.width)))
    _add(root, "BlockYSize", str(min(BLOCK, grid.height)))
    options = _add(root, "GDALWarpOptions")
    _add(options, "ResampleAlg", "Bilinear")
    _add(options, "WorkingDataType", _type_name(dtype))
    _add(options, "Option", "0" if missing.shared is None else "NO_DATA", name="INIT_DEST")
    _add(options, "SourceDataset", _gdal_name(info.path), relativeToVRT="0")
    transformer = _add(_add(options, "Transformer"), "GenImgProjTransformer")
    for name, affine in (
        ("Src", Affine(placement.width, 0, placement.x, 0, placement.height, placement.y)),
        ("Dst", Affine.identity()),
    ):
        _add(transformer, f"{name}GeoTransform", _numbers(affine.to_gdal()))
        _add(transformer, f"{name}InvGeoTransform", _numbers((~affine).to_gdal()))
    mapping = _add(_add(options, "BandList"), "BandMapping", src=str(info.bands[0]), dst="1")
    if missing.shared is not None:
        _add(band, "NoDataValue", repr(missing.shared))
    for name, value in (("Src", missing.own), ("Dst", missing.shared)):
        if value is not None:
            _add(mapping, f"{name}NoDataReal", repr(value))
            _add(mapping, f"{name}NoDataImag", "0")
    return ET.tostring(root, encoding="unicode")


def _add_source(
    band: ET.Element,
    info: RasterInfo,
    number: str,
    source: Rectangle | None = None,
    target: Rectangle | None = None,
    missing: Missing = NOTHING,
) -> None:
    element = _add(band, "ComplexSource" if missing.is_changed else "SimpleSource")
    _add(element, "SourceFilename", _gdal_name(info.path), relativeToVRT="0")
    _add(element, "SourceBand", number)
    _add(
        element,
        "SourceProperties",
        RasterXSize=str(info.width),
        RasterYSize=str(info.height),
        DataType=_type_name(info.dtype),
    )
    for name, rectangle in (("SrcRect", source), ("DstRect", target)):
        if rectangle is not None:
            keys = ("xOff", "yOff", "xSize", "ySize")
            _add(element, name, **{key: str(n) for key, n in zip(keys, rectangle, strict=True)})
    if missing.is_changed:
        _add(element, "NODATA", repr(missing.own))  # left out, so that the band's own value stays


def _type_name(dtype: str) -> str:
    return str(typename_fwd[dtype_rev[dtype]])


def _gdal_name(path: Path | str) -> str:
    """Return what GDAL calls a file or URL."""
    if not is_remote(path):
        return str(Path(path).absolute())
    scheme, _, rest = str(path).partition("://")
    return {"s3": f"/vsis3/{rest}", "gs": f"/vsigs/{rest}"}.get(scheme, f"/vsicurl/{path}")


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(map(repr, map(float, values)))


def _add(parent: ET.Element, tag: str, text: str | None = None, /, **attributes: str) -> ET.Element:
    element = ET.SubElement(parent, tag, attributes)
    element.text = text
    return element
