"""Augmentation of image and mask together, for any number of bands."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import interpolate

from satseg.spec import InputSpec

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Augmentation:
    """What may happen to a training patch; each by chance, all from the one seed of the patch.

    Attributes:
        quarter_turns: Turn by 0, 90, 180 or 270 degrees.
        flips: Mirror.
        zoom: Range of magnifications; the sampler draws from it.
        brightness: Largest shift of all bands, at unit scale.
        contrast: Largest relative change of the distance from the patch's mean, by band.
        gamma: Largest relative change of the exponent that unit values are raised to.
        noise: Largest deviation of Gaussian noise, at unit scale.
        band_shift: Largest shift of a single band, at unit scale; changes colours.
    """

    quarter_turns: bool = False
    flips: bool = False
    zoom: tuple[float, float] = (1.0, 1.0)
    brightness: float = 0.0
    contrast: float = 0.0
    gamma: float = 0.0
    noise: float = 0.0
    band_shift: float = 0.0

    def __call__(
        self, image: np.ndarray, mask: np.ndarray, valid: np.ndarray, seed: int, spec: InputSpec, patch_size: int
    ) -> Arrays:
        """Augment one patch; the same seed gives the same result.

        Args:
            image: Raw numbers (bands, height, width).
            mask: uint8 (height, width); never interpolated.
            valid: Boolean (height, width); pixels that are not valid keep their numbers.
            seed: From the sampler.
            spec: How raw numbers become unit scale.
            patch_size: Edge of the result in pixels.

        Returns:
            The three arrays at (patch_size, patch_size), the image in its own dtype.
        """
        random = np.random.default_rng(seed)
        image, mask, valid = resize(image, mask, valid, patch_size)
        turns = int(random.integers(4)) if self.quarter_turns else 0
        flip = self.flips and random.random() < 0.5
        image, mask, valid = (_turn(a, turns, flip) for a in (image, mask, valid))
        if self.brightness or self.contrast or self.gamma or self.noise or self.band_shift:
            image = np.where(valid, self._photometric(image, valid, random, spec), image)
        return image, mask, valid

    def _photometric(
        self, image: np.ndarray, valid: np.ndarray, random: np.random.Generator, spec: InputSpec
    ) -> np.ndarray:
        unit = (image.astype(np.float32) - np.float32(spec.offset)) / np.float32(spec.scale)
        unit = np.where(valid, unit, 0)  # nodata may be anything, also not a number
        bands = (len(image), 1, 1)

        def draw(limit: float, shape: tuple[int, ...] = ()) -> np.ndarray:
            return np.asarray(random.uniform(-limit, limit, shape), np.float32)

        if self.gamma:
            unit = np.sign(unit) * np.abs(unit) ** np.exp(draw(self.gamma))
        if self.contrast:
            mean = unit.sum((1, 2), keepdims=True) / max(1, np.count_nonzero(valid))  # of valid pixels
            unit = mean + (unit - mean) * (1 + draw(self.contrast))
        unit = unit + draw(self.brightness) + draw(self.band_shift, bands)
        if self.noise:
            deviation = np.float32(abs(draw(self.noise)))
            unit = unit + deviation * random.standard_normal(unit.shape, np.float32)
        return _to_raw(unit * np.float32(spec.scale) + np.float32(spec.offset), image.dtype)


def _to_raw(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    if not np.issubdtype(dtype, np.integer):
        return values.astype(dtype)
    limits = np.iinfo(dtype)
    rounded: np.ndarray = np.clip(np.rint(values), limits.min, limits.max).astype(dtype)
    return rounded


def _turn(array: np.ndarray, turns: int, flip: bool) -> np.ndarray:
    turned: np.ndarray = np.rot90(array, turns, axes=(-2, -1))
    return turned[..., ::-1] if flip else turned


def resize(image: np.ndarray, mask: np.ndarray, valid: np.ndarray, size: int) -> Arrays:
    """Resize a square patch: bilinear for the image, nearest for mask and valid pixels.

    A pixel that bilinear weights mix with an invalid one is invalid too.
    """
    if mask.shape == (size, size):
        return image, mask, valid
    places = np.minimum(((np.arange(size) + 0.5) * mask.shape[0] / size).astype(int), mask.shape[0] - 1)
    mask = mask[np.ix_(places, places)]
    stacked = torch.from_numpy(np.concatenate([image.astype(np.float32), valid[None].astype(np.float32)]))
    stacked = torch.nan_to_num(stacked)
    resized = interpolate(stacked[None], size=(size, size), mode="bilinear", align_corners=False)[0].numpy()
    return _to_raw(resized[:-1], image.dtype), mask, resized[-1] > 1 - 1e-4
