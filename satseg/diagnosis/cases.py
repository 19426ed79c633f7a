"""Parts of images that are looked into, all of one size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import label
from torch import Tensor

from satseg.data import SegmentationDataModule
from satseg.data.dataset import to_item
from satseg.data.rasters.raster import Window
from satseg.diagnosis.survey import Spot
from satseg.inference.windows import segment
from satseg.models import SegmentationNetwork

LARGEST = 256  # pixels along a side
STEP = 32
TRIES = 10  # to find a labelled part
REACH = 48  # pixels from a spot's centre that its region extends to: the rest of a large one is its context


@dataclass(frozen=True)
class Case:
    """A part of an image with a region that is predicted as one class.

    Attributes:
        spot: What it is about.
        window: The part.
        image: Raw numbers (1, C, H, W).
        valid: Boolean (1, H, W).
        truth: Class indices (H, W); the ignore index where they are not known.
        predicted: Class indices (H, W).
        own: The whole connected object or error (H, W), boolean.
        near: What of it lies within twice REACH of the spot's centre (H, W): the rest of a vast one is context.
        pixels: The region: what of it lies within REACH of the spot's centre (H, W), boolean.
    """

    spot: Spot
    window: Window
    image: Tensor
    valid: Tensor
    truth: Tensor
    predicted: Tensor
    own: Tensor
    near: Tensor
    pixels: Tensor


class CaseReader:
    """Cuts cases out of a split.

    Args:
        network: In evaluation mode.
        datamodule: Set up.
        split: Name.
    """

    def __init__(self, network: SegmentationNetwork, datamodule: SegmentationDataModule, split: str) -> None:
        self.network, self.reader = network, datamodule.reader
        self.samples = {sample.name: sample for sample in datamodule.samples_of(split)}
        self._sizes = {name: self.reader.size(sample) for name, sample in self.samples.items()}
        self.side = min(LARGEST, -(-max(map(max, self._sizes.values())) // STEP) * STEP)

    @property
    def whole(self) -> bool:
        """Whether every part is a whole image."""
        return all(max(size) <= self.side for size in self._sizes.values())

    def read(self, spots: Sequence[Spot], count: int) -> list[Case]:
        """Return the first cases of which the network says the same when it sees the part alone; none overlap."""
        cases: list[Case] = []
        for spot in spots:
            window = self._window(spot.image, spot.centre)
            if any(c.spot.image == spot.image and _overlap(c.window, window) for c in cases):
                continue  # one thing beside two objects would count twice
            case = self._case(spot, window)
            if case is not None:
                cases.append(case)
            if len(cases) == count:
                break
        return cases

    def objects(self, spots: Sequence[Spot], count: int, seed: int = 0) -> list[Case]:
        """Return true objects of a class as cases, of images chosen at random: chosen by nothing that the network says.

        What stands for the prediction is the truth.
        """
        chosen = np.random.default_rng(seed).permutation(len(spots))[:count]
        return [self._object(spots[i]) for i in sorted(chosen)]

    def _object(self, spot: Spot) -> Case:
        window = self._window(spot.image, spot.centre)
        image, valid, truth = self._part(spot.image, window)
        return Case(spot, window, image, valid, truth, truth, *self._around(spot, window, truth == spot.truth))

    def _around(self, spot: Spot, window: Window, same: Tensor) -> list[Tensor]:
        """Return what is connected to a spot's centre (H, W): all, within twice REACH, and within REACH."""
        labels, _ = label(same.cpu().numpy())
        row, col = spot.centre[0] - window.row, spot.centre[1] - window.col
        rows, cols = np.ogrid[: self.side, : self.side]
        distance = np.hypot(rows - row, cols - col)
        own = labels == labels[row, col]
        return [
            torch.from_numpy(m).to(same.device) for m in (own, own & (distance <= 2 * REACH), own & (distance <= REACH))
        ]

    def around(self, name: str, box: Window) -> tuple[Window, Tensor, Tensor, Tensor]:
        """Return the part around a box's centre, its image (1, C, H, W), valid (1, H, W) and truth (H, W)."""
        window = self._window(name, (box.row + box.height // 2, box.col + box.width // 2))
        return window, *self._part(name, window)

    def spread(self, count: int, seed: int = 0) -> Iterator[tuple[str, Tensor, Tensor, Tensor]]:
        """Give the image's name, image (C, H, W), valid and truth (H, W) of parts in random places, about `count`.

        The split's images come in turn, so that no part follows one of the same image, the first after the last
        either. Nothing is given where the split is one image that is one part.
        """
        generator = np.random.default_rng(seed)
        names = [list(self.samples)[i] for i in generator.permutation(len(self.samples))[:count]]
        if len(names) == 1 and max(self._sizes[names[0]]) <= self.side:
            return
        for name in names * max(1, round(count / len(names))):
            for _ in range(TRIES):
                centre = tuple(int(generator.integers(n)) for n in self._sizes[name])
                image, valid, truth = self._part(name, self._window(name, centre))
                if (truth != self.network.spec.ignore_index).any():
                    break
            yield name, image[0], valid[0], truth

    def _case(self, spot: Spot, window: Window) -> Case | None:
        image, valid, truth = self._part(spot.image, window)
        predicted = segment(self.network, image, valid)[0].argmax(0)
        same = (truth == spot.truth) & (predicted == spot.predicted)
        if not same[spot.centre[0] - window.row, spot.centre[1] - window.col]:
            return None
        return Case(spot, window, image, valid, truth, predicted, *self._around(spot, window, same))

    def _window(self, name: str, centre: Sequence[int]) -> Window:
        starts = [
            max(0, min(middle - self.side // 2, length - self.side))
            for middle, length in zip(centre, self._sizes[name], strict=True)
        ]
        return Window(starts[1], starts[0], self.side, self.side)

    def _part(self, name: str, window: Window) -> tuple[Tensor, Tensor, Tensor]:
        item = to_item(name, *self.reader.read(self.samples[name], window))
        device = next(self.network.parameters()).device
        truth = item["mask"].where(item["valid"], self.network.spec.ignore_index)
        return item["image"][None].to(device), item["valid"][None].to(device), truth.to(device)


def _overlap(one: Window, other: Window) -> bool:
    return abs(one.col - other.col) < one.width and abs(one.row - other.row) < one.height
