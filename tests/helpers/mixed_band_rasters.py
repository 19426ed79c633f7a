"""Rasters whose bands differ in what marks missing pixels, or in their dtype, written without satseg."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import rasterio
from georeferenced_rasters import at, write
from rasterio.enums import ColorInterp

SIDE = 64
FIRST, SECOND = np.zeros((SIDE, SIDE), bool), np.zeros((SIDE, SIDE), bool)
FIRST[:20], SECOND[:, 44:] = True, True  # what one band lacks, and another


class Uneven(NamedTuple):
    """A raster of three bands of data, and what must be read of it."""

    path: Path
    image: np.ndarray
    missing: np.ndarray


def numbers(dtype: str = "uint16") -> np.ndarray:
    return np.random.default_rng(4).integers(50, 200, (3, SIDE, SIDE)).astype(dtype)


def vrt(path: Path, files: Sequence[Path], masked: Sequence[int] = ()) -> Path:
    """Put bands together as `gdalbuildvrt -separate` does, with masks of their own for some of them."""
    place = rasterio.open(files[0])
    bands = ""
    for number, file in enumerate(files, 1):
        with rasterio.open(file) as source:
            kind = {"uint8": "Byte", "uint16": "UInt16", "float32": "Float32"}[source.dtypes[0]]
            missing = "" if source.nodata is None else f"<NoDataValue>{source.nodata}</NoDataValue>"
        name = f'<SourceFilename relativeToVRT="1">{file.name}</SourceFilename>'
        mask = f"<SimpleSource>{name}<SourceBand>mask,1</SourceBand></SimpleSource>"
        mask = f'<MaskBand><VRTRasterBand dataType="Byte">{mask}</VRTRasterBand></MaskBand>' if number in masked else ""
        part = f"<SimpleSource>{name}<SourceBand>1</SourceBand></SimpleSource>"
        bands += f'<VRTRasterBand dataType="{kind}" band="{number}">{missing}{part}{mask}</VRTRasterBand>'
    numbers = ", ".join(map(str, place.transform.to_gdal()))
    path.write_text(
        f'<VRTDataset rasterXSize="{SIDE}" rasterYSize="{SIDE}"><SRS>{place.crs.to_wkt()}</SRS>'
        f"<GeoTransform>{numbers}</GeoTransform>{bands}</VRTDataset>"
    )
    return path


def fifth_band_alpha(folder: Path) -> Uneven:
    """Red, green, blue, near infrared, and an alpha band, of which GDAL makes no mask."""
    image, alpha = numbers("uint8"), np.where(FIRST, 0, 255).astype(np.uint8)
    image[:, FIRST] = 77
    path = write(folder / "alpha.tif", np.stack([*image, image[0], alpha]), photometric="minisblack", **at(0, 0))
    with rasterio.open(path, "r+") as file:
        file.colorinterp = [
            ColorInterp.red,
            ColorInterp.green,
            ColorInterp.blue,
            ColorInterp.undefined,
            ColorInterp.alpha,
        ]
    return Uneven(path, image, FIRST)


def two_nodata_values(folder: Path) -> Uneven:
    """A VRT whose bands declare 65535, 65000 and nothing."""
    image = numbers()
    image[0, FIRST], image[1, SECOND] = 65535, 65000
    image[1, 30, 30], image[2, 31, 31] = 65535, 65000  # numbers like any other in these bands
    given = (65535, 65000, None)
    files = [write(folder / f"n{i}.tif", band, nodata=n, **at(0, 0)) for i, (band, n) in enumerate(zip(image, given))]
    return Uneven(vrt(folder / "nodata.vrt", files), image, FIRST | SECOND)


def two_dtypes(folder: Path) -> Uneven:
    """A VRT of optical bands in uint16 and radar in float32."""
    image = numbers("float32")
    image[2] = image[2] / 100 - 20.5
    image[0, FIRST], image[2, SECOND] = 0, -9999
    image[1, FIRST] = 0
    image[0, 40, 40] = 0  # a shadow: 0 is missing only where all bands are that may be 0
    forms = (("uint16", 0), ("uint16", 0), ("float32", -9999))
    files = [
        write(folder / f"d{i}.tif", band.astype(dtype), nodata=n, **at(0, 0))
        for i, (band, (dtype, n)) in enumerate(zip(image, forms, strict=True))
    ]
    return Uneven(vrt(folder / "dtypes.vrt", files), image, FIRST | SECOND)


def masks_of_their_own(folder: Path) -> Uneven:
    """A VRT of which two bands have a mask each."""
    image, files = numbers("uint8"), []
    for number, (band, missing) in enumerate(zip(image, (FIRST, SECOND, None), strict=True)):
        files.append(write(folder / f"m{number}.tif", band, **at(0, 0)))
        if missing is not None:
            with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(files[-1], "r+") as file:
                file.write_mask(~missing)
    return Uneven(vrt(folder / "masks.vrt", files, masked=(1, 2)), image, FIRST | SECOND)


KINDS = (fifth_band_alpha, two_nodata_values, two_dtypes, masks_of_their_own)
