"""What the headers of images and masks tell, without reading a pixel."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from rasterio import Affine
from rasterio.crs import CRS

from satseg.data.input_spec import most_common
from satseg.data.labels.class_options import option
from satseg.data.labels.reader import is_other_grid
from satseg.data.rasters.bands import band_numbers
from satseg.data.rasters.pixel_size import size_text
from satseg.data.rasters.raster import RasterInfo
from satseg.errors import DataError
from satseg.validate.findings import Finding, Severity, count

SAME_PIXEL_SIZE = 0.01  # relative: nobody sees one per cent
SAME_PLACE = 0.5  # pixels that corners of image and mask may differ by

Pair = tuple[str, RasterInfo, str, RasterInfo]  # image file and header, mask file and header


def check_headers(pairs: Sequence[Pair], bands: Sequence[int | str] | None = None) -> list[Finding]:
    """Compare images with each other, and each with its mask.

    Args:
        pairs: Files and headers.
        bands: Numbers or names of the bands that training reads; all by default, which then must be as many everywhere.
    """
    images = [(file, info) for file, info, _, _ in pairs]
    return [
        *_sizes(pairs),
        *(
            _unlike(images, "bands", "bands", lambda i: i.count, _bands_of_all(images), Severity.ERROR)
            if bands is None
            else ()
        ),
        *(_reordered(images) if bands is None or any(isinstance(b, int) for b in bands) else ()),
        *_unlike(
            images,
            "dtype",
            "dtype",
            lambda i: i.dtype_of(band_numbers(i, bands)),
            "Convert them to one dtype, so that numbers mean the same.",
            Severity.ERROR,
        ),
        *_turned(images),
        *_without_north(images),
        *_unlike(
            images,
            "scale_tags",
            "tags of",
            lambda i: _tags(i, bands),
            "Apply the tags (gdal_translate -unscale -ot Float32): numbers are read as they are stored.",
            Severity.WARNING,
        ),
        *_remarks(images),
        *_pixel_sizes(images),
        *_places(pairs),
    ]


def _turned(images: Sequence[tuple[str, RasterInfo]]) -> list[Finding]:
    files = tuple(file for file, info in images if info.turned)
    if not files:
        return []
    message = f"{count(len(files), 'image')} stored turned, and read upright as their headers say; masks must be, too"
    return [Finding("orientation", Severity.NOTE, message, "", "", files)]


def _bands_of_all(images: Sequence[tuple[str, RasterInfo]]) -> str:
    shared = set.intersection(*(set(info.bands) for _, info in images)) if images else set()
    return f"Use the bands that all have, {option('bands', sorted(shared))}." if shared else "Give all the same bands."


def _without_north(images: Sequence[tuple[str, RasterInfo]]) -> list[Finding]:
    files = tuple(file for file, info in images if info.turned is None)
    if not files:
        return []
    message = f"{count(len(files), 'image')} that do not say which row is north: the last one stored is taken for it"
    repair = "Give them coordinates; if they are upside down, set GDAL_NETCDF_BOTTOMUP=NO in the environment."
    return [Finding("north", Severity.WARNING, message, "Images say where they lie.", repair, files)]


def _sizes(pairs: Sequence[Pair]) -> list[Finding]:
    sizes = [p for p in pairs if not _same_size(p)]
    return [*_misfits([p for p in sizes if not _are_placed(p)]), *_partial([p for p in sizes if _are_placed(p)])]


def _partial(pairs: Sequence[Pair]) -> list[Finding]:
    """Find masks of the images' pixels that are cut otherwise: by intention, or by mistake."""
    cut = [p for p in pairs if _same_crs(str(p[1].crs), str(p[3].crs)) and _edges(p[1]) == _edges(p[3])]
    if not cut:
        return []
    message = f"{len(cut)} masks have their images' pixel size but not their size, such as {cut[0][2]}"
    expected = "A mask covers its image, where pixels are the same: what it does not cover is ignored."
    repair = "Look at whether masks lie where they belong; where they do, cut images and masks alike."
    return [Finding("size", Severity.WARNING, message, expected, repair, tuple(f for p in cut for f in (p[0], p[2])))]


