"""File names of rasters and vectors: known suffixes, and natural sort order."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

# Formats that GDAL opens directly; without suffixes of sidecar files, such as .xml, .hdr, .ovr and .pdf.
IMAGE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".gtiff", ".jp2", ".j2k", ".vrt", ".webp", ".bmp", ".gif"}
    | {".pgm", ".ppm", ".pnm", ".tga", ".img", ".bil", ".bip", ".bsq", ".nc", ".nc4", ".hdf", ".hdf5", ".h5", ".he5"}
    | {".ntf", ".nitf", ".pix", ".ers", ".grd", ".sdat", ".mrf", ".cub", ".asc", ".hgt", ".dem"}
    | {".dt0", ".dt1", ".dt2", ".grb", ".grb2", ".grib", ".grib2"}
)
HEADED_SUFFIXES = frozenset({"", ".dat", ".raw", ".bin", ".flt"})  # raw binary, described by a header file
VECTOR_SUFFIXES = frozenset({".gpkg", ".geojson", ".json", ".shp"})
SIDECAR_SUFFIXES = frozenset(
    {".tfw", ".pgw", ".jgw", ".wld", ".xml", ".hdr", ".ovr", ".prj", ".dbf", ".shx", ".cpg", ".txt", ".csv", ".md"}
)
USUAL = ".tif, .png, .jpg, .jp2, .vrt, .img, .nc and others that GDAL reads, or .dat with its header (.hdr) beside it"
SHOWN = 5

FilePredicate = Callable[[Path], bool]


def is_image(path: Path) -> bool:
    """Return True if a file is a raster by its name; raw binary files need a header beside them."""
    suffix = path.suffix.lower()
    if suffix not in HEADED_SUFFIXES:
        return suffix in IMAGE_SUFFIXES
    headers = (path.with_name(path.name + ".hdr"), path.with_suffix(".hdr"), path.with_suffix(".HDR"))
    return any(header.is_file() for header in headers)


def is_vector(path: Path) -> bool:
    """Return True if a file is a vector file by its name."""
    return path.suffix.lower() in VECTOR_SUFFIXES


def has_unknown_suffix(path: Path) -> bool:
    """Return True if a file has a suffix that is neither of a raster or vector nor of a sidecar file."""
    known = path.suffix.lower() in SIDECAR_SUFFIXES or is_image(path) or is_vector(path)
    return bool(path.suffix) and not known


def is_hidden(path: Path) -> bool:
    """Return True if a file or a folder above it is hidden; the path is relative to the search root."""
    return any(part.startswith(".") and part != ".." for part in path.parts)


def describe_skipped(files: Iterable[Path]) -> str:
    """Return a note on the suffixes of skipped files, most frequent first; "" if there are no files."""
    counts = Counter(path.suffix.lower() or "nothing" for path in files)
    if not counts:
        return ""
    endings = [f"{ending} ({number})" for ending, number in counts.most_common(SHOWN)]
    more = ", …" if len(counts) > SHOWN else ""
    return f"it finds only files that end in {', '.join(endings)}{more}, and images end in {USUAL}"


def natural_key(name: str) -> list[tuple[bool, int, str]]:
    """Sort key that puts `part_2` before `part_10`."""
    return [(p.isdecimal(), int(p) if p.isdecimal() else 0, p) for p in re.split(r"(\d+)", name)]
