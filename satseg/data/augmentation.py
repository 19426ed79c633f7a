"""Augmentation of image and mask together, for any number of bands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from satseg.spec import InputSpec

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]
ROW_PADDING = 8  # pixels: rows whose length is a power of two take three times as long to transpose


@dataclass(frozen=True)
class Augmentation:
    """Random transforms of a training patch, all drawn from the seed of the patch.

    Attributes:
        quarter_turns: Rotate by 0, 90, 180 or 270 degrees.
        flips: Mirror.
        zoom: Range of magnifications, drawn by the sampler.
        brightness: Largest shift of all bands, at unit scale.
        contrast: Largest relative change of the distance from the patch's mean, per band.
        gamma: Largest relative change of the exponent applied to unit values.
        noise: Largest standard deviation of Gaussian noise, at unit scale.
        band_shift: Largest shift of a single band, at unit scale; alters colours.
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
            valid: Boolean (height, width); invalid pixels keep their numbers.
            seed: Seed of the patch, from the sampler.
            spec: Scaling of raw numbers to unit scale.
            patch_size: Edge of the result in pixels.

        Returns:
            The three arrays at (patch_size, patch_size), the image in its original dtype.
        """
        image, mask, valid = self.geometric(image, mask, valid, seed, patch_size)
        if self.has_photometric:
            raw, usable = torch.from_numpy(image.astype(np.float32)), torch.from_numpy(valid.copy())
            changed = self.photometric(raw[None], usable[None], [seed], spec)[0].numpy()
            image = np.where(valid, changed.astype(image.dtype), image)
        return image, mask, valid

    @property
    def has_photometric(self) -> bool:
        """Whether any photometric transform is on."""
        return any((self.brightness, self.contrast, self.gamma, self.noise, self.band_shift))

    def geometric(self, image: np.ndarray, mask: np.ndarray, valid: np.ndarray, seed: int, patch_size: int) -> Arrays:
        """Apply the geometric transforms to one patch: resize, rotate and mirror."""
        turns, flip = self._draw_geometric(np.random.default_rng(seed))
        image, mask, valid = resize(image, mask, valid, patch_size)
        image, mask, valid = (_turn(a, turns, flip) for a in (image, mask, valid))
        return image, mask, valid

    def _draw_geometric(self, random: np.random.Generator) -> tuple[int, bool]:
        return int(random.integers(4)) if self.quarter_turns else 0, self.flips and random.random() < 0.5

    def photometric(self, image: Tensor, valid: Tensor, seeds: Sequence[int], spec: InputSpec) -> Tensor:
        """Apply the photometric transforms to a batch, on its own device.

        Args:
            image: Raw numbers (N, C, H, W).
            valid: Boolean (N, H, W); invalid pixels keep their numbers.
            seeds: One per patch.
            spec: Scaling of raw numbers to unit scale.

        Returns:
            The batch in its own dtype, clipped to the range of the stored dtype if that is an integer type.
        """
        drawn = [self._draw_photometric(seed, image.shape[1]) for seed in seeds]
        gamma, contrast, shift, noise = (
            torch.tensor(np.stack(values), device=image.device)[..., None, None] for values in zip(*drawn, strict=True)
        )
        usable = valid[:, None]
        unit = (image.float() - spec.offset) / spec.scale
        unit = unit.masked_fill(~usable, 0)  # nodata may be any value, even NaN
        if self.gamma:
            unit = unit.sign() * unit.abs() ** gamma
        if self.contrast:
            mean = unit.sum((2, 3), keepdim=True) / usable.sum((2, 3), keepdim=True).clamp(min=1)  # of valid pixels
            unit = mean + (unit - mean) * contrast
        unit = unit + shift
        if self.noise:
            unit = unit + noise * torch.stack([_normal(seed, unit[0]) for seed in seeds])
        return torch.where(usable, _as_stored(unit * spec.scale + spec.offset, image.dtype, spec.dtype), image)

    def _draw_photometric(self, seed: int, bands: int) -> tuple[np.ndarray, ...]:
        """Return random gamma, contrast, shift per band and noise deviation, drawn after those of `geometric`."""
        random = np.random.default_rng(seed)
        self._draw_geometric(random)

        def draw(limit: float, count: int = 1) -> np.ndarray:
            return np.asarray(random.uniform(-limit, limit, count) if limit else np.zeros(count), np.float32)

        gamma, contrast = np.exp(draw(self.gamma)), 1 + draw(self.contrast)
        return gamma, contrast, draw(self.brightness) + draw(self.band_shift, bands), abs(draw(self.noise))


def _normal(seed: int, like: Tensor) -> Tensor:
    generator = torch.Generator(like.device).manual_seed(seed % 2**63)
    return torch.randn(like.shape, generator=generator, device=like.device)


def _as_stored(values: Tensor, dtype: torch.dtype, stored: str) -> Tensor:
    if dtype.is_floating_point and np.issubdtype(np.dtype(stored), np.floating):
        return values.to(dtype)
    limits = np.iinfo(stored)
    return values.round().clamp(limits.min, limits.max).to(dtype)


def _to_raw(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    if not np.issubdtype(dtype, np.integer):
        return values.astype(dtype)
    limits = np.iinfo(dtype)
    rounded: np.ndarray = np.clip(np.rint(values), limits.min, limits.max).astype(dtype)
    return rounded


def _turn(array: np.ndarray, turns: int, flip: bool) -> np.ndarray:
    """Rotate the last two axes anticlockwise by right angles, then mirror them."""
    if turns % 2:
        array = _transposed(array)
    axes = [-2] * (turns in (1, 2)) + [-1] * ((turns in (2, 3)) != flip)
    if not axes:
        return array
    writable = np.require(array, requirements="W")  # cached arrays are read-only, and torch warns about those
    flipped: np.ndarray = torch.from_numpy(writable).flip(axes).numpy()  # ten times as fast as numpy's
    return flipped


def _transposed(array: np.ndarray) -> np.ndarray:
    """Return a copy with the last two axes swapped; padded rows avoid cache-line conflicts."""
    *rows, length = array.shape
    spread = np.empty((*rows, length + ROW_PADDING), array.dtype)[..., :length]
    spread[...] = array
    return np.ascontiguousarray(spread.swapaxes(-2, -1))


def resize(image: np.ndarray, mask: np.ndarray, valid: np.ndarray, size: int) -> Arrays:
    """Resize a square patch: bilinear for the image, nearest for the mask.

    A pixel that is interpolated from an invalid one is invalid too.
    """
    if mask.shape == (size, size):
        return image, mask, valid
    places = np.minimum(((np.arange(size) + 0.5) * mask.shape[0] / size).astype(int), mask.shape[0] - 1)
    mask = mask[np.ix_(places, places)]
    stacked = torch.from_numpy(np.concatenate([image.astype(np.float32), valid[None].astype(np.float32)]))
    stacked = torch.nan_to_num(stacked)
    resized = interpolate(stacked[None], size=(size, size), mode="bilinear", align_corners=False)[0].numpy()
    return _to_raw(resized[:-1], image.dtype), mask, resized[-1] > 1 - 1e-4
