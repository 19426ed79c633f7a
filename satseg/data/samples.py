"""Samples of a dataset: an image and its mask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from satseg.data.rasters.raster import Window
from satseg.errors import SatsegError


@dataclass(frozen=True)
class Sample:
    """One image, or a part of one, and its mask; the name is unique in its dataset and the same on every machine.

    Attributes:
        band_files: The user's own files, where the image is a stack of them.
        label_files: The user's own files, where the mask is drawn from polygons.
        window: The part of the image; all by default.
    """

    name: str
    image: Path
    mask: Path
    band_files: tuple[Path, ...] = ()
    window: Window | None = None
    label_files: tuple[Path, ...] = ()

    @property
    def file(self) -> Path:
        """The user's own file of the image; the first, where it is a stack of them."""
        return self.band_files[0] if self.band_files else self.image

    @property
    def mask_file(self) -> Path:
        """The user's own file of the mask."""
        return self.label_files[0] if self.label_files else self.mask

    def by_file(self) -> list[Sample]:
        """Return a sample of the same name and window for each of the user's files of the image and of the mask."""
        images, masks = self.band_files or (self.image,), self.label_files or (self.mask,)
        return [Sample(self.name, image, mask, (), self.window) for mask in masks for image in images]

    def part(self, window: Window) -> Sample:
        """Return the sample that is a part of this one, named after it and the window."""
        return replace(self, name=f"{self.name}_{'_'.join(map(str, window))}", window=window)


@dataclass(frozen=True)
class Pairs:
    """What a dataset's files make, and what is wrong with single ones.

    Attributes:
        samples: Images with their masks.
        unpaired: Files that should have a partner and have none, by kind: `image`, `mask`.
        faults: Files that no sample can be made of, and why.
    """

    samples: list[Sample]
    unpaired: Mapping[str, Sequence[Path]] = field(default_factory=dict)
    faults: Sequence[tuple[Path, SatsegError]] = ()