def _misfits(unlike: Sequence[Pair]) -> list[Finding]:
    if not unlike:
        return []
    first, image, mask_file, mask = unlike[0]
    return [
        Finding(
            "size",
            Severity.ERROR,
            f"image and mask differ in size, such as {first} with {image.width}x{image.height} pixels and {mask_file} "
            f"with {mask.width}x{mask.height}",
            "An image and its mask cover the same pixels.",
            "Cut or resample one of them.",
            tuple(file for p in unlike for file in (p[0], p[2])),
        )
    ]


def _reordered(images: Sequence[tuple[str, RasterInfo]]) -> list[Finding]:
    """Find images that have the bands of the others in another order; names that differ otherwise are only remarks."""
    usual = _usual(info.band_names for _, info in images) or ()
    same = [(file, info) for file, info in images if sorted(info.band_names) == sorted(usual)]
    repair = f"Use {option('bands', list(usual))}, or these names in the order that you want."
    return _unlike(same, "band_order", "bands in the order", lambda i: ", ".join(i.band_names), repair, Severity.ERROR)


def _unlike(
    images: Sequence[tuple[str, RasterInfo]],
    check: str,
    what: str,
    value: Callable[[RasterInfo], Any],
    repair: str,
    severity: Severity,
) -> list[Finding]:
    """Find the images whose value is not that of the most."""
    usual = _usual(value(info) for _, info in images)
    found = []
    for other in dict.fromkeys(value(info) for _, info in images if value(info) != usual):
        files = tuple(file for file, info in images if value(info) == other)
        message = f"{what} {other}, where most images have {usual}"
        found.append(Finding(check, severity, message, "All images are alike.", repair, files))
    return found


def _remarks(images: Sequence[tuple[str, RasterInfo]]) -> list[Finding]:
    """Tell of names of bands and nodata values that differ: each image is read by its own."""
    found = []
    for check, what, values in (
        ("band_names", "bands are called", [", ".join(info.band_names) for _, info in images]),
        ("nodata", "the declared nodata value is", [_number(info.nodata) for _, info in images]),
    ):
        counts = most_common(values)
        if len(counts) > 1 and (check == "nodata" or not _reordered(images)):
            (usual, most), (other, few), *_ = counts
            message = f"{what} {usual} in {count(most, 'image')}, {other} in {few:,}"
            message += f", otherwise in {len(values) - most - few:,}" if len(counts) > 2 else ""
            files = tuple(file for (file, _), value in zip(images, values, strict=True) if value != usual)
            found.append(Finding(check, Severity.NOTE, message, "", "", files))
    return found


def _number(nodata: float | None) -> str:
    return "none" if nodata is None else f"{nodata:g}"


def _tags(info: RasterInfo, bands: Sequence[int | str] | None) -> str:
    """Return in words what scale and offset a file declares of the bands in use."""
    tags = sorted(info.scale_offsets_of(band_numbers(info, bands)))
    return " or ".join(f"scale {scale:g} and offset {offset:g}" for scale, offset in tags)


def _usual(values: Iterable[Any]) -> Any:
    return next((value for value, _ in Counter(values).most_common(1)), None)


