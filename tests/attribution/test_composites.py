"""Composite images, against independently computed arrays."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from satseg.attribution.composites import (
    FEATHER,
    FOOTPRINT,
    MARGIN,
    Picture,
    match_spectrum,
    match_tone,
    move_object,
    swap_coarse,
    swap_fine,
    swap_surroundings,
)

SIDE = 48


def picture(seed: int, row: int, col: int, half: int = 4) -> Picture:
    generator = np.random.default_rng(seed)
    image = generator.uniform(20, 200, (2, SIDE, SIDE)).astype(np.float32)
    own = np.zeros((SIDE, SIDE), bool)
    own[row - half : row + half + 1, col - half : col + half + 1] = True
    return Picture(image, np.ones((SIDE, SIDE), bool), own, own, own, (row, col))


def distances(objects: np.ndarray) -> np.ndarray:
    """Return each pixel's distance to the nearest object pixel, by all pairs."""
    everywhere = np.indices((SIDE, SIDE)).reshape(2, -1).T
    return cdist(everywhere, np.argwhere(objects)).min(1).reshape(SIDE, SIDE)


@given(st.integers(0, 999), *(st.integers(6, SIDE - 7) for _ in range(4)))
@settings(max_examples=15, deadline=None)
def test_swapped_surroundings_keep_the_object_with_its_margin_and_show_no_object_of_the_donor(
    seed: int, row: int, col: int, other_row: int, other_col: int
) -> None:
    recipient, donor = picture(seed, row, col), picture(seed + 1, other_row, other_col)
    made = swap_surroundings(recipient, donor)
    from_own, from_other = distances(recipient.own), distances(donor.objects)
    kept = (from_own <= MARGIN) | (from_other <= FOOTPRINT)
    taken = (from_own >= MARGIN + FEATHER) & (from_other >= FOOTPRINT + FEATHER)
    assert np.array_equal(made[:, kept], recipient.image[:, kept])
    assert np.allclose(made[:, taken], donor.image[:, taken], atol=1e-3)
    low, high = np.minimum(recipient.image, donor.image), np.maximum(recipient.image, donor.image)
    assert (made >= low - 1e-3).all() and (made <= high + 1e-3).all()
    part = np.zeros((SIDE, SIDE), bool)
    part[:10] = True
    assert np.array_equal(swap_surroundings(recipient, donor, part)[:, 10:], recipient.image[:, 10:])
    both = swap_coarse(recipient, donor) + swap_fine(recipient, donor) - recipient.image
    assert np.allclose(both, made, atol=0.01)  # coarse and fine content add up to the whole


def test_invalid_pixels_are_neither_copied_nor_replaced() -> None:
    recipient, donor = picture(0, 10, 10), picture(1, 30, 30)
    recipient.valid[:, 40:], donor.valid[:5] = False, False
    recipient.image[:, :, 40:], donor.image[:, :5] = np.nan, np.nan
    made = swap_surroundings(recipient, donor)
    assert np.isfinite(made[:, :, :40]).all() and np.isnan(made[:, :, 40:]).all()
    assert np.array_equal(made[:, :5, :40], recipient.image[:, :5, :40])
    for change in (match_tone, match_spectrum):
        assert np.isfinite(change(recipient, donor)[:, :, :40]).all()


def test_match_tone_gives_the_donors_brightness_and_contrast_outside_objects() -> None:
    recipient, donor = picture(0, 12, 12), picture(1, 30, 30)
    donor.image[:] = 90 + (donor.image - 90) / 3
    made = match_tone(recipient, donor)
    replaceable, given = (distances(p.objects) > FOOTPRINT for p in (recipient, donor))
    for band in range(2):
        assert made[band, replaceable].mean() == pytest.approx(donor.image[band, given].mean(), rel=1e-3)
        assert made[band, replaceable].std() == pytest.approx(donor.image[band, given].std(), rel=1e-2)
    one_band = match_tone(recipient, donor, [1], spread=False)
    assert np.array_equal(one_band[0], recipient.image[0]) and np.ptp(one_band[1] - recipient.image[1]) < 1e-3


def test_match_spectrum_adds_and_removes_periodic_stripes() -> None:
    rows = np.indices((SIDE, SIDE))[0]
    stripes = 8 * np.sin(2 * np.pi * rows / 6)
    plain, striped = picture(0, 24, 24), picture(1, 24, 24)
    plain.image[:] = 100 + (plain.image - 100) / 60
    striped.image[:] = 100 + (striped.image - 100) / 60 + stripes

    def strength(image: np.ndarray) -> float:
        return float(abs(((image[0] - image[0].mean()) * np.exp(2j * np.pi * rows / 6)).mean()))

    assert strength(match_spectrum(striped, plain)) < 0.5 * strength(striped.image)
    assert strength(match_spectrum(plain, striped)) > 2 * strength(plain.image)


def test_move_object_shifts_to_the_donors_position_and_pads_by_reflection() -> None:
    recipient, donor = picture(0, 10, 12), picture(1, 30, 20)
    image, valid, region = move_object(recipient, donor)
    assert np.array_equal(image[:, 20:, 8:], recipient.image[:, :-20, :-8]) and valid.all()
    assert np.array_equal(region, donor.own)
    padded = np.pad(recipient.image, ((0, 0), (20, 0), (8, 0)), mode="symmetric")[:, :SIDE, :SIDE]
    assert np.array_equal(image, padded)
