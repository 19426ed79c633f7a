"""Checks of the headers of images and masks, without reading a pixel."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from rasterio import Affine
from rasterio.crs import CRS

from satseg.data.input_spec import most_common
from satseg.data.labels.class_options import format_option
from satseg.data.labels.reader import is_other_grid
from satseg.data.rasters.bands import band_numbers
from satseg.data.rasters.header import RasterInfo
from satseg.data.rasters.pixel_size import size_text
from satseg.errors import DataError
from satseg.validate.findings import Finding, Severity, count

PIXEL_SIZE_TOLERANCE = 0.01  # relative: one per cent is invisible
MAX_OFFSET = 0.5  # pixels between the corners of image and mask

Pair = tuple[str, RasterInfo, str, RasterInfo]  # image file and header, mask file and header


def check_headers(pairs: Sequence[Pair], bands: Sequence[int | str] | None = None) -> list[Finding]:
    """Compare images with each other, and each with its mask.

    Args:
        pairs: Files and headers.
        bands: Numbers or names of the bands that training reads; all by default, whose number must then be the same.
    """
    images = [(file, info) for file, info, _, _ in pairs]
    return [
        *_size_differences(pairs),
        *(
            _deviations(images, "bands", "bands", lambda i: i.count, _bands_of_all(images), Severity.ERROR)
            if bands is None
            else ()
        ),
        *(_reordered(images) if bands is None or any(isinstance(b, int) for b in bands) else ()),
        *_deviations(
            images,
            "dtype",
            "dtype",
            lambda i: i.dtype_of(band_numbers(i, bands)),
            "Convert them to one dtype, so that values mean the same.",
            Severity.ERROR,
        ),
        *_reoriented(images),
        *_unknown_orientation(images),
        *_deviations(
            images,
            "scale_tags",
            "tags of",
            lambda i: _tags(i, bands),
            "Apply the tags (gdal_translate -unscale -ot Float32): values are read as stored.",
            Severity.WARNING,
        ),
        *_notes(images),
        *_pixel_sizes(images),
        *_georeferencing(pairs),
    ]


def _reoriented(images: Sequence[tuple[str, RasterInfo]]) -> list[Finding]:
    files = tuple(file for file, info in images if info.turned)
    if not files:
        return []
    message = (
        f"{count(len(files), 'image')} stored rotated and read upright as their headers specify; masks must be, too"
    )
    return [Finding("orientation", Severity.NOTE, message, "", "", files)]


def _bands_of_all(images: Sequence[tuple[str, RasterInfo]]) -> str:
    shared = set.intersection(*(set(info.bands) for _, info in images)) if images else set()
    return (
        f"Use the common bands, {format_option('bands', sorted(shared))}."
        if shared
        else "Give all images the same bands."
    )


def _unknown_orientation(images: Sequence[tuple[str, RasterInfo]]) -> list[Finding]:
    files = tuple(file for file, info in images if info.turned is None)
    if not files:
        return []
    message = f"{count(len(files), 'image')} that do not declare which row is north: the last stored one is assumed"
    repair = "Georeference them; if they are upside down, set GDAL_NETCDF_BOTTOMUP=NO in the environment."
    return [Finding("north", Severity.WARNING, message, "Images are georeferenced.", repair, files)]


def _size_differences(pairs: Sequence[Pair]) -> list[Finding]:
    sizes = [p for p in pairs if not _same_size(p)]
    return [
        *_size_mismatches([p for p in sizes if not _are_georeferenced(p)]),
        *_partial([p for p in sizes if _are_georeferenced(p)]),
    ]


def _partial(pairs: Sequence[Pair]) -> list[Finding]:
    """Find masks on their images' pixel grid with a different extent, by intention or by mistake."""
    cut = [p for p in pairs if _same_crs(str(p[1].crs), str(p[3].crs)) and _edges(p[1]) == _edges(p[3])]
    if not cut:
        return []
    message = f"{len(cut)} masks have their images' pixel size but not their size, such as {cut[0][2]}"
    expected = "A mask covers its image if both have the same pixel size: what it does not cover is ignored."
    repair = "Check the position of the masks; if it is right, crop images and masks alike."
    return [Finding("size", Severity.WARNING, message, expected, repair, tuple(f for p in cut for f in (p[0], p[2])))]


