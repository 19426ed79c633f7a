"""Torch datasets: training patches on request, and whole images in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from satseg.data.augmentation import Augmentation
from satseg.data.rasters.opening import bounded_cache, reason
from satseg.data.reader import SampleReader
from satseg.data.samples import Sample
from satseg.data.sampling.sampler import PatchRequest
from satseg.data.workers import MEMORY_ADVICE
from satseg.errors import RasterReadError, ResourceError, SatsegError
from satseg.spec import InputSpec

Item = dict[str, Any]
LIST_KEYS = ("name", "seed")  # collated to lists, and not moved to the device


class Failure:
    """An error passed from a loader's worker to the main process, which reports it."""

    def __init__(self, error: SatsegError) -> None:
        self.kind, self.message = type(error), str(error)

    def raise_error(self) -> None:
        """Raise the error in this process."""
        raise self.kind(self.message)


class PatchDataset(Dataset[Item]):
    """Training patches: a pure function of a `PatchRequest`.

    Args:
        samples: The training split.
        reader: Reader of the samples.
        augmentation: Augmentation of the patches.
        spec: Scaling of raw numbers to unit scale.
        patch_size: Edge of a patch in pixels.
        defer_photometric: Leave photometric augmentation to the device, and pass it the seed.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        reader: SampleReader,
        augmentation: Augmentation,
        spec: InputSpec,
        patch_size: int,
        defer_photometric: bool = False,
    ) -> None:
        self.samples, self.reader, self.augmentation = samples, reader, augmentation
        self.spec, self.patch_size, self.defer_photometric = spec, patch_size, defer_photometric

    def __getitems__(self, requests: Sequence[PatchRequest]) -> list[Item]:
        """Return a batch's patches; see `torch.utils.data`."""
        with bounded_cache():
            return [self[request] for request in requests]

    def __getitem__(self, request: PatchRequest) -> Item:
        """Return image (C, H, W), mask (H, W), valid (H, W) and name."""
        sample, seed = self.samples[request.sample], request.seed

        def make() -> Item:
            arrays = self.reader.read(sample, request.window)
            if self.defer_photometric:
                return to_item(sample.name, *self.augmentation.geometric(*arrays, seed, self.patch_size)) | {
                    "seed": seed
                }
            return to_item(sample.name, *self.augmentation(*arrays, seed, self.spec, self.patch_size))

        return _or_failure(sample.name, make)


class ImageDataset(Dataset[Item]):
    """Whole images, each once.

    Args:
        samples: The split.
        reader: Reader of the samples.
    """

    def __init__(self, samples: Sequence[Sample], reader: SampleReader) -> None:
        self.samples, self.reader = samples, reader

    def __len__(self) -> int:
        """Number of images."""
        return len(self.samples)

    def __getitem__(self, index: int) -> Item:
        """Return image (C, H, W), mask (H, W), valid (H, W) and name."""
        sample = self.samples[index]
        return _or_failure(sample.name, lambda: to_item(sample.name, *self.reader.read(sample)))


def _or_failure(name: str, make: Callable[[], Item]) -> Item:
    """Return an item, or one that carries the error, which torch would bury in the worker's traceback."""
    try:
        return make()
    except SatsegError as error:
        return {"failure": Failure(error)}
    except MemoryError:
        return {"failure": Failure(ResourceError(f"Memory ran out while {name} was read: {MEMORY_ADVICE}"))}
    except OSError as error:
        return {"failure": Failure(RasterReadError(f"{name} cannot be read: {reason(error)}."))}


def to_item(name: str, image: np.ndarray, mask: np.ndarray, valid: np.ndarray) -> Item:
    """Convert a sample's arrays to tensors."""
    return {"image": to_tensor(image), "mask": _tensor(mask), "valid": _tensor(valid), "name": name}


def to_tensor(image: np.ndarray) -> Tensor:
    """Convert raw numbers to a tensor; integer types that torch cannot compute with become int32."""
    if image.dtype in (np.uint16, np.uint32, np.int8):
        image = image.astype(np.int32)
    if image.dtype == np.float64:
        image = image.astype(np.float32)
    return _tensor(image)


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(
        np.require(array, requirements=["C", "W"])
    )  # cached arrays are read-only, so they are copied


def collate(items: Sequence[Item]) -> Item:
    """Stack items to a batch; names and seeds become lists. A failed item fails the batch."""
    for item in items:
        if "failure" in item:
            return item
    batch: Item = default_collate([{k: v for k, v in item.items() if k not in LIST_KEYS} for item in items])
    return batch | {key: [item[key] for item in items] for key in LIST_KEYS if key in items[0]}
