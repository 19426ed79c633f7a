"""Stacks: bands in separate files, as in Sentinel-2 and Landsat products, read as one raster."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from satseg.data.rasters.names import FilePredicate, describe_skipped, is_image, natural_key
from satseg.data.rasters.opening import is_remote, redacted
from satseg.data.rasters.stack_vrt import stack_vrt
from satseg.data.rasters.subdatasets import is_subdataset, write_subdataset
from satseg.data.rasters.wildcards import expand_folders, find_visible, split_pattern, wildcard_text
from satseg.errors import ConfigError, DataError, RasterReadError, ResourceError
from satseg.files import cache_folder, write_text

VERSION = 4  # of the cached files; a new one writes them again
MAX_NAME = 150  # characters of a stack's name in a file name


@dataclass(frozen=True)
class Stack:
    """The files of one image by band, named after the text that the wildcards of their patterns match."""

    name: str
    files: Mapping[str, Path | str]


def find_stacks(patterns: Mapping[Any, Any], root: Path | None = None, option: str = "input") -> list[Stack]:
    """Find the files of each band, and group those whose wildcards match the same text.

    Args:
        patterns: A pattern (`s2/*_B02_10m.jp2`), a file or a URL by band.
        root: Folder that the patterns are relative to; the working folder by default.
        option: Name of the option for messages.

    Returns:
        Stacks in natural order of their names, their bands in the order of the patterns.

    Raises:
        ConfigError: If a pattern cannot be used.
        DataError: If a pattern finds nothing, or an image lacks a band.
    """
    stacks = gather_stacks(patterns, root, option)
    for stack in stacks:
        check_complete(stack, patterns, option)
    return [Stack(s.name or common_name(s), s.files) for s in stacks]


def gather_stacks(patterns: Mapping[Any, Any], root: Path | None, option: str) -> list[Stack]:
    """Return stacks by the text that the wildcards match, in natural order; some perhaps without all bands.

    Args:
        patterns: File or pattern by band.
        root: The dataset's folder; None if patterns are paths, which may be URLs.
        option: Name of the option, for messages.

    Raises:
        ConfigError: If a pattern is invalid.
        DataError: If a pattern finds nothing.
    """
    if not patterns:
        raise ConfigError(f"{option}={{}}: name a file or a pattern for each band.")
    found = {str(band): find_band(f"{option}.{band}", pattern, root) for band, pattern in patterns.items()}
    names = sorted({name for files in found.values() for name in files}, key=natural_key)
    return [Stack(name, {b: files[name] for b, files in found.items() if name in files}) for name in names]


def find_band(option: str, pattern: Any, root: Path | None, accepts: FilePredicate = is_image) -> dict[str, Path | str]:
    """Return the files of one band by the text that the pattern's wildcards match.

    Args:
        option: Name of the option, for messages.
        pattern: A file or a pattern.
        root: As for `gather_stacks`.
        accepts: Which files count.

    Raises:
        ConfigError: If the pattern is invalid.
        DataError: If it finds nothing.
    """
    if not isinstance(pattern, str | Path) or not str(pattern):
        raise ConfigError(f"{option}={pattern}: expected a file or a pattern.")
    if root is None and is_remote(pattern):
        if "*" in urlsplit(str(pattern)).path:
            raise ConfigError(f"{option}={redacted(pattern)}: a server cannot be searched; name each file.")
        return {"": pattern}
    if root is None and is_subdataset(pattern):
        return {"": write_subdataset(str(pattern))}
    path = Path(pattern).expanduser()
    if root is not None and path.is_absolute():
        raise ConfigError(f"{option}={pattern}: give a pattern relative to dataset.root.")
    if root is None and path.is_file():
        return {"": path}
    folder, rest = (root, path.as_posix()) if root is not None else split_pattern(path)
    rest = expand_folders(folder, rest) if rest else "*"
    files: dict[str, Path | str] = {}
    visible = visible_files(folder, rest, option)
    for file in filter(accepts, visible):
        name = wildcard_text(rest, file.relative_to(folder).as_posix())
        if name in files:
            raise DataError(f"{option}={pattern}: {files[name]} and {file} are both {name}; make the pattern narrower.")
        files[name] = file
    if not files:
        words = describe_skipped(visible)
        below = "" if root is None else f" below {root}"
        raise DataError(f"{option}={pattern}: there is no such raster{below}{f': {words}' if words else ''}.")
    return files


def visible_files(folder: Path, pattern: str, option: str) -> list[Path]:
    """Return the files that match a pattern in a folder, sorted, without hidden ones.

    Raises:
        ConfigError: If the pattern is invalid; names the option.
    """
    try:
        return sorted(find_visible(folder, pattern))
    except (ValueError, NotImplementedError, OSError) as error:
        raise ConfigError(f"{option}={pattern}: the pattern cannot be used: {error}.") from error


def check_complete(stack: Stack, patterns: Mapping[Any, Any], option: str = "dataset.images") -> None:
    """Check that a stack has all bands.

    Args:
        stack: The stack.
        patterns: Patterns by band, as for `find_stacks`.
        option: Name of the option for messages.

    Raises:
        DataError: If it lacks a band.
        ConfigError: If two bands are one file.
    """
    for band, pattern in patterns.items():
        if str(band) not in stack.files:
            other, file = next(iter(stack.files.items()))
            raise DataError(
                f"{option}: {stack.name or 'the image'} lacks the band {band}: no file of {redacted(pattern)} belongs "
                f"to {redacted(file)} (band {other}). Add it, or make the patterns narrower."
            )
    twice = {str(file): band for band, file in stack.files.items()}
    for band, file in stack.files.items():
        if twice[str(file)] != band:
            raise ConfigError(f"{option}: the bands {band} and {twice[str(file)]} are both {redacted(file)}.")


def common_name(stack: Stack) -> str:
    """Return the common beginning of the file names, up to the last separator."""
    stems = [Path(urlsplit(f).path if is_remote(f) else f).stem for f in map(str, stack.files.values())]
    same = itertools.takewhile(lambda letters: len(set(letters)) == 1, zip(*stems, strict=False))
    start = re.match(r"(.+)[_\-. ]", "".join(letters[0] for letters in same))
    return start.group(1) if start and len(stems) > 1 else stems[0]


def write_stack(stack: Stack, nodata: float | None = None, default_nodata: float | None = None) -> Path:
    """Write the VRT of a stack into the cache folder unless it exists, and return its path.

    Args:
        stack: The files.
        nodata: Value of missing pixels; the files' own by default.
        default_nodata: Value of missing pixels if no file declares one.

    Raises:
        RasterReadError: If a file cannot be read.
        DataError: If the files do not fit together.
        ResourceError: If the cache folder cannot be written to.
    """
    bands = [(band, *_state(file)) for band, file in stack.files.items()]
    key = hashlib.sha256(
        repr((VERSION, bands, repr(nodata), repr(default_nodata))).encode(errors="surrogateescape")
    ).hexdigest()[:16]
    name = re.sub(r"[\x00-\x1f/\\]", "_", stack.name)[-MAX_NAME:]
    path = cache_folder() / "stacks" / key / f"{name}.vrt"
    remote = any(map(is_remote, stack.files.values()))  # changes of remote files cannot be detected
    if remote or not path.is_file():
        text = stack_vrt(stack.files, nodata, default_nodata)
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            _keep(path, text, private=remote)
    return path


def _keep(path: Path, text: str, *, private: bool) -> None:
    try:
        if private:  # a URL may be signed
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_text(path, text)
    except (ResourceError, OSError) as error:
        raise ResourceError(f"{error} The environment's SATSEG_CACHE names another folder.") from error


def _state(file: Path | str) -> tuple[str, int, int]:
    if is_remote(file):
        return str(file), 0, 0
    try:
        stat = Path(file).stat()
    except OSError as error:
        raise RasterReadError(f"{file} cannot be read ({error.strerror}).") from error
    return str(Path(file).absolute()), stat.st_size, stat.st_mtime_ns
