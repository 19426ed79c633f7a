"""Cache of decoded images in memory shared by all workers of a loader."""

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
    """Slots in one block of shared memory, each filled by the process that decodes its image first.

    Two processes that fill a slot at once write the same bytes, so there is no lock. Memory is allocated as slots are
    filled, and released with the last process. Patches are drawn from anywhere, so eviction would gain nothing: images
    keep their slots.

    Args:
        forms: Shape and dtype of each image; the first ones get slots, as far as the memory allows.
        max_bytes: Size of the memory.

    Raises:
        ConfigError: If that much memory is not available.
    """

    def __init__(self, forms: Mapping[Path, Form], max_bytes: int) -> None:
        self._forms, self._max_bytes = forms, max_bytes
        self._slots: dict[Path, tuple[int, Form]] = {}
        end = 0
        for image, form in forms.items():
            size = _size(form)
            if end + size <= max_bytes:
                self._slots[image] = end, form
                end += size
        try:
            self._memory = mmap.mmap(-1, max(end, 1))
        except (OSError, OverflowError) as error:
            raise ConfigError(f"dataset.cache_gb={max_bytes / 1e9:g}: not enough memory; set a lower value.") from error

    def __reduce__(self) -> Any:
        """Start with empty memory in a process that does not inherit it."""
        return DecodedImageCache, (self._forms, self._max_bytes)

    def __contains__(self, image: Path) -> bool:
        """Return True if an image has a slot."""
        return image in self._slots

    def get(self, image: Path) -> Arrays | None:
        """Return an image that has a slot, read-only; None if the slot is not filled yet."""
        start, form = self._slots[image]
        if not self._memory[start]:
            return None
        arrays = self._arrays(start, form)
        for array in arrays:
            array.flags.writeable = False
        return arrays

    def put(self, image: Path, arrays: Arrays) -> None:
        """Fill the slot of an image."""
        start, form = self._slots[image]
        for own, array in zip(self._arrays(start, form), arrays, strict=True):
            np.copyto(own, array, casting="no")
        self._memory[start] = 1  # last, as this marks the slot as filled

    def _arrays(self, start: int, form: Form) -> Arrays:
        (bands, height, width), dtype = form
        start += ALIGNMENT
        image = np.ndarray((bands, height, width), dtype, self._memory, start)
        start += image.nbytes
        mask = np.ndarray((height, width), np.uint8, self._memory, start)
        return image, mask, np.ndarray((height, width), np.bool_, self._memory, start + mask.nbytes)


def _size(form: Form) -> int:
    """Return the bytes of a slot: a flag, the three arrays, and padding for alignment."""
    (bands, height, width), dtype = form
    size = height * width * (bands * np.dtype(dtype).itemsize + 2)
    return ALIGNMENT + -(-size // ALIGNMENT) * ALIGNMENT
