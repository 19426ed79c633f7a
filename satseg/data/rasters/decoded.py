"""Decoded images in memory that all workers of a loader share, so that each is decoded once."""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from satseg.errors import ConfigError

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]  # image (B, h, w) as stored, mask (h, w) uint8, valid (h, w) bool
ALIGNMENT = 64  # bytes

Form = tuple[tuple[int, int, int], str]  # shape (B, h, w) and dtype of an image


class DecodedImageCache:
    """Places in one piece of memory, each filled by whoever decodes its image first.

    Two that fill a place at once write the same bytes, so there is nothing to lock. Memory is taken as places are
    filled, and goes with the last process. Patches are drawn from anywhere, so an image that has a place keeps it:
    to put another in its stead would win nothing.

    Args:
        forms: Shape and dtype of each image; those that come first have a place, as far as the memory goes.
        max_bytes: Size of the memory.

    Raises:
        ConfigError: If the system does not give that much.
    """

    def __init__(self, forms: Mapping[Path, Form], max_bytes: int) -> None:
        self._forms, self._max_bytes = forms, max_bytes
        self._places: dict[Path, tuple[int, Form]] = {}
        end = 0
        for image, form in forms.items():
            size = _size(form)
            if end + size <= max_bytes:
                self._places[image] = end, form
                end += size
        try:
            self._memory = mmap.mmap(-1, max(end, 1))
        except (OSError, OverflowError) as error:
            raise ConfigError(f"dataset.cache_gb={max_bytes / 1e9:g}: the system has not so much; set less.") from error

    def __reduce__(self) -> Any:
        """A process that does not inherit the memory begins with its own."""
        return DecodedImageCache, (self._forms, self._max_bytes)

    def __contains__(self, image: Path) -> bool:
        """Tell whether an image has a place."""
        return image in self._places

    def get(self, image: Path) -> Arrays | None:
        """Return an image that has a place, read-only; None before it is put there."""
        start, form = self._places[image]
        if not self._memory[start]:
            return None
        arrays = self._arrays(start, form)
        for array in arrays:
            array.flags.writeable = False
        return arrays

    def put(self, image: Path, arrays: Arrays) -> None:
        """Fill the place of an image."""
        start, form = self._places[image]
        for own, array in zip(self._arrays(start, form), arrays, strict=True):
            np.copyto(own, array, casting="no")
        self._memory[start] = 1  # last: before, none takes it for whole

    def _arrays(self, start: int, form: Form) -> Arrays:
        (bands, height, width), dtype = form
        start += ALIGNMENT
        image = np.ndarray((bands, height, width), dtype, self._memory, start)
        start += image.nbytes
        mask = np.ndarray((height, width), np.uint8, self._memory, start)
        return image, mask, np.ndarray((height, width), np.bool_, self._memory, start + mask.nbytes)


def _size(form: Form) -> int:
    """Return the bytes of a place: a flag, the three arrays, and what aligns the next."""
    (bands, height, width), dtype = form
    size = height * width * (bands * np.dtype(dtype).itemsize + 2)
    return ALIGNMENT + -(-size // ALIGNMENT) * ALIGNMENT
