"""Rasters whose bands differ in nodata, mask or dtype, written with rasterio."""

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
FIRST[:20], SECOND[:, 44:] = True, True  # pixels missing in one band, and in another


class MixedRaster(NamedTuple):
    """A raster with three bands of data, its expected pixel values, and its missing pixels."""

    path: Path
    image: np.ndarray
    missing: np.ndarray


def numbers(dtype: str = "uint16") -> np.ndarray:
    return np.random.default_rng(4).integers(50, 200, (3, SIDE, SIDE)).astype(dtype)


def vrt(path: Path, files: Sequence[Path], masked: Sequence[int] = ()) -> Path:
    """Stack bands as `gdalbuildvrt -separate` does, with mask bands for the numbers in `masked`."""
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


def fifth_band_alpha(folder: Path) -> MixedRaster:
    """Write four bands of data and a fifth of alpha, which GDAL does not use as a mask."""
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
    return MixedRaster(path, image, FIRST)


def signed_alpha(folder: Path) -> MixedRaster:
    """Write an int16 image with an alpha band that is negative or 0 where a pixel is missing."""
    image, alpha = numbers("int16"), np.where(FIRST, -32768, 32767).astype(np.int16)
    image[:, FIRST], alpha[SECOND] = 77, 0
    path = write(folder / "alpha.tif", np.stack([*image, alpha]), photometric="rgb", alpha="yes", **at(0, 0))
    return MixedRaster(path, image, FIRST | SECOND)


def two_nodata_values(folder: Path) -> MixedRaster:
    """Write a VRT whose bands have the nodata values 65535, 65000 and none."""
    image = numbers()
    image[0, FIRST], image[1, SECOND] = 65535, 65000
    image[1, 30, 30], image[2, 31, 31] = 65535, 65000  # ordinary values in these bands
    given = (65535, 65000, None)
    files = [write(folder / f"n{i}.tif", band, nodata=n, **at(0, 0)) for i, (band, n) in enumerate(zip(image, given))]
    return MixedRaster(vrt(folder / "nodata.vrt", files), image, FIRST | SECOND)


def two_dtypes(folder: Path) -> MixedRaster:
    """Write a VRT of optical bands in uint16 and radar in float32."""
    image = numbers("float32")
    image[2] = image[2] / 100 - 20.5
    image[0, FIRST], image[2, SECOND] = 0, -9999
    image[1, FIRST] = 0
    image[0, 40, 40] = 0  # a shadow: 0 is missing only if all optical bands are 0
    forms = (("uint16", 0), ("uint16", 0), ("float32", -9999))
    files = [
        write(folder / f"d{i}.tif", band.astype(dtype), nodata=n, **at(0, 0))
        for i, (band, (dtype, n)) in enumerate(zip(image, forms, strict=True))
    ]
    return MixedRaster(vrt(folder / "dtypes.vrt", files), image, FIRST | SECOND)


def masks_per_band(folder: Path) -> MixedRaster:
    """Write a VRT of which two bands have a mask of their own."""
    image, files = numbers("uint8"), []
    for number, (band, missing) in enumerate(zip(image, (FIRST, SECOND, None), strict=True)):
        files.append(write(folder / f"m{number}.tif", band, **at(0, 0)))
        if missing is not None:
            with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(files[-1], "r+") as file:
                file.write_mask(~missing)
    return MixedRaster(vrt(folder / "masks.vrt", files, masked=(1, 2)), image, FIRST | SECOND)


KINDS = (fifth_band_alpha, signed_alpha, two_nodata_values, two_dtypes, masks_per_band)