def _pixel_sizes(images: Sequence[tuple[str, RasterInfo]]) -> list[Finding]:
    sized = sorted(((file, info) for file, info in images if info.pixel_m), key=lambda image: image[1].gsd_m or 0)
    if not sized:
        return []
    usual = sized[len(sized) // 2][1]
    unlike = [(file, info) for file, info in images if info.pixel_m and not _same_pixels(info, usual)]
    if not unlike:
        return []
    sizes = sorted({size_text(info.pixel_m) for _, info in unlike if info.pixel_m})
    return [
        Finding(
            "pixel_size",
            Severity.WARNING,
            f"pixels of {', '.join(sizes[:5])} m, where most images have {size_text(usual.pixel_m or (0, 0))} m",
            "A pixel means the same on the ground everywhere.",
            "Resample them, or train on each resolution alone.",
            tuple(file for file, _ in unlike),
        )
    ]


def _same_pixels(one: RasterInfo, other: RasterInfo) -> bool:
    """Tell whether pixels are of one size on the ground, or in one CRS, whose lengths change with the latitude only."""
    sizes = [(one.pixel_m, other.pixel_m)]
    if one.crs == other.crs:
        sizes.append((_edges(one), _edges(other)))
    return any(np.allclose(a, b, rtol=SAME_PIXEL_SIZE, atol=0) for a, b in sizes if a and b)


def _edges(info: RasterInfo) -> tuple[float, float]:
    """Return the edges of a pixel in units of the CRS."""
    a, b, _, d, e, _ = info.transform or (0.0,) * 6
    return math.hypot(a, d), math.hypot(b, e)


def _places(pairs: Sequence[Pair]) -> list[Finding]:
    """Compare coordinates of image and mask."""
    other_crs = [p for p in pairs if p[1].crs and p[3].crs and not _same_crs(p[1].crs, p[3].crs)]
    comparable = [p for p in pairs if p not in other_crs and _same_size(p) and p[1].transform and p[3].transform]
    moved = [p for p in comparable if _offset(p) > SAME_PLACE]
    lacking = [p for p in pairs if p[1].crs and not p[3].crs]
    found = []
    if other_crs:
        _, image, _, mask = min(other_crs, key=lambda p: not _are_apart(p))
        words = f"image and mask have different CRS, such as {_crs_name(image.crs)} and {_crs_name(mask.crs)}"
        apart = [p for p in other_crs if _are_apart(p)]
        if apart:
            repair = "Give each file the CRS that its coordinates are in."
            found.append(_place_finding("crs", Severity.ERROR, f"{words}, and lie in different places", repair, apart))
        else:
            warped = f"{words}: the masks are warped onto the images on reading"
            found.append(_place_finding("crs", Severity.NOTE, warped, "", other_crs))
    if moved:
        far = max(_offset(p) for p in moved)
        words = f"image and mask of one size lie at different places by their geotransforms, up to {far:.4g} pixels "
        words += "apart: the masks are moved on reading, and what they do not cover is ignored"
        repair = "Look at which of the two is right; where it is the pixels, give both the same geotransform."
        found.append(_place_finding("geotransform", Severity.ERROR, words, repair, moved))
    if lacking:
        words = f"{len(lacking)} masks of georeferenced images have no CRS: they are taken pixel by pixel"
        found.append(_place_finding("mask_without_crs", Severity.NOTE, words, "", lacking))
    return found


def _place_finding(check: str, severity: Severity, message: str, repair: str, pairs: Sequence[Pair]) -> Finding:
    files = tuple(p[2] for p in pairs)
    return Finding(check, severity, message, "An image and its mask have the same CRS and geotransform.", repair, files)


def _same_crs(one: str, other: str) -> bool:
    return one == other or bool(CRS.from_wkt(one) == CRS.from_wkt(other))


def _crs_name(wkt: str | None) -> str:
    crs = CRS.from_wkt(wkt)
    return f"EPSG:{crs.to_epsg()}" if crs.to_epsg() else str(wkt)[:40]


def _same_size(pair: Pair) -> bool:
    return (pair[1].width, pair[1].height) == (pair[3].width, pair[3].height)


def _are_apart(pair: Pair) -> bool:
    try:
        is_other_grid(pair[3], pair[1])
    except DataError:
        return True
    return False


def _are_placed(pair: Pair) -> bool:
    """Tell whether image and mask both say where they lie, so that one can be warped onto the other."""
    return all(info.crs is not None and info.transform is not None for info in (pair[1], pair[3]))


def _offset(pair: Pair) -> float:
    """Return how many pixels the corners of image and mask lie apart, at most."""
    _, image, _, mask = pair
    here, there = Affine(*(image.transform or ())), Affine(*(mask.transform or ()))
    corners = [(x, y) for x in (0, image.width) for y in (0, image.height)]
    return float(max(math.dist(here @ corner, there @ corner) for corner in corners) / math.sqrt(abs(here.determinant)))
