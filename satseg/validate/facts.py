"""What one reading of a sample's files leaves: small records, from which all checks are made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from satseg.data.labels.discovery import ClassScheme
from satseg.data.rasters.raster import RasterInfo
from satseg.data.samples import Sample
from satseg.errors import SatsegError

SIDES = ("top", "right", "bottom", "left")


@dataclass(frozen=True)
class ScanPlan:
    """How samples are read.

    Attributes:
        scheme: What mask values mean.
        bands: Numbers or names of the bands that training reads; all by default.
        nodata: As for `read_image`.
        drawn: Pixels that are kept of each image, for what bands tell of classes.
    """

    scheme: ClassScheme
    bands: Sequence[int | str] | None
    nodata: float | None
    drawn: int


class Extreme(NamedTuple):
    """The lowest or the highest number of a band.

    Attributes:
        value: Infinite where no pixel is usable.
        number: Pixels that have it.
        next: The usable number that comes next to it; infinite where there is none.
    """

    value: float
    number: int
    next: float


class Fingerprints(NamedTuple):
    """Hashes of some of an image's places, chosen by what these hold.

    Attributes:
        keys: The hashes (n,), uint64.
        places: Row and column of each place's upper left corner (n, 2).
        limit: All hashes below it were kept.
    """

    keys: np.ndarray
    places: np.ndarray
    limit: int


class Borders(NamedTuple):
    """Neighbours in a row whose labels differ, drawn at random.

    Attributes:
        numbers: Of the two (bands, 2, n), usable.
        classes: Their classes (2, n), of which one may be IGNORE_INDEX.
    """

    numbers: np.ndarray
    classes: np.ndarray


class Landmarks(NamedTuple):
    """Places of an image that stand out.

    Attributes:
        numbers: That describe what is around each, however the image lies (n, numbers), int8.
        places: Row and column of each (n, 2).
        turns: How each lies: the index of TURNS that leads from what is described to the image (n,).
        strengths: How much each stands out (n,).
    """

    numbers: np.ndarray
    places: np.ndarray
    turns: np.ndarray
    strengths: np.ndarray


@dataclass(frozen=True)
class ImageFacts:
    """An image's pixels.

    Attributes:
        digest: Of all numbers, their dtype and the size.
        usable: Pixels that are not nodata, masked or not finite.
        nan: Pixels with NaN in a band.
        infinite: Pixels with an infinite number in a band.
        zero: Pixels that are 0 in every band.
        minimum: Lowest usable number by band; NaN where no pixel is usable.
        maximum: Highest, the same.
        extremes: Lowest and highest by band, with how often they come; none for images of 8 bits, whose numbers reach
            the ends of their range.
        flat: Share of pixels by band that equal their left neighbour.
        stepping: Of those that do not, the share that differ by 1.
        change: Mean difference of these by band; 0 where all are equal.
        edges: Mean over the bands along each side, in the order of SIDES: of the outermost pixels, and of some more
            pixels from the edge inwards, (2, length).
        small: The mean over the bands in GRID x GRID cells; None where the image is smaller.
        fingerprints: Of places in it.
        landmarks: Places that stand out.
        drawn: Numbers (bands, n) of pixels drawn at random, usable and labelled.
        classes: Their classes (n,).
        borders: Of the classes in it.
    """

    digest: str
    usable: int
    nan: int
    infinite: int
    zero: int
    minimum: tuple[float, ...]
    maximum: tuple[float, ...]
    extremes: tuple[tuple[Extreme, Extreme], ...]
    flat: tuple[float, ...]
    stepping: tuple[float, ...]
    change: tuple[float, ...]
    edges: tuple[np.ndarray, ...]
    small: np.ndarray | None
    fingerprints: Fingerprints
    landmarks: Landmarks
    drawn: np.ndarray
    classes: np.ndarray
    borders: Borders

    @property
    def is_constant(self) -> bool:
        """Whether every band holds one number only."""
        return self.usable > 0 and self.minimum == self.maximum


@dataclass(frozen=True)
class MaskFacts:
    """A mask's values.

    Attributes:
        known: Pixels by value (or packed colour) that is a class or ignored.
        outside: Pixels by value that is neither; the most common ones, as many as there may be classes.
        num_outside: Pixels with such a value.
        distinct: How many such values there are, up to a limit.
        thin: Share of these pixels in stripes of at most four pixels.
        near: Share of these pixels whose value is close to a known one.
        lossy: Whether the file's compression changes values.
        cut: What a threshold (THRESHOLD) makes of values outside; None where it would change the classes', too.
        ignored: Pixels that are no class: ignored values, nodata, transparent.
        class_pixels: Pixels that count, by class: labelled, where the image is usable.
        labelled: Pixels by class, wherever they are.
    """

    known: Mapping[int, int]
    outside: Mapping[float, int]
    num_outside: int
    distinct: int
    thin: float
    near: float
    lossy: bool
    cut: tuple[int, ...] | None
    ignored: int
    class_pixels: np.ndarray
    labelled: np.ndarray


@dataclass
class Facts:
    """All that is known of one sample; a part is None where its file could not be read.

    Attributes:
        sample: Which one.
        faults: What went wrong, by file.
        headers: Of the two files, as far as they can be read.
        image_info: The image's header; that of its part, where the sample is one.
        mask_info: The mask's, on the pixels of that where they can be had.
        image: The image's pixels.
        mask: The mask's values.
    """

    sample: Sample
    faults: dict[str, SatsegError] = field(default_factory=dict)
    headers: tuple[RasterInfo | None, RasterInfo | None] = (None, None)
    image_info: RasterInfo | None = None
    mask_info: RasterInfo | None = None
    image: ImageFacts | None = None
    mask: MaskFacts | None = None

    @property
    def name(self) -> str:
        """The sample's name."""
        return self.sample.name

    @property
    def image_file(self) -> str:
        """The user's own image file, or the first of a stack of them."""
        return str(self.sample.by_file()[0].image)

    @property
    def mask_file(self) -> str:
        """The user's own mask file."""
        return str(self.sample.mask_file)

    @property
    def pixels(self) -> int:
        """Pixels of the image."""
        return self.image_info.width * self.image_info.height if self.image_info else 0
