"""Comparison of satseg's results for mutated files with those of other libraries."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from rasterio.features import rasterize
from rasterio.warp import transform_geom

CLASSES = 7
LARGEST_PIXELS = 6_000_000  # larger files are compared in part; a mutated header may claim millions of times as many
SIDE = 2000  # side of the part of a larger file that is compared
DIGESTED_PIXELS = 2**19  # largest image that validation reads in one piece
IGNORED = 255

Part = tuple[int, int, int, int]  # column, row, width, height


class WrongError(Exception):
    """The values read are not those in the file."""


def hashed(image: np.ndarray) -> np.ndarray:
    """Return the hash class (h, w) of raw values (C, h, w)."""
    bits = np.ascontiguousarray(image.astype(np.float32)).view(np.uint32).astype(np.uint64)
    weights = (np.uint64(2_654_435_761) * np.arange(1, len(bits) + 1, dtype=np.uint64)).reshape(-1, 1, 1)
    return ((bits * weights).sum(0) >> np.uint64(9)).astype(np.int64) % CLASSES


def part_of(height: int, width: int) -> Part | None:
    """Return the part of a raster that is compared if the whole is too large."""
    return (0, 0, min(width, SIDE), min(height, SIDE)) if height * width > LARGEST_PIXELS else None


def read(path: Path, bands: int, part: Part | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return the pixels as rasterio reads them (C, h, w), and which are missing by mask, nodata or NaN (h, w)."""
    try:
        with rasterio.open(path) as file:
            window = rasterio.windows.Window(*(part or (0, 0, file.width, file.height)))
            image = file.read(list(range(1, bands + 1)), window=window)
            missing = (file.read_masks(1, window=window) == 0) | ~np.isfinite(image).all(0)
            if file.nodata is not None:
                missing |= (image == file.nodata).any(0)
    except rasterio.errors.RasterioError as error:
        raise WrongError(f"rasterio refuses it: {' '.join(str(error).split())[:120]}") from error
    return image, missing


def compare_map(map_path: Path, path: Path, bands: int, part: Part | None = None) -> None:
    """Compare a map of hashed pixels with its input file.

    Raises:
        WrongError: If a pixel has the class of other numbers, or is left out without a reason in the file.
    """
    with rasterio.open(map_path) as file:
        found, nodata = file.read(1), file.nodata
    image, missing = read(path, bands, part)
    if found.shape != image.shape[1:]:
        raise WrongError(f"map of {found.shape}, raster of {image.shape[1:]}")
    left_out = found == nodata
    if wrong := int((~left_out & (found != hashed(image))).sum()):
        raise WrongError(f"{wrong} pixels of other numbers")
    if lost := int((left_out & ~missing).sum()):
        raise WrongError(f"{lost} pixels left out")


def compare_image(path: Path, image: np.ndarray, valid: np.ndarray, part: Part | None = None) -> None:
    """Compare pixels that were read, and which of them are valid, with rasterio's.

    Raises:
        WrongError: If a pixel differs, or is left out without a reason in the file.
    """
    expected, missing = read(path, len(image), part)
    if image.dtype != expected.dtype or not np.array_equal(image, expected, equal_nan=image.dtype.kind == "f"):
        raise WrongError("pixels of other numbers")
    if (~valid & ~missing).any():
        raise WrongError("pixels left out")


def compare_digest(path: Path, digest: str, bands: int) -> None:
    """Compare the hash of all pixels that validation saw.

    Raises:
        WrongError: If it is of other pixels.
    """
    image, _ = read(path, bands)
    if image[0].size > DIGESTED_PIXELS:
        return
    hasher = hashlib.blake2b(f"{image.dtype} {bands} {image.shape[1]} {image.shape[2]}".encode(), digest_size=16)
    hasher.update(np.ascontiguousarray(image).data)
    if hasher.hexdigest() != digest:
        raise WrongError("validation saw pixels of other numbers")


def compare_polygons(path: Path, classes: tuple[str, ...], known: dict[int, int], grid: Any) -> None:
    """Compare counts of the pixels of each class with those of rasterio's own drawing; `grid` is an open raster.

    Raises:
        WrongError: If they differ.
    """
    import pyogrio
    import shapely

    info, _, shapes, fields = pyogrio.raw.read(path, columns=["class"])
    drawn = []
    for shape, text in zip(shapely.from_wkb(shapes), fields[0], strict=True):
        if shape is not None and not shape.is_empty:
            place = json.loads(shapely.to_geojson(shape))
            drawn.append((transform_geom(info["crs"], grid.crs, place), classes.index(str(text))))
    size = (grid.height, grid.width)
    labels = rasterize(drawn, size, IGNORED, transform=grid.transform) if drawn else np.full(size, IGNORED)
    if (counts := Counter(labels.ravel().tolist())) != Counter(known):
        raise WrongError(f"drawn {dict(known)}, but rasterio draws {dict(counts)}")


def compare_weights(path: Path, state: dict[str, torch.Tensor]) -> None:
    """Compare a model's weights with the file's.

    Raises:
        WrongError: If they differ.
    """
    if path.suffix == ".ckpt":
        read_in = torch.load(path, weights_only=True)["state_dict"]
        stored = {name.removeprefix("network."): tensor for name, tensor in read_in.items()}
    else:
        from safetensors.torch import load_file

        stored = load_file(path)
    if stored.keys() != state.keys() or not all(torch.equal(stored[name], state[name]) for name in stored):
        raise WrongError("other weights than the file's")


def compare_record(found: Any, stored: Any, place: str = "record") -> None:
    """Check that each value read is that of the file; values that only users may set are left out.

    Raises:
        WrongError: If one is not.
    """
    if isinstance(found, dict) and isinstance(stored, dict):
        for key, value in found.items():
            compare_record(value, stored.get(key, WrongError), f"{place}.{key}")
    elif not (found is stored or (type(found) is type(stored) and found == stored) or found != found):
        raise WrongError(f"{place} is {found!r}, not {stored!r}"[:200])
