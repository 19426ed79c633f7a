"""VRTs that combine bands of separate files into one raster on the finest grid."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree as ET

import numpy as np
from rasterio import Affine
from rasterio.dtypes import dtype_rev, typename_fwd

from satseg.data.rasters.header import RasterInfo, read_info
from satseg.data.rasters.opening import is_remote
from satseg.data.rasters.stack_grid import EXACT, Placement, band_nodata_values, common_dtype, finest_grid, locate

BLOCK = 512  # coarse bands are resampled in fixed blocks, so that values do not depend on the window read
Rectangle = tuple[float, float, float, float]  # column, row, width, height


class NodataPair(NamedTuple):
    """Nodata values of a file and of its band in the stack; None if there is none."""

    source: float | None
    target: float | None

    @property
    def is_changed(self) -> bool:
        """Whether the file's own value differs from that of the band."""
        return self.source is not None and repr(self.source) != repr(self.target)


NO_NODATA = NodataPair(None, None)


def stack_vrt(files: Mapping[str, Path | str], nodata: float | None = None, default_nodata: float | None = None) -> str:
    """Return the VRT of bands in separate files.

    Coarser bands are resampled bilinearly from their valid pixels; a pixel within a missing one is nodata. The dtype
    holds the numbers of all files, and their masks become one; see `band_nodata_values`.

    Args:
        files: Single-band file or URL by band; they cover the same area in one CRS.
        nodata: Value of missing pixels; the files' own by default.
        default_nodata: Value of missing pixels if no file declares one.

    Raises:
        RasterReadError: If a file cannot be read.
        DataError: If the files do not fit together; names both.
    """
    infos = {band: read_info(file) for band, file in files.items()}
    grid, dtype = finest_grid(list(infos.values())), common_dtype(list(infos.values()))
    if nodata is None and all(info.nodata is None for info in infos.values()):
        nodata = default_nodata
    values: Sequence[float | None] = [nodata] * len(infos)
    if nodata is None:
        values = band_nodata_values(list(infos.values()), dtype)
    root = ET.Element("VRTDataset", rasterXSize=str(grid.width), rasterYSize=str(grid.height))
    add_georeferencing(root, grid.crs, grid.transform)
    for number, ((band, info), value) in enumerate(zip(infos.items(), values, strict=True), 1):
        own = info.nodata if nodata is None else nodata
        _fill_band(add_band(root, number, band, dtype, value), info, grid, NodataPair(own, value), dtype)
    if masked := [info for info in infos.values() if info.validity.is_masked]:
        _add_mask(root, masked, grid)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode") + "\n"


def add_georeferencing(root: ET.Element, crs: str | None, transform: Sequence[float] | None) -> None:
    """Add the georeference of a raster, if any: its CRS as WKT and the six numbers of its geotransform."""
    if crs:
        add(root, "SRS", crs)
    if transform:
        add(root, "GeoTransform", _numbers(Affine(*transform).to_gdal()))


def add_band(root: ET.Element, number: int, name: str, dtype: str, nodata: float | None) -> ET.Element:
    """Add a band without sources, and return it."""
    band = add(root, "VRTRasterBand", dataType=type_name(dtype), band=str(number))
    add(band, "Description", name)
    if nodata is not None:
        # Integers in full: GDAL cannot read large ones with an exponent.
        is_whole = np.issubdtype(dtype, np.integer) and nodata == nodata // 1
        add(band, "NoDataValue", str(int(nodata)) if is_whole else repr(nodata))
    return band


def _fill_band(band: ET.Element, info: RasterInfo, grid: RasterInfo, missing: NodataPair, dtype: str) -> None:
    _add_scale_offset(band, info)
    placement = locate(info, grid)
    off = placement.overhang(info, grid)
    if (info.width, info.height) == (grid.width, grid.height) and max(map(abs, off)) < EXACT:
        _add_source(band, info, str(info.bands[0]), missing=missing)
        return
    warped = add(band, "SimpleSource")
    add(warped, "SourceFilename", _warped(info, grid, placement, missing, dtype), relativeToVRT="0")
    add(warped, "SourceBand", "1")
    for source, target in _edges(info, grid, off):
        _add_source(band, info, str(info.bands[0]), source, target, missing)


def _add_mask(root: ET.Element, masked: Sequence[RasterInfo], grid: RasterInfo) -> None:
    """Add the mask of all bands, the product of the masks of some files."""
    mask = add_mask(root, len(masked))
    for info in masked:
        source = add(mask, "SimpleSource")
        add(source, "SourceFilename", _mask(info, grid), relativeToVRT="0")
        add(source, "SourceBand", "1")


def add_mask(root: ET.Element, count: int) -> ET.Element:
    """Add a mask of all bands for a number of sources; a pixel missing in one of them is missing."""
    mask = add(add(root, "MaskBand"), "VRTRasterBand", dataType="Byte")
    if count > 1:  # with a single factor GDAL returns zeros
        mask.set("subClass", "VRTDerivedRasterBand")
        add(mask, "PixelFunctionType", "mul")
    return mask


