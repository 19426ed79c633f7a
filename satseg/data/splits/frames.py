"""Frames: images located in a common plane, on the ground or in pixels, from which blocks are cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rasterio import Affine

from satseg.data.rasters.header import RasterInfo, read_info
from satseg.data.rasters.names import natural_key
from satseg.data.samples import Sample

Box = tuple[float, float, float, float]  # left, top, right, bottom; y goes down


@dataclass(frozen=True)
class Frame:
    """Images in one plane: all those of one CRS, or a single image without a georeference.

    Distances between images of different frames are unknown.

    Attributes:
        samples: In natural order of their names.
        infos: Headers of the images.
        boxes: Left, top, right and bottom (N, 4), y down, in units of the CRS or in pixels.
        placed: Whether the images are georeferenced.
    """

    samples: list[Sample]
    infos: list[RasterInfo]
    boxes: np.ndarray
    placed: bool

    @property
    def name(self) -> str:
        """Prefix of block names, independent of how library versions write a CRS."""
        return self.samples[0].name

    @property
    def pixel(self) -> float:
        """Pixel edge of the first image, in units of the frame."""
        left, _, right, _ = self.boxes[0]
        return float(right - left) / self.infos[0].width

    @property
    def pixel_m(self) -> float | None:
        """Shorter pixel edge of the first image in metres on the ground; None if unknown."""
        return None if self.infos[0].pixel_m is None else min(self.infos[0].pixel_m)


def frames_of(samples: Sequence[Sample]) -> list[Frame]:
    """Return one frame for the images of each CRS, and one for every image without a CRS."""
    found: dict[str, list[tuple[Sample, RasterInfo, Box]]] = {}
    for sample in sorted(samples, key=lambda s: natural_key(s.name)):
        info = read_info(sample.image)
        box = _on_the_ground(info)
        key = f"\0{sample.name}" if box is None else str(info.crs)
        found.setdefault(key, []).append((sample, info, box or (0.0, 0.0, float(info.width), float(info.height))))
    return [
        Frame([s for s, _, _ in own], [i for _, i, _ in own], np.array([b for _, _, b in own]), key[0] != "\0")
        for key, own in found.items()
    ]


def _on_the_ground(info: RasterInfo) -> Box | None:
    """Return a box in units of the CRS with y down; None if the image is not georeferenced or is rotated."""
    if info.crs is None or info.transform is None:
        return None
    a, b, c, d, e, f = info.transform
    if b or d or a <= 0 or e >= 0:
        return None
    right, bottom = Affine(*info.transform) @ (info.width, info.height)
    return c, -f, right, -bottom
