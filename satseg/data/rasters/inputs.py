"""Finding the rasters named by `input=`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from satseg.data.rasters.names import USUAL, describe_skipped, is_image, natural_key
from satseg.data.rasters.opening import is_remote, redacted
from satseg.data.rasters.stacks import find_stacks, write_stack
from satseg.data.rasters.subdatasets import is_subdataset, is_zarr_store, write_subdataset
from satseg.data.rasters.wildcards import expand_folders, find_visible, has_wildcards, split_pattern
from satseg.errors import ConfigError, DataError, RasterReadError

LIST_SUFFIX = ".txt"
NO_INPUT = "Give input= (a file, a folder, a pattern, a list file or a URL)."


def find_inputs(named: Any, nodata: float | None = None, default_nodata: float | None = None) -> list[str | Path]:
    """Find the rasters that a user names.

    Args:
        named: A raster file, a folder, a glob pattern, a list file (`.txt`, one path or URL per line, relative to the
            file), a URL, or GDAL's name of a subdataset; one pattern per band, if bands are separate files; or a list
            of these.
        nodata: Value of missing pixels for bands in separate files; the files' own by default.
        default_nodata: Value of missing pixels if none of an image's files declares one.

    Returns:
        Files as paths and URLs as text without duplicates, in the given order and in natural order within each.

    Raises:
        ConfigError: If nothing is named, or a pattern cannot be used.
        DataError: If there is no raster.
    """
    several = isinstance(named, Sequence) and not isinstance(named, str)
    found = [source for one in (named if several else [named]) for source in _find(one, nodata, default_nodata)]
    if not found:
        raise ConfigError(NO_INPUT)
    unique: dict[str, str | Path] = {}
    for source in found:
        unique.setdefault(str(source) if is_remote(source) else os.path.abspath(source), source)  # noqa: PTH100
    return list(unique.values())


def check_inputs(named: Any) -> None:
    """Check that there are rasters at the given paths, without opening or writing anything; URLs are not checked.

    Args:
        named: As for `find_inputs`.

    Raises:
        ConfigError: If nothing is named, or a pattern cannot be used.
        DataError: If there is no raster.
    """
    several = isinstance(named, Sequence) and not isinstance(named, str)
    if several and not named:
        raise ConfigError(NO_INPUT)
    for one in named if several else [named]:
        if one is None or str(one) == "":
            raise ConfigError(NO_INPUT)
        if isinstance(one, Mapping) or is_remote(one) or is_subdataset(one):
            continue
        path = Path(str(one)).expanduser()
        if not is_zarr_store(path) and not (path.suffix.lower() == LIST_SUFFIX and path.is_file()):
            _files(path)


def source_name(source: Path | str) -> str:
    """Return a file's name without folder and suffix; for a URL, without its query too."""
    if not is_remote(source):
        return Path(source).stem
    url = urlsplit(str(source))
    return PurePosixPath(unquote(url.path).replace("\\", "/")).stem or url.hostname or "image"


def _find(named: Any, nodata: float | None, default_nodata: float | None) -> Iterator[str | Path]:
    if isinstance(named, Mapping):
        yield from (write_stack(stack, nodata, default_nodata) for stack in find_stacks(named))
    elif named is None or str(named) == "":
        raise ConfigError(NO_INPUT)
    elif is_remote(named):
        yield _checked_url(str(named))
    elif is_subdataset(named):
        yield write_subdataset(str(named))
    elif is_zarr_store(path := Path(str(named)).expanduser()):
        yield write_subdataset(f'ZARR:"{path}"')
    elif path.suffix.lower() == LIST_SUFFIX and path.is_file():
        yield from _listed(path)
    else:
        yield from _files(path)


def _checked_url(url: str) -> str:
    if "*" in urlsplit(url).path:
        raise ConfigError(
            f"input={redacted(url)}: a server cannot be searched; name each file, or list them in a .txt."
        )
    return url


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]  # whatever its type: opening reports what cannot be read
    if not path.is_dir() and not has_wildcards(str(path)):
        raise RasterReadError(f"{path} is not there; check the path.")
    try:
        folder, pattern = (path, "*") if path.is_dir() else split_pattern(path)
        files = find_visible(folder, pattern if path.is_dir() else expand_folders(folder, pattern))
    except (ValueError, OSError) as error:
        raise ConfigError(f"input={path}: the pattern cannot be used: {error}.") from error
    found = [file for file in files if is_image(file)]
    if not found:
        raise DataError(
            f"input={path}: there is no image; {describe_skipped(files) or f'its name must end in {USUAL}'}."
        )
    return sorted(found, key=lambda p: natural_key(str(p)))


def _listed(path: Path) -> Iterator[str | Path]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise DataError(f"input={path} cannot be read ({reason}); a list file has one path or URL per line.") from error
    named = [(number, line.strip()) for number, line in enumerate(lines, 1)]
    named = [(number, line) for number, line in named if line and not line.startswith("#")]
    if not named:
        raise DataError(f"input={path} names no image; a list file has one path or URL per line.")
    for number, line in named:
        if is_remote(line):
            yield _checked_url(line)
            continue
        if is_subdataset(line):
            yield write_subdataset(line)
            continue
        file = path.parent / Path(line).expanduser()
        if not file.is_file():
            raise RasterReadError(f"{path}, line {number}: {file} is not there; name one raster or URL per line.")
        yield file
