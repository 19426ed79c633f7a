"""Cases: parts of images around a connected component, all of one size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import label
from torch import Tensor

from satseg.data import SegmentationDataModule
from satseg.data.dataset import to_item
from satseg.data.rasters.header import Window
from satseg.diagnosis.survey import Component
from satseg.inference.windows import segment
from satseg.models import SegmentationNetwork

MAX_SIDE = 256  # pixels along a side
STEP = 32
MAX_ATTEMPTS = 10  # at finding a labelled part
REACH = 48  # pixels from a component's centre that its region extends to; the rest of a large one is context


@dataclass(frozen=True)
class Case:
    """A part of an image with a region that is predicted as one class.

    Attributes:
        component: The component that it shows.
        window: The part of the image.
        image: Raw numbers (1, C, H, W).
        valid: Boolean (1, H, W).
        truth: Class indices (H, W); the ignore index where unknown.
        predicted: Class indices (H, W).
        own: The whole connected object or error (H, W), boolean.
        near: Its pixels within twice REACH of the component's centre (H, W); the rest of a very large one is context.
        pixels: The region: its pixels within REACH of the component's centre (H, W), boolean.
    """

    component: Component
    window: Window
    image: Tensor
    valid: Tensor
    truth: Tensor
    predicted: Tensor
    own: Tensor
    near: Tensor
    pixels: Tensor


class CaseReader:
    """Reader of cases from a split.

    Args:
        network: In evaluation mode.
        datamodule: Set up.
        split: Name of the split.
    """

    def __init__(self, network: SegmentationNetwork, datamodule: SegmentationDataModule, split: str) -> None:
        self.network, self.reader = network, datamodule.reader
        self.samples = {sample.name: sample for sample in datamodule.samples_of(split)}
        self._sizes = {name: self.reader.size(sample) for name, sample in self.samples.items()}
        self.side = min(MAX_SIDE, -(-max(map(max, self._sizes.values())) // STEP) * STEP)

    @property
    def whole_images(self) -> bool:
        """True if every part is a whole image."""
        return all(max(size) <= self.side for size in self._sizes.values())

    def read(self, components: Sequence[Component], count: int) -> list[Case]:
        """Return the first cases whose prediction is the same when the network sees only the part; none overlap."""
        cases: list[Case] = []
        for component in components:
            window = self._window(component.image, component.centre)
            if any(c.component.image == component.image and _overlap(c.window, window) for c in cases):
                continue  # one cue beside two objects would count twice
            case = self._case(component, window)
            if case is not None:
                cases.append(case)
            if len(cases) == count:
                break
        return cases

    def objects(self, components: Sequence[Component], count: int, seed: int = 0) -> list[Case]:
        """Return true objects of a class as cases, chosen at random and independently of the predictions.

        The truth takes the place of the prediction.
        """
        chosen = np.random.default_rng(seed).permutation(len(components))[:count]
        return [self._object(components[i]) for i in sorted(chosen)]

    def _object(self, component: Component) -> Case:
        window = self._window(component.image, component.centre)
        image, valid, truth = self._part(component.image, window)
        return Case(
            component, window, image, valid, truth, truth, *self._around(component, window, truth == component.truth)
        )

    def _around(self, component: Component, window: Window, same: Tensor) -> list[Tensor]:
        """Return the pixels connected to a component's centre (H, W): all, within twice REACH, and within REACH."""
        labels, _ = label(same.cpu().numpy())
        row, col = component.centre[0] - window.row, component.centre[1] - window.col
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
        """Yield the image's name, image (C, H, W), valid and truth (H, W) of about `count` parts in random places.

        Images take turns, so that no two consecutive parts are of the same image, nor are the last and the first.
        Yields nothing if the split is one image that is one part.
        """
        generator = np.random.default_rng(seed)
        names = [list(self.samples)[i] for i in generator.permutation(len(self.samples))[:count]]
        if len(names) == 1 and max(self._sizes[names[0]]) <= self.side:
            return
        for name in names * max(1, round(count / len(names))):
            for _ in range(MAX_ATTEMPTS):
                centre = tuple(int(generator.integers(n)) for n in self._sizes[name])
                image, valid, truth = self._part(name, self._window(name, centre))
                if (truth != self.network.spec.ignore_index).any():
                    break
            yield name, image[0], valid[0], truth

    def _case(self, component: Component, window: Window) -> Case | None:
        image, valid, truth = self._part(component.image, window)
        predicted = segment(self.network, image, valid)[0].argmax(0)
        same = (truth == component.truth) & (predicted == component.predicted)
        if not same[component.centre[0] - window.row, component.centre[1] - window.col]:
            return None
        return Case(component, window, image, valid, truth, predicted, *self._around(component, window, same))

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
