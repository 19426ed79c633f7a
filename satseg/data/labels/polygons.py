"""Polygon labels, rasterized once onto the pixel grid of each image and cached as masks."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import rasterio
from rasterio import CRS, Affine
from rasterio.errors import RasterioError
from rasterio.features import rasterize

from satseg.data.labels.discovery import ClassScheme
from satseg.data.labels.polygon_classes import ClassOptions, PolygonClasses
from satseg.data.labels.vectors import PolygonParts, VectorLayer, read_layer
from satseg.data.rasters.header import RasterInfo, Window, read_info, window_transform
from satseg.data.rasters.opening import quiet, reason
from satseg.data.reprojection import Bounds
from satseg.data.samples import FileGuard, Sample
from satseg.errors import DataError, ResourceError
from satseg.files import atomic_path, cache_folder, write_text
from satseg.spec import IGNORE_INDEX

logger = logging.getLogger(__name__)

VERSION = 2  # of the cached files; a new one rasterizes them again
STRIP_PIXELS = 2**26  # rasterized at a time
IRREGULAR = {
    "invalid": "cross or overlap themselves: areas that an outline encloses twice are not drawn; overlapping parts are "
    "drawn whole (repair them if that is not intended)",
    "mixed": "hold lines or points as well as polygons, and these are left out",
}
BLOCK = 256


@dataclass(frozen=True)
class Polygons:
    """Polygon labels of a set of samples.

    Attributes:
        layers: The polygons, by file.
        classes: Their classes.
        irregular: Numbers of rasterized features that are not simple polygons, by kind and file.
    """

    layers: Mapping[Path, VectorLayer]
    classes: PolygonClasses
    irregular: dict[tuple[str, Path], set[int]] = field(default_factory=dict, compare=False)

    @property
    def scheme(self) -> ClassScheme:
        """The classes, with their values in the rasterized masks."""
        values = {index: index for index in range(len(self.classes.names))} | {IGNORE_INDEX: IGNORE_INDEX}
        return ClassScheme(self.classes.names, self.classes.palette, values, from_polygons=True)

    def rasterize(self, samples: Iterable[Sample], guard: FileGuard = nullcontext) -> list[Sample]:
        """Return samples with masks rasterized from their polygons, from the cache if possible.

        A pixel has the class of the last polygon of the file that contains its centre.

        Args:
            samples: The samples; those whose mask is none of the layers are left out.
            guard: Context in which each file is processed.

        Raises:
            DataError: If an image has no georeference, or the polygons lie elsewhere.
            MaskValueError: If a polygon is of no class.
            ResourceError: If the cache folder cannot be written to.
        """
        given = [sample for sample in samples if sample.mask in self.layers]
        infos: dict[Path, RasterInfo] = {}
        by_file: dict[Path, list[RasterInfo]] = {}
        for sample in given:
            with guard(sample.file):
                infos[sample.image] = info = _georeferenced_info(sample.image)
                by_file.setdefault(sample.mask, []).append(info)
        placed = set()
        for file, images in by_file.items():
            with guard(file):
                self._check_location(file, images)
                placed.add(file)
        drawn = []
        for sample in given:
            if sample.image in infos and sample.mask in placed:
                with guard(sample.mask):
                    drawn.append(self._with_raster(sample, infos[sample.image]))
        return drawn

    def remarks(self) -> list[str]:
        """Return remarks about rasterized features that are not simple polygons."""
        found = []
        for kind, words in IRREGULAR.items():
            files = {file: ids for (own, file), ids in self.irregular.items() if own == kind}
            if files:
                number, more = sum(map(len, files.values())), len(files) - 1
                others = f" and {more} other files" if more else ""
                found.append(f"{number} polygons of {next(iter(files))}{others} {words}")
        return found

    def _check_location(self, file: Path, images: Sequence[RasterInfo]) -> None:
        layer = self.layers[file]
        near = [layer.may_intersect(_bounds(info), str(info.crs)) for info in images]
        if layer.bounds and not any(near):
            raise DataError(f"{images[0].path} and its labels {file} lie in different places: nothing would be drawn.")

    def _with_raster(self, sample: Sample, image: RasterInfo) -> Sample:
        layer = self.layers[sample.mask]
        states = [(str(f.absolute()), f.stat().st_size, f.stat().st_mtime_ns) for f in layer.files]
        grid = image.width, image.height, image.crs, image.transform
        key = repr((VERSION, states, layer.name, self.classes, grid))
        name = hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()[:24]
        path = cache_folder() / "labels" / name[:2] / f"{name}.tif"
        if not path.is_file():
            logger.info("Rasterizing %s onto the grid of %s", sample.mask, image.path)
            self._write(path, layer, image)
        for kind, ids in _read_irregular(path).items():
            self.irregular.setdefault((kind, sample.mask), set()).update(ids)
        return replace(sample, mask=path, label_files=layer.files)

    def _write(self, path: Path, layer: VectorLayer, image: RasterInfo) -> None:
        profile = {"driver": "GTiff", "count": 1, "dtype": "uint8", "compress": "deflate", "BIGTIFF": "IF_SAFER"}
        profile |= {"width": image.width, "height": image.height, "crs": CRS.from_wkt(image.crs)}
        profile |= {
            "tiled": True,
            "blockxsize": BLOCK,
            "blockysize": BLOCK,
            "transform": Affine(*image.transform or ()),
        }
        try:
            with atomic_path(path) as temporary, quiet(), rasterio.open(temporary, "w", **profile) as target:
                irregular: dict[str, set[int]] = {kind: set() for kind in IRREGULAR}
                for strip in _strips(image):
                    areas, drawn = self._strip(layer, image, strip)
                    target.write(drawn, 1, window=rasterio.windows.Window(*strip))
                    for kind, ids in irregular.items():
                        ids |= getattr(areas, kind)
                if any(irregular.values()):  # before the mask, whose presence marks the entry as complete
                    write_text(
                        _sidecar(path), json.dumps({kind: sorted(ids) for kind, ids in irregular.items() if ids})
                    )
        except ResourceError as error:
            raise ResourceError(f"{error} The environment's SATSEG_CACHE names another folder.") from error
        except RasterioError as error:
            raise ResourceError(f"{path} cannot be written ({reason(error)}).") from error

    def _strip(self, layer: VectorLayer, image: RasterInfo, strip: Window) -> tuple[PolygonParts, np.ndarray]:
        part = replace(image, width=strip.width, height=strip.height, transform=window_transform(image, strip))
        areas = layer.polygons(_bounds(part), str(image.crs), self.classes.attribute)
        numbers = self.classes.numbers(areas.texts, layer.path)
        size = strip.height, strip.width
        if not len(areas.shapes):
            return areas, np.full(size, self.classes.outside, np.uint8)
        drawn: np.ndarray = rasterize(
            zip(areas.shapes, numbers, strict=True),
            size,
            fill=self.classes.outside,
            transform=Affine(*part.transform or ()),
            dtype="uint8",
        )
        return areas, drawn


def _sidecar(path: Path) -> Path:
    """Return the file that lists the irregular features of a mask; most masks have none."""
    return path.with_suffix(".json")


def _read_irregular(path: Path) -> dict[str, list[int]]:
    try:
        found: dict[str, list[int]] = json.loads(_sidecar(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # missing or damaged; it only holds remarks
        return {}
    return found


def read_polygons(
    files: Iterable[Path], layer: str | None, options: ClassOptions, guard: FileGuard = nullcontext
) -> Polygons:
    """Read the layers of files and determine the classes of their polygons.

    Args:
        files: The files.
        layer: Name of the layer; required if a file has several.
        options: Class options of the dataset.
        guard: Context in which each file is processed.

    Raises:
        SatsegError: As `read_layer`, `ClassOptions.find` and `PolygonClasses.numbers`.
    """
    layers: dict[Path, VectorLayer] = {}
    texts: dict[Path, list[str]] = {}
    for file in files:
        with guard(file):
            read = read_layer(file, layer)
            texts[file] = options.texts(read)
            layers[file] = read
    if not layers:
        raise DataError("No file of polygons can be used.")
    classes = options.find(list(layers.values()), [text for found in texts.values() for text in found])
    usable = {}
    for file, read in layers.items():
        with guard(file):
            classes.numbers(texts[file], file)
            usable[file] = read
    return Polygons(usable, classes)


def _strips(image: RasterInfo) -> Iterator[Window]:
    rows = max(STRIP_PIXELS // image.width // BLOCK, 1) * BLOCK
    for row in range(0, image.height, rows):
        yield Window(0, row, image.width, min(rows, image.height - row))


def _georeferenced_info(path: Path) -> RasterInfo:
    image = read_info(path)
    if image.crs is None or image.transform is None:
        raise DataError(
            f"{path} has no coordinates, so polygons cannot be drawn on it: give it a CRS and a geotransform, or masks "
            "of its pixels."
        )
    return image


def _bounds(image: RasterInfo) -> Bounds:
    affine = Affine(*image.transform or ())
    xs, ys = zip(*(affine @ (x, y) for x in (0, image.width) for y in (0, image.height)), strict=True)
    return min(xs), min(ys), max(xs), max(ys)