def _mask(info: RasterInfo, grid: RasterInfo) -> str:
    """Return the VRT of a file's mask on the grid, by nearest neighbour."""
    root = ET.Element("VRTDataset", rasterXSize=str(grid.width), rasterYSize=str(grid.height))
    band = add(root, "VRTRasterBand", dataType="Byte", band="1")
    placement, number = locate(info, grid), f"mask,{info.bands[0]}"
    target = placement.x, placement.y, placement.width * info.width, placement.height * info.height
    parts = [((0, 0, info.width, info.height), target), *_edges(info, grid, placement.overhang(info, grid))]
    for source, there in parts:
        _add_source(band, info, number, source, there)
    return ET.tostring(root, encoding="unicode")


def _add_scale_offset(band: ET.Element, info: RasterInfo) -> None:
    """Copy the scale and offset of a file, which are reported but not applied."""
    for scale, offset in info.scale_offsets_of(info.bands) - {(1.0, 0.0)}:
        add(band, "Offset", repr(offset))
        add(band, "Scale", repr(scale))


def _edges(info: RasterInfo, grid: RasterInfo, off: Sequence[float]) -> list[tuple[Rectangle, Rectangle]]:
    """Return the border pixels of a file, and the edges of the grid beyond the file that they fill."""
    left, top, right, bottom = (max(0, math.floor(0.5 - o + EXACT)) for o in off)  # a centre on the edge is outside
    width, height = grid.width, grid.height
    edges = [
        ((0, 0, info.width, 1), (0, 0, width, top)),
        ((0, info.height - 1, info.width, 1), (0, height - bottom, width, bottom)),
        ((0, 0, 1, info.height), (0, 0, left, height)),
        ((info.width - 1, 0, 1, info.height), (width - right, 0, right, height)),
    ]
    return [(source, target) for source, target in edges if target[2] and target[3]]


def _warped(info: RasterInfo, grid: RasterInfo, placement: Placement, missing: NodataPair, dtype: str) -> str:
    root = ET.Element(
        "VRTDataset", rasterXSize=str(grid.width), rasterYSize=str(grid.height), subClass="VRTWarpedDataset"
    )
    band = add(root, "VRTRasterBand", dataType=type_name(dtype), band="1", subClass="VRTWarpedRasterBand")
    add(root, "BlockXSize", str(min(BLOCK, grid.width)))
    add(root, "BlockYSize", str(min(BLOCK, grid.height)))
    options = add(root, "GDALWarpOptions")
    add(options, "ResampleAlg", "Bilinear")
    add(options, "WorkingDataType", type_name(dtype))
    add(options, "Option", "0" if missing.target is None else "NO_DATA", name="INIT_DEST")
    add(options, "SourceDataset", gdal_name(info.path), relativeToVRT="0")
    transformer = add(add(options, "Transformer"), "GenImgProjTransformer")
    for name, affine in (
        ("Src", Affine(placement.width, 0, placement.x, 0, placement.height, placement.y)),
        ("Dst", Affine.identity()),
    ):
        add(transformer, f"{name}GeoTransform", _numbers(affine.to_gdal()))
        add(transformer, f"{name}InvGeoTransform", _numbers((~affine).to_gdal()))
    mapping = add(add(options, "BandList"), "BandMapping", src=str(info.bands[0]), dst="1")
    if missing.target is not None:
        add(band, "NoDataValue", repr(missing.target))
    for name, value in (("Src", missing.source), ("Dst", missing.target)):
        if value is not None:
            add(mapping, f"{name}NoDataReal", repr(value))
            add(mapping, f"{name}NoDataImag", "0")
    return ET.tostring(root, encoding="unicode")


def _add_source(
    band: ET.Element,
    info: RasterInfo,
    number: str,
    source: Rectangle | None = None,
    target: Rectangle | None = None,
    missing: NodataPair = NO_NODATA,
) -> None:
    element = add(band, "ComplexSource" if missing.is_changed else "SimpleSource")
    add(element, "SourceFilename", gdal_name(info.path), relativeToVRT="0")
    add(element, "SourceBand", number)
    add(
        element,
        "SourceProperties",
        RasterXSize=str(info.width),
        RasterYSize=str(info.height),
        DataType=type_name(info.dtype),
    )
    for name, rectangle in (("SrcRect", source), ("DstRect", target)):
        if rectangle is not None:
            keys = ("xOff", "yOff", "xSize", "ySize")
            add(element, name, **{key: str(n) for key, n in zip(keys, rectangle, strict=True)})
    if missing.is_changed:
        add(element, "NODATA", repr(missing.source))  # skipped by GDAL, so that the band's own value remains


def type_name(dtype: str) -> str:
    """Return GDAL's name of a NumPy dtype."""
    return str(typename_fwd[dtype_rev[dtype]])


def gdal_name(path: Path | str) -> str:
    """Return GDAL's name of a file or URL."""
    if not is_remote(path):
        return str(Path(path).absolute())
    scheme, _, rest = str(path).partition("://")
    return {"s3": f"/vsis3/{rest}", "gs": f"/vsigs/{rest}"}.get(scheme, f"/vsicurl/{path}")


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(map(repr, map(float, values)))


def add(parent: ET.Element, tag: str, text: str | None = None, /, **attributes: str) -> ET.Element:
    """Add an element, and return it."""
    element = ET.SubElement(parent, tag, attributes)
    element.text = text
    return element