def _size_mismatches(deviating: Sequence[Pair]) -> list[Finding]:
    if not deviating:
        return []
    first, image, mask_file, mask = deviating[0]
    return [
        Finding(
            "size",
            Severity.ERROR,
            f"image and mask differ in size, such as {first} with {image.width}x{image.height} pixels and {mask_file} "
            f"with {mask.width}x{mask.height}",
            "An image and its mask cover the same pixels.",
            "Crop or resample one of them.",
            tuple(file for p in deviating for file in (p[0], p[2])),
        )
    ]


def _reordered(images: Sequence[tuple[str, RasterInfo]]) -> list[Finding]:
    """Find images with the bands of the others in another order; other differences of names are only notes."""
    usual = _most_frequent(info.band_names for _, info in images) or ()
    same = [(file, info) for file, info in images if sorted(info.band_names) == sorted(usual)]
    repair = f"Use {format_option('bands', list(usual))}, or these names in the order that you want."
    return _deviations(
        same, "band_order", "bands in the order", lambda i: ", ".join(i.band_names), repair, Severity.ERROR
    )


def _deviations(
    images: Sequence[tuple[str, RasterInfo]],
    check: str,
    what: str,
    value: Callable[[RasterInfo], Any],
    repair: str,
    severity: Severity,
) -> list[Finding]:
    """Find the images whose value differs from the most frequent one."""
    usual = _most_frequent(value(info) for _, info in images)
    found = []
    for other in dict.fromkeys(value(info) for _, info in images if value(info) != usual):
        files = tuple(file for file, info in images if value(info) == other)
        message = f"{what} {other}, where most images have {usual}"
        found.append(Finding(check, severity, message, "All images are the same in this respect.", repair, files))
    return found


def _notes(images: Sequence[tuple[str, RasterInfo]]) -> list[Finding]:
    """Return notes on differing band names and nodata values: each image is read by its own."""
    found = []
    for check, what, values in (
        ("band_names", "bands are called", [", ".join(info.band_names) for _, info in images]),
        ("nodata", "the declared nodata value is", [_format_nodata(info.nodata) for _, info in images]),
    ):
        counts = most_common(values)
        if len(counts) > 1 and (check == "nodata" or not _reordered(images)):
            (usual, most), (other, few), *_ = counts
            message = f"{what} {usual} in {count(most, 'image')}, {other} in {few:,}"
            message += f", other in {len(values) - most - few:,}" if len(counts) > 2 else ""
            files = tuple(file for (file, _), value in zip(images, values, strict=True) if value != usual)
            found.append(Finding(check, Severity.NOTE, message, "", "", files))
    return found


def _format_nodata(nodata: float | None) -> str:
    return "none" if nodata is None else f"{nodata:g}"


def _tags(info: RasterInfo, bands: Sequence[int | str] | None) -> str:
    """Return the scales and offsets that a file declares for the bands in use, as text."""
    tags = sorted(info.scale_offsets_of(band_numbers(info, bands)))
    return " or ".join(f"scale {scale:g} and offset {offset:g}" for scale, offset in tags)


def _most_frequent(values: Iterable[Any]) -> Any:
    return next((value for value, _ in Counter(values).most_common(1)), None)


