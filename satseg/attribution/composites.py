"""Composites of two pictures: an object of one with the surroundings, tone, spectrum or position of the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.ndimage import distance_transform_edt, gaussian_filter

MARGIN = 8  # pixels around an object that are kept with it
FOOTPRINT = 4  # pixels around a donor's objects that are not transferred with its surroundings
FEATHER = 4  # width of the blend between the two, in pixels
MAX_OBJECT_COVER = 0.4  # largest share of a picture left out as objects, so that enough remains to transfer
BLUR_SIGMA = 4.0  # in pixels; separates coarse from fine content
SPECTRUM_SIGMA = 1.5  # smoothing of a power spectrum, in frequency bins
MAX_GAIN = 4.0  # largest factor by which a frequency is amplified or attenuated
MIN_RELATIVE_POWER = 1e-8  # floor relative to the strongest frequency


@dataclass(frozen=True, eq=False)
class Picture:
    """A part of an image around an object.

    Attributes:
        image: Raw values (C, H, W), float32.
        valid: Boolean (H, W).
        region: Pixels whose prediction is evaluated (H, W), boolean.
        own: The object they are part of, which is never replaced (H, W), boolean.
        objects: Pixels that are not transferred to another picture (H, W), boolean.
        centre: Row and column of the region's centre.
    """

    image: np.ndarray
    valid: np.ndarray
    region: np.ndarray
    own: np.ndarray
    objects: np.ndarray
    centre: tuple[int, int]

    @cached_property
    def replaceable(self) -> np.ndarray:
        """Weight for replacing each pixel (H, W), 0 to 1: 0 within MARGIN of the object and where invalid."""
        made: np.ndarray = _ramp(self.own, MARGIN) * self.valid
        return made

    @cached_property
    def transferable(self) -> np.ndarray:
        """Weight for transferring each pixel to another picture (H, W), 0 to 1."""
        made: np.ndarray = _ramp(self.objects, FOOTPRINT) * self.valid
        return made

    @cached_property
    def outside(self) -> np.ndarray:
        """Pixels outside objects (H, W), boolean; independent of the region, whose size differs by class."""
        apart: np.ndarray = self.transferable > 0
        return apart if apart.any() else self.valid

    @cached_property
    def tone(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of each band outside objects (C,)."""
        seen = self.image[:, self.outside].astype(np.float64)
        return seen.mean(1), seen.std(1)

    @cached_property
    def coarse(self) -> np.ndarray:
        """The image without its fine detail (C, H, W); invalid pixels have no weight."""
        return _smooth(self.image, self.valid, BLUR_SIGMA)

    @cached_property
    def power(self) -> np.ndarray:
        """Smoothed power by frequency of each band outside objects (C, H, W // 2 + 1), as `np.fft.rfft2` orders it."""
        background = np.where(self.outside, self.image, _smooth(self.image, self.outside, BLUR_SIGMA))
        window = np.outer(np.hanning(self.valid.shape[0] + 2)[1:-1], np.hanning(self.valid.shape[1] + 2)[1:-1])
        level = self.tone[0][:, None, None]
        spectrum = np.abs(np.fft.fft2((background - level) * window)) ** 2
        spectrum /= (window**2)[self.outside].sum()  # the content under objects is smooth, without power
        smooth = gaussian_filter(spectrum, (0, SPECTRUM_SIGMA, SPECTRUM_SIGMA), mode="wrap")[
            :, :, : spectrum.shape[2] // 2 + 1
        ]
        floor = np.maximum(MIN_RELATIVE_POWER * smooth.max((1, 2), keepdims=True), np.finfo(np.float32).tiny)
        made: np.ndarray = np.maximum(smooth, floor).astype(np.float32)
        return made


def swap_surroundings(recipient: Picture, donor: Picture, part: np.ndarray | None = None) -> np.ndarray:
    """Return the recipient's object in the donor's surroundings (C, H, W), each pixel from the same place.

    Args:
        recipient: Keeps its object, MARGIN pixels around it, and what lies where the donor's objects are.
        donor: Provides the rest.
        part: Pixels that may be replaced (H, W), boolean; all by default.
    """
    amount = swap_weight(recipient, donor, part)
    return _mixed(recipient.image, donor.image, amount)


def swap_weight(recipient: Picture, donor: Picture, part: np.ndarray | None = None) -> np.ndarray:
    """Return the weight of the donor in each pixel (H, W), 0 to 1."""
    amount = recipient.replaceable * donor.transferable
    made: np.ndarray = amount if part is None else amount * part
    return made


def swap_coarse(recipient: Picture, donor: Picture) -> np.ndarray:
    """Return the recipient with the donor's coarse content in its surroundings, and its own fine detail (C, H, W)."""
    made: np.ndarray = recipient.image + swap_weight(recipient, donor) * np.where(
        donor.valid & recipient.valid, donor.coarse - recipient.coarse, 0
    )
    return made


