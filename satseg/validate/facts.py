"""Records of one pass over a sample's files, on which all checks are based."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from satseg.data.labels.discovery import ClassScheme
from satseg.data.rasters.header import RasterInfo
from satseg.data.samples import Sample
from satseg.errors import SatsegError

SIDES = ("top", "right", "bottom", "left")


@dataclass(frozen=True)
class ScanPlan:
    """Settings for reading samples.

    Attributes:
        scheme: Meaning of the mask values.
        bands: Numbers or names of the bands that training reads; all by default.
        nodata: As for `read_image`.
        drawn: Number of pixels sampled from each image, to relate bands to classes.
    """

    scheme: ClassScheme
    bands: Sequence[int | str] | None
    nodata: float | None
    drawn: int


class Extreme(NamedTuple):
    """The minimum or maximum of a band.

    Attributes:
        value: The extreme value; infinite if no pixel is valid.
        number: Number of pixels with it.
        next: The nearest other valid value; infinite if there is none.
    """

    value: float
    number: int
    next: float


class Fingerprints(NamedTuple):
    """Hashes of some of an image's neighbourhoods, selected by content.

    Attributes:
        keys: The hashes (n,), uint64.
        positions: Row and column of each neighbourhood's upper left corner (n, 2).
        limit: All hashes below it were kept.
    """

    keys: np.ndarray
    positions: np.ndarray
    limit: int


class Borders(NamedTuple):
    """A random sample of horizontal neighbours with different labels.

    Attributes:
        numbers: Valid values of both (bands, 2, n).
        classes: Classes of both (2, n), one of which may be IGNORE_INDEX.
    """

    numbers: np.ndarray
    classes: np.ndarray


class Landmarks(NamedTuple):
    """Distinctive points of an image.

    Attributes:
        descriptors: Descriptor of each point, independent of the image's orientation (n, length), int8.
        positions: Row and column of each (n, 2).
        orientations: Index of ORIENTATIONS that maps each point's canonical patch to the image (n,).
        strengths: Contrast of each (n,).
    """

    descriptors: np.ndarray
    positions: np.ndarray
    orientations: np.ndarray
    strengths: np.ndarray


@dataclass(frozen=True)
class ImageFacts:
    """Measurements of an image's pixels.

    Attributes:
        digest: Hash of all values, their dtype and the size.
        usable: Number of valid pixels: finite, not nodata and not masked.
        nan: Pixels with NaN in any band.
        infinite: Pixels with an infinite value in any band.
        zero: Pixels that are 0 in every band.
        minimum: Lowest valid value by band; NaN if no pixel is valid.
        maximum: Highest valid value by band; NaN if no pixel is valid.
        extremes: Minimum and maximum by band, with their frequency; none for 8-bit images, whose values reach the ends
            of their range.
        flat: Share of pixels by band that equal their left neighbour.
        stepping: Share of the other pixels that differ by 1, by band.
        change: Mean difference of unequal neighbours by band; 0 if all are equal.
        edges: Band means along each side, in the order of SIDES: of the outermost pixels, and averaged over a few
            pixels inwards, (2, length).
        thumbnail: Band means in GRID x GRID cells; None if the image is smaller.
        fingerprints: Fingerprints of the image.
        landmarks: Landmarks of the image.
        drawn: Values (bands, n) of randomly sampled valid and labelled pixels.
        classes: Their classes (n,).
        borders: Sampled pairs along class borders.
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
    thumbnail: np.ndarray | None
    fingerprints: Fingerprints
    landmarks: Landmarks
    drawn: np.ndarray
    classes: np.ndarray
    borders: Borders

    @property
    def is_constant(self) -> bool:
        """True if every band is constant."""
        return self.usable > 0 and self.minimum == self.maximum


@dataclass(frozen=True)
class MaskFacts:
    """Statistics of a mask's values.

    Attributes:
        known: Number of pixels by value (or packed colour) that is a class or ignored.
        outside: Number of pixels by any other value; the most common values, up to the largest number of classes.
        num_outside: Number of pixels with such a value.
        distinct: Number of such values, up to a limit.
        thin: Share of these pixels in stripes of at most four pixels.
        near: Share of these pixels whose value is close to a known one.
        lossy: True if the file's compression changes values.
        thresholded: Results of applying THRESHOLD to the values outside; None if it would change those of classes, too.
        ignored: Number of pixels of no class: ignored values, nodata, transparent.
        class_pixels: Number of counted pixels by class: labelled, and valid in the image.
        labelled: Number of labelled pixels by class.
    """

    known: Mapping[int, int]
    outside: Mapping[float, int]
    num_outside: int
    distinct: int
    thin: float
    near: float
    lossy: bool
    thresholded: tuple[int, ...] | None
    ignored: int
    class_pixels: np.ndarray
    labelled: np.ndarray


@dataclass
class Facts:
    """All facts about one sample; a part is None if its file could not be read.

    Attributes:
        sample: The sample.
        faults: Errors by file.
        headers: Headers of the two files, as far as they can be read.
        image_info: The image's header; that of its part, if the sample is one.
        mask_info: The mask's header, on the image's pixel grid if possible.
        image: Measurements of the image.
        mask: Statistics of the mask.
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
        """Number of pixels of the image."""
        return self.image_info.width * self.image_info.height if self.image_info else 0
