"""Where images lie in the plane that blocks are cut from: on the ground, or in their own pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rasterio import Affine

from satseg.data.rasters.names import natural_key
from satseg.data.rasters.raster import RasterInfo, read_info
from satseg.data.samples import Sample

Box = tuple[float, float, float, float]  # left, top, right, bottom; y goes down


@dataclass(frozen=True)
class Frame:
    """Images in one plane: all with the same CRS, or a single one that has no place on the ground.

    Distances between images of different frames are not known.

    Attributes:
        samples: In natural order of their names.
        infos: Header of each.
        boxes: Left, top, right and bottom (N, 4) of each, y down: in units of the CRS, or in pixels.
        placed: Whether the images have a place on the ground.
    """

    samples: list[Sample]
    infos: list[RasterInfo]
    boxes: np.ndarray
    placed: bool

    @property
    def name(self) -> str:
        """What its blocks are named after: nothing that another version of a library would write otherwise."""
        return self.samples[0].name

    @property
    def pixel(self) -> float:
        """Edge of the first image's pixels."""
        left, _, right, _ = self.boxes[0]
        return float(right - left) / self.infos[0].width

    @property
    def pixel_m(self) -> float | None:
        """The same in metres on the ground, where it is known; the shorter edge of pixels that are not square there."""
        return None if self.infos[0].pixel_m is None else min(self.infos[0].pixel_m)


def frames_of(samples: Sequence[Sample]) -> list[Frame]:
    """Put images of one CRS into one frame, and each of the others into a frame of its own."""
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
    """Return a box in units of the CRS with y down; None where the image has no place, or is turned."""
    if info.crs is None or info.transform is None:
        return None
    a, b, c, d, e, f = info.transform
    if b or d or a <= 0 or e >= 0:
        return None
    right, bottom = Affine(*info.transform) @ (info.width, info.height)
    return c, -f, right, -bottom