def _pixel_sizes(images: Sequence[tuple[str, RasterInfo]]) -> list[Finding]:
    sized = sorted(((file, info) for file, info in images if info.pixel_m), key=lambda image: image[1].gsd_m or 0)
    if not sized:
        return []
    usual = sized[len(sized) // 2][1]
    deviating = [(file, info) for file, info in images if info.pixel_m and not _same_pixels(info, usual)]
    if not deviating:
        return []
    sizes = sorted({size_text(info.pixel_m) for _, info in deviating if info.pixel_m})
    return [
        Finding(
            "pixel_size",
            Severity.WARNING,
            f"pixels of {', '.join(sizes[:5])} m, where most images have {size_text(usual.pixel_m or (0, 0))} m",
            "All images have the same pixel size on the ground.",
            "Resample them, or train on each resolution separately.",
            tuple(file for file, _ in deviating),
        )
    ]


def _same_pixels(one: RasterInfo, other: RasterInfo) -> bool:
    """Return whether pixels have the same size on the ground or in a shared CRS, whose scale varies with latitude."""
    sizes = [(one.pixel_m, other.pixel_m)]
    if one.crs == other.crs:
        sizes.append((_edges(one), _edges(other)))
    return any(np.allclose(a, b, rtol=PIXEL_SIZE_TOLERANCE, atol=0) for a, b in sizes if a and b)


def _edges(info: RasterInfo) -> tuple[float, float]:
    """Return the side lengths of a pixel in units of the CRS."""
    a, b, _, d, e, _ = info.transform or (0.0,) * 6
    return math.hypot(a, d), math.hypot(b, e)


def _georeferencing(pairs: Sequence[Pair]) -> list[Finding]:
    """Compare coordinates of image and mask."""
    other_crs = [p for p in pairs if p[1].crs and p[3].crs and not _same_crs(p[1].crs, p[3].crs)]
    comparable = [p for p in pairs if p not in other_crs and _same_size(p) and p[1].transform and p[3].transform]
    moved = [p for p in comparable if _offset(p) > MAX_OFFSET]
    lacking = [p for p in pairs if p[1].crs and not p[3].crs]
    found = []
    if other_crs:
        _, image, _, mask = min(other_crs, key=lambda p: not _are_apart(p))
        words = f"image and mask have different CRS, such as {_crs_name(image.crs)} and {_crs_name(mask.crs)}"
        apart = [p for p in other_crs if _are_apart(p)]
        if apart:
            repair = "Assign each file the CRS of its coordinates."
            found.append(
                _georeferencing_finding("crs", Severity.ERROR, f"{words}, and lie in different places", repair, apart)
            )
        else:
            warped = f"{words}: the masks are warped onto the images on reading"
            found.append(_georeferencing_finding("crs", Severity.NOTE, warped, "", other_crs))
    if moved:
        far = max(_offset(p) for p in moved)
        words = f"image and mask of the same size are offset by their geotransforms, up to {far:.4g} pixels "
        words += "apart: the masks are shifted on reading, and what they do not cover is ignored"
        repair = "Check which one is right; if image and mask match pixel by pixel, give both the same geotransform."
        found.append(_georeferencing_finding("geotransform", Severity.ERROR, words, repair, moved))
    if lacking:
        words = f"{len(lacking)} masks of georeferenced images have no CRS: they are matched pixel by pixel"
        found.append(_georeferencing_finding("mask_without_crs", Severity.NOTE, words, "", lacking))
    return found


def _georeferencing_finding(
    check: str, severity: Severity, message: str, repair: str, pairs: Sequence[Pair]
) -> Finding:
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


def _are_georeferenced(pair: Pair) -> bool:
    """Return whether image and mask are both georeferenced, so that one can be warped onto the other."""
    return all(info.crs is not None and info.transform is not None for info in (pair[1], pair[3]))


def _offset(pair: Pair) -> float:
    """Return the largest distance between the corners of image and mask in pixels."""
    _, image, _, mask = pair
    here, there = Affine(*(image.transform or ())), Affine(*(mask.transform or ()))
    corners = [(x, y) for x in (0, image.width) for y in (0, image.height)]
    return float(max(math.dist(here @ corner, there @ corner) for corner in corners) / math.sqrt(abs(here.determinant)))
