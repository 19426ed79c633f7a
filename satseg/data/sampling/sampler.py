"""Sampler of training patches: a pure function of (seed, epoch, index)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from torch.utils.data import Sampler

from satseg.data.rasters.header import Window
from satseg.data.sampling.locations import AreaLocations, PatchLocations


class PatchRequest(NamedTuple):
    """Everything that a dataset needs to make one training patch."""

    sample: int
    window: Window
    seed: int


class PatchBatchSampler(Sampler[list[PatchRequest]]):
    """Batches of windows drawn from images, by default in proportion to their area.

    It counts its own epochs, one per pass; set `epoch` and `skip` (the batches already done) to resume from a
    checkpoint. Its length is always that of a whole epoch. Only full batches are drawn, as models with batch norm on
    pooled features fail on a batch of one; there are never fewer patches than requested.

    Args:
        sizes: Height and width of each image.
        patch_size: Edge of a patch in pixels.
        batch_size: Patches per batch.
        num_patches: Patches per epoch over all ranks; rounded up to whole batches.
        seed: The run's seed.
        zoom: Range of magnifications; a window's edge is the patch's edge divided by a drawn one.
        locations: Chooses the image and the area that the window must contain.
        rank: Rank of this process.
        world_size: Number of processes that share an epoch.
    """

    def __init__(
        self,
        sizes: Sequence[tuple[int, int]],
        *,
        patch_size: int,
        batch_size: int,
        num_patches: int,
        seed: int,
        zoom: tuple[float, float] = (1.0, 1.0),
        locations: PatchLocations | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.sizes = sizes
        self.patch_size, self.batch_size, self.seed, self.zoom = patch_size, batch_size, seed, zoom
        self.num_batches = max(1, math.ceil(num_patches / (batch_size * world_size)))
        self.rank, self.world_size = rank, world_size
        self.epoch, self.skip = 0, 0
        self.locations = locations or AreaLocations(sizes)

    def __len__(self) -> int:
        """Batches per epoch."""
        return self.num_batches

    def __iter__(self) -> Iterator[list[PatchRequest]]:
        """Yield the batches of one epoch, and count the epoch."""
        epoch, skip = self.epoch, self.skip
        self.epoch, self.skip = epoch + 1, 0
        for batch in range(skip, self.num_batches):
            first = (batch * self.world_size + self.rank) * self.batch_size
            yield [self.request(epoch, first + i) for i in range(self.batch_size)]

    def request(self, epoch: int, index: int) -> PatchRequest:
        """Return the request with an index within an epoch."""
        random = np.random.default_rng([self.seed, epoch, index])
        sample, target = self.locations.choose(random)
        low, high = np.log(self.zoom)
        edge = round(self.patch_size / float(np.exp(random.uniform(low, high))))
        height, width = self.sizes[sample]
        wanted = target or Window(0, 0, width, height)
        col = _offset(random, width, edge, wanted.col, wanted.width)
        window = Window(col, _offset(random, height, edge, wanted.row, wanted.height), edge, edge)
        return PatchRequest(sample, window, int(random.integers(2**63)))


def _offset(random: np.random.Generator, length: int, edge: int, start: int, extent: int) -> int:
    """Return a random start of a window that contains the extent from `start` on, as far as it fits.

    If the image is shorter than the window, the window extends beyond both ends.
    """
    first, last = sorted((0, length - edge))
    low, high = sorted((start, start + extent - edge))
    return int(random.integers(max(low, first), min(high, last) + 1))
