"""Geometric and photometric augmentation, on the CPU and on a device, and resizing."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from satseg.data.augmentation import Augmentation, resize
from satseg.data.dataset import collate, to_item
from satseg.spec import InputSpec

SPECS = {
    "uint8": InputSpec(("r", "g", "b"), "uint8", 255.0),
    "uint16": InputSpec(tuple("abcdefg"), "uint16", 10000.0),
    "float32": InputSpec(("x",), "float32", 2.0, -1.0),
}


def patch(dtype: str, size: int = 32, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return an image whose bands all equal ten times the mask, the mask, and valid pixels."""
    random = np.random.default_rng(seed)
    mask = random.integers(0, 7, (size, size), dtype=np.uint8)
    image = np.stack([mask.astype(dtype) * 10] * len(SPECS[dtype].bands))
    return image, mask, random.random((size, size)) > 0.1


@pytest.mark.parametrize("dtype", SPECS)
@given(seed=st.integers(0, 2**40))
def test_flips_and_rotations_transform_image_mask_and_valid_alike(dtype: str, seed: int) -> None:
    original = patch(dtype)
    augmentation = Augmentation(quarter_turns=True, flips=True)
    image, mask, valid = augmentation(*original, seed, SPECS[dtype], 32)
    assert image.dtype == dtype and (image[0] == mask.astype(dtype) * 10).all()
    images = [np.rot90(f, k) for k in range(4) for f in (original[1], original[1][:, ::-1])]
    matches = [i for i, candidate in enumerate(images) if (candidate == mask).all()]
    valids = [np.rot90(f, k) for k in range(4) for f in (original[2], original[2][:, ::-1])]
    assert len(matches) == 1 and (valids[matches[0]] == valid).all()


def test_all_eight_orientations_are_about_equally_frequent() -> None:
    image, mask, valid = patch("uint8")
    augmentation = Augmentation(quarter_turns=True, flips=True)
    seen = [augmentation(image, mask, valid, seed, SPECS["uint8"], 32)[1].tobytes() for seed in range(800)]
    counts = [seen.count(s) for s in set(seen)]
    assert len(counts) == 8 and min(counts) > 60


@pytest.mark.parametrize("dtype", SPECS)
def test_photometric_augmentation_changes_only_valid_pixels_and_never_the_mask(dtype: str) -> None:
    image, mask, valid = patch(dtype)
    strong = Augmentation(brightness=0.2, contrast=0.4, gamma=0.3, noise=0.05, band_shift=0.1)
    changed, same_mask, same_valid = strong(image, mask, valid, 5, SPECS[dtype], 32)
    assert (same_mask == mask).all() and (same_valid == valid).all() and changed.dtype == image.dtype
    assert (changed[:, ~valid] == image[:, ~valid]).all()
    assert (changed[:, valid] != image[:, valid]).mean() > 0.5
    again = strong(image, mask, valid, 5, SPECS[dtype], 32)[0]
    assert (again == changed).all()
    assert (strong(image, mask, valid, 6, SPECS[dtype], 32)[0] != changed).any()


@pytest.mark.parametrize("dtype", SPECS)
def test_photometric_augmentation_of_a_batch_equals_that_of_each_patch_in_a_worker(dtype: str) -> None:
    strong = Augmentation(True, True, brightness=0.2, contrast=0.4, gamma=0.3, noise=0.05, band_shift=0.1)
    patches, seeds = [patch(dtype, seed=s) for s in range(4)], [7, 2**63 - 1, 8, 7]
    whole = [strong(*p, seed, SPECS[dtype], 32) for p, seed in zip(patches, seeds, strict=True)]
    geometric_items = [to_item("", *strong.geometric(*p, seed, 32)) for p, seed in zip(patches, seeds, strict=True)]
    batch = collate(geometric_items)
    augmented = strong.photometric(batch["image"], batch["valid"], seeds, SPECS[dtype])
    expected = collate([to_item("", *arrays) for arrays in whole])
    assert augmented.dtype == expected["image"].dtype
    assert torch.allclose(augmented.double(), expected["image"].double(), rtol=1e-5, atol=1e-5)
    assert torch.equal(batch["mask"], expected["mask"]) and torch.equal(batch["valid"], expected["valid"])


def test_gamma_contrast_and_noise_follow_their_formulas_at_unit_scale() -> None:
    image = np.linspace(-0.9, 2.9, 32 * 32, dtype=np.float32).reshape(1, 32, 32)  # -1 to 2 at unit scale: from 0.05
    mask, valid = np.zeros((32, 32), np.uint8), np.ones((32, 32), bool)
    unit = (image.astype(float) + 1) / 2
    gamma = Augmentation(gamma=0.5)(image, mask, valid, 3, SPECS["float32"], 32)[0]
    exponent = np.log((gamma + 1) / 2) / np.log(unit)
    kept = abs(np.log(unit)) > 0.1
    assert np.ptp(exponent[kept]) < 1e-3 and np.exp(-0.5) < exponent[kept].mean() < np.exp(0.5)
    contrast = (Augmentation(contrast=0.5)(image, mask, valid, 3, SPECS["float32"], 32)[0] + 1) / 2
    factor = np.ptp(contrast) / np.ptp(unit)
    assert contrast.mean() == pytest.approx(unit.mean(), abs=1e-5) and 0.5 < factor < 1.5 and factor != 1
    noise = (Augmentation(noise=0.5)(image, mask, valid, 3, SPECS["float32"], 32)[0] + 1) / 2 - unit
    assert abs(noise.mean()) < 0.05 and 0 < noise.std() <= 0.52


def test_values_of_invalid_pixels_do_not_affect_valid_ones() -> None:
    image, mask, valid = patch("float32")
    strong = Augmentation(brightness=0.2, contrast=0.4, gamma=0.3, noise=0.05, band_shift=0.1)
    results = []
    for nodata in (0, -9999, np.nan):
        filled = np.where(valid, image, np.float32(nodata))
        results.append(strong(filled, mask, valid, 5, SPECS["float32"], 32)[0][:, valid])
    assert np.isfinite(results[0]).all()
    assert (results[1] == results[0]).all() and (results[2] == results[0]).all()


def test_brightness_is_a_shift_at_unit_scale() -> None:
    image, mask, valid = patch("float32")
    changed, _, _ = Augmentation(brightness=0.1)(image, mask, valid, 1, SPECS["float32"], 32)
    shift = (changed - image)[0][valid] / 2.0
    assert np.ptp(shift) < 1e-5 and 0 < abs(shift.mean()) <= 0.1


@given(st.integers(8, 90), st.sampled_from([16, 32, 33]))
def test_resizing_adds_no_class_and_never_mixes_invalid_pixels_in(size: int, edge: int) -> None:
    image, mask, valid = patch("uint8", size)
    resized, small, usable = resize(image, mask, valid, edge)
    assert resized.shape == (3, edge, edge) and small.shape == usable.shape == (edge, edge)
    assert set(np.unique(small)) <= set(np.unique(mask))
    image[:, ~valid] = 255
    assert (
        resize(image, mask, valid, edge)[0][:, usable] <= 60
    ).all()  # no valid pixel contains a share of an invalid one
