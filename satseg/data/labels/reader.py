"""Reading masks on the pixel grid of their image."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import rasterio
from rasterio import CRS, Affine
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT

from satseg.data.labels.discovery import ClassScheme
from satseg.data.rasters.header import RasterInfo, Window, read_real_info
from satseg.data.rasters.opening import OpenRasters, open_raster
from satseg.data.rasters.raster import read_image
from satseg.data.rasters.uniform_vrt import uniform_vrt
from satseg.data.rasters.validity import Validity, has_data
from satseg.data.reprojection import transform_points
from satseg.errors import DataError, SizeMismatchError

GRID_TOLERANCE = 0.5  # largest distance in pixels between corners of image and mask on the same grid
OUTSIDE_VALUE = -(2**31)  # occurs in no mask


@dataclass
class LabelReader:
    """Reader of masks on the grid of their images.

    Attributes:
        scheme: Classes of the masks' values.
        files: Open mask files.
    """

    scheme: ClassScheme
    files: OpenRasters = field(default_factory=OpenRasters, repr=False)
    _infos: dict[Path, RasterInfo] = field(default_factory=dict, repr=False)
    _warped: dict[tuple[Path, Path | str], bool] = field(default_factory=dict, repr=False)

    def is_warped(self, path: Path, image: RasterInfo) -> bool:
        """Return the result of `check`, cached per mask and image."""
        if (path, image.path) not in self._warped:
            self._warped[path, image.path] = self.check(path, image)
        return self._warped[path, image.path]

    def check(self, path: Path, image: RasterInfo) -> bool:
        """Return True if a mask lies on another grid than its image and must be warped, by the headers.

        Raises:
            SizeMismatchError: If they differ in size and one has no georeference.
            DataError: If they lie in different places.
        """
        return is_other_grid(self._info(path), image)

    def read(self, path: Path, image: RasterInfo, window: Window | None = None) -> np.ndarray:
        """Read labels as class indices.

        Args:
            path: The mask.
            image: Header of its image.
            window: Window in pixels of the image, inside it; all of it by default.

        Returns:
            uint8 array (height, width) of class indices and IGNORE_INDEX; nearest neighbour if the mask lies on
            another grid than the image.

        Raises:
            MaskValueError: If the mask holds a value of no class.
            RasterReadError: If the file cannot be read.
        """
        info = self._info(path)
        if self.is_warped(path, image):
            raw, valid = warp_labels(path, image, window or Window(0, 0, image.width, image.height))
        else:
            raw, valid = read_image(path, window, opener=self.files.open, info=info)
        return self.scheme.decode(raw, path, valid, info.palette)

    def _info(self, path: Path) -> RasterInfo:
        if path not in self._infos:
            self._infos[path] = read_real_info(path)
        return self._infos[path]


def is_other_grid(mask: RasterInfo, image: RasterInfo) -> bool:
    """Return True if a mask lies on another grid than its image and must be warped onto it.

    Raises:
        SizeMismatchError: If they differ in size and one has no georeference.
        DataError: If they lie in different places.
    """
    same_size = (image.width, image.height) == (mask.width, mask.height)
    if not (_is_placed(image) and _is_placed(mask)):
        if same_size:
            return False
        turned = " pixels (read upright, as its header says)"
        there, here = (f"{i.width}x{i.height}{turned if i.turned else ' pixels'}" for i in (image, mask))
        raise SizeMismatchError(
            f"{image.path} is {there}, but its mask {mask.path} is {here}: cut or resample one of them so that they "
            "cover the same pixels."
        )
    corners = _corners(mask, image)
    own = np.array([[0, 0], [image.width, 0], [0, image.height], [image.width, image.height]], float)
    if same_size and np.abs(corners - own).max() < GRID_TOLERANCE:
        return False
    if (corners.max(0) <= 0).any() or (corners.min(0) >= (image.width, image.height)).any():
        raise DataError(f"{image.path} and its mask {mask.path} lie in different places: no pixel would be labelled.")
    return True


def _is_placed(info: RasterInfo) -> bool:
    return info.crs is not None and info.transform is not None


def _corners(mask: RasterInfo, image: RasterInfo) -> np.ndarray:
    """Return the corners of a mask in pixels (column, row) of its image; infinite outside the projection."""
    corners = [Affine(*mask.transform or ()) @ (x, y) for y in (0, mask.height) for x in (0, mask.width)]
    if mask.crs != image.crs:
        try:
            xs, ys = transform_points(str(mask.crs), str(image.crs), *zip(*corners, strict=True))
        except DataError as error:
            raise DataError(f"{mask.path} cannot be warped onto {image.path} ({error}).") from error
        corners = list(zip(xs, ys, strict=True))
    return np.array([~Affine(*image.transform or ()) @ corner for corner in corners])


def warp_labels(path: Path, image: RasterInfo, window: Window) -> tuple[np.ndarray, np.ndarray]:
    """Read a mask (bands, h, w) warped onto the grid of an image, and its valid pixels (h, w)."""
    with ExitStack() as opened:
        source = opened.enter_context(open_raster(path))
        validity = Validity.of(source)
        bands = [n for n in source.indexes if n not in validity.alpha]
        floating = np.issubdtype(source.dtypes[0], np.floating)
        grid = {"crs": CRS.from_wkt(image.crs), "transform": Affine(*image.transform or ())}
        grid |= {"width": image.width, "height": image.height, "dtype": "float64" if floating else "int32"}
        # Nodata values stay, as they may be classes; pixels that masks and alpha bands hide do not.
        if validity.is_masked:
            source = opened.enter_context(rasterio.open(uniform_vrt(source, path, dict.fromkeys(bands))))
            grid |= {"nodata": None, "add_alpha": True}
        else:
            grid |= {"src_nodata": OUTSIDE_VALUE, "nodata": OUTSIDE_VALUE}
        warped = opened.enter_context(WarpedVRT(source, **grid, resampling=Resampling.nearest))
        part = {"window": rasterio.windows.Window(*window)}
        raw = warped.read(bands, **part)
        if validity.is_masked:
            raw[:, warped.read(warped.count, **part) == 0] = OUTSIDE_VALUE
        return raw, (raw != OUTSIDE_VALUE).all(0) & has_data(
            raw, validity.nodata_values(bands), [validity.dtypes[n - 1] for n in bands]
        )