def swap_fine(recipient: Picture, donor: Picture) -> np.ndarray:
    """Return the recipient with the donor's fine detail in its surroundings, and its own coarse content (C, H, W)."""
    content = np.where(donor.valid, donor.image - donor.coarse + recipient.coarse, 0)
    return _mixed(recipient.image, content, swap_weight(recipient, donor))


def swap_level(recipient: Picture, donor: Picture) -> np.ndarray:
    """Return the recipient with the mean of its surroundings matched to the donor's band by band (C, H, W)."""
    step = (donor.tone[0] - recipient.tone[0])[:, None, None]
    made: np.ndarray = (recipient.image + recipient.replaceable * step).astype(np.float32)
    return made


def swap_bands(recipient: Picture, donor: Picture, bands: Sequence[int]) -> np.ndarray:
    """Return the recipient with some bands of its surroundings from the donor (C, H, W)."""
    made = recipient.image.copy()
    made[list(bands)] = swap_surroundings(recipient, donor)[list(bands)]
    return made


def match_tone(
    recipient: Picture, donor: Picture, bands: Sequence[int] | None = None, spread: bool = True
) -> np.ndarray:
    """Return the whole recipient, including its object, with the donor's brightness, colour and contrast (C, H, W).

    Each band's mean and, with `spread`, its standard deviation outside objects become the donor's.
    """
    made = recipient.image.astype(np.float32).copy()
    for band in range(len(made)) if bands is None else bands:
        (mean, deviation), (wanted, wide) = ([v[band] for v in picture.tone] for picture in (recipient, donor))
        factor = np.clip(wide / deviation, 1 / MAX_GAIN, MAX_GAIN) if spread and deviation > 0 and wide > 0 else 1.0
        made[band] = (recipient.image[band] - mean) * factor + wanted
    return np.where(recipient.valid, made, recipient.image)


def match_spectrum(recipient: Picture, donor: Picture) -> np.ndarray:
    """Return the whole recipient, including its object, with the donor's power spectrum (C, H, W).

    Removes, or adds, stripes, blur and noise that fill a picture; brightness is unchanged.
    """
    gain = np.sqrt(np.clip(donor.power.astype(np.float64) / recipient.power, MAX_GAIN**-2, MAX_GAIN**2))
    gain[:, 0, 0] = 1
    level = recipient.tone[0][:, None, None]
    filled = np.where(recipient.valid, recipient.image, level)
    made = np.fft.irfft2(np.fft.rfft2(filled - level) * gain, filled.shape[1:]) + level
    return np.where(recipient.valid, made, recipient.image).astype(np.float32)


def move_object(recipient: Picture, donor: Picture) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return image, valid and region of the recipient, shifted so that its object lies where the donor's does.

    Edges are filled by reflection; the region is the part of it that remains in the picture.
    """
    steps = [to - own for to, own in zip(donor.centre, recipient.centre, strict=True)]
    sides = recipient.valid.shape
    taken = [np.arange(side) - step for side, step in zip(sides, steps, strict=True)]
    inside = [(t >= 0) & (t < side) for t, side in zip(taken, sides, strict=True)]
    rows, cols = (
        np.where(t < 0, -1 - t, np.where(t >= n, 2 * n - 1 - t, t)) for t, n in zip(taken, sides, strict=True)
    )
    grid = np.ix_(rows, cols)
    region = recipient.region[grid] & np.outer(*inside)
    return recipient.image[:, rows][:, :, cols], recipient.valid[grid], region


def _ramp(objects: np.ndarray, margin: float) -> np.ndarray:
    """Return weights (H, W): 0 up to `margin` from objects, 1 from FEATHER pixels farther, linear in between."""
    if not objects.any():
        return np.ones(objects.shape, np.float32)
    distance = distance_transform_edt(~objects)
    made: np.ndarray = np.clip((distance - margin) / FEATHER, 0, 1).astype(np.float32)
    return made


def _mixed(image: np.ndarray, other: np.ndarray, amount: np.ndarray) -> np.ndarray:
    """Return a blend (C, H, W) that ignores the other image where its weight is 0, as it may be NaN there."""
    mixed = image * (1 - amount) + np.where(amount > 0, other, 0) * amount
    return np.where(amount > 0, mixed, image).astype(np.float32)


def _smooth(image: np.ndarray, valid: np.ndarray, deviation: float) -> np.ndarray:
    known = valid.astype(np.float32)
    weight = gaussian_filter(known, deviation) + 1e-6
    return np.stack(
        [gaussian_filter(np.where(valid, band, 0).astype(np.float32), deviation) / weight for band in image]
    )
