"""Detection of label errors: displaced, mirrored, swapped and wrong masks, against known changes."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from known_networks import by_first_band, network_of
from scipy.ndimage import gaussian_filter, zoom

from satseg.data.rasters.header import Window
from satseg.diagnosis.descriptions import describe_mistake, describe_offset, describe_usual_offset
from satseg.diagnosis.displacement import REACH, Displacement, Offset, displacements, usual_offset
from satseg.diagnosis.mistakes import Fit, Mistake, fit_labels
from satseg.diagnosis.survey import survey
from satseg.diagnosis.suspects import FALSE_ALARM, MAX_LISTED, Disagreement, Suspects, rank_suspects

SIZE = (88, 104)
NAMES = ("water", "forest", "road")
METRES = (10.0, 20.0)


def blobs(seed: int, classes: int = 3, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Return a mask (H, W) of smooth regions."""
    noise = np.random.default_rng(seed).normal(size=(classes, *size))
    return np.stack([gaussian_filter(layer, 6) for layer in noise]).argmax(0)


def simulated_probabilities(mask: np.ndarray, seed: int = 0, wrong: float = 0.1, classes: int = 3) -> np.ndarray:
    """Return probabilities (K, H, W) of an uncertain model that predicts the mask except for random errors."""
    generator = np.random.default_rng(seed)
    guess = np.where(generator.uniform(size=mask.shape) < wrong, generator.integers(0, classes, mask.shape), mask)
    logits = 2.5 * (np.arange(classes)[:, None, None] == guess) + generator.normal(0, 0.7, (classes, *mask.shape))
    return np.exp(logits) / np.exp(logits).sum(0)


def fit(name: str, probabilities: np.ndarray, drawn: np.ndarray) -> Fit | None:
    counted = torch.from_numpy(drawn != 255)
    truth = torch.from_numpy(np.where(drawn == 255, 0, drawn))
    return fit_labels(name, torch.from_numpy(probabilities).float(), truth, counted, torch.ones_like(counted))


def mistake(probabilities: np.ndarray, drawn: np.ndarray) -> Mistake | None:
    found = fit("a", probabilities, drawn)
    return found.mistake(Offset(0, 0)) if found else None


@given(st.integers(0, 10_000), st.integers(-20, 20), st.integers(-20, 20), st.floats(0, 0.25))
@settings(max_examples=40, deadline=None)
def test_the_offset_of_a_displaced_mask_is_found(seed: int, right: int, down: int, wrong: float) -> None:
    mask = blobs(seed)
    drawn = np.roll(mask, (down, right), (0, 1))  # downwards and to the right
    drawn[: max(down, 0)], drawn[:, : max(right, 0)] = 255, 255
    drawn[SIZE[0] + min(down, 0) :], drawn[:, SIZE[1] + min(right, 0) :] = 255, 255
    found = mistake(simulated_probabilities(mask, seed, wrong), drawn)
    if math.hypot(right, down) < 1.5:
        assert found is None or found.explained < 0.1
    else:
        assert found is not None and found.offset == (right, down) and found.box == (0, 0, SIZE[1], SIZE[0])


def test_gains_of_displacements_equal_a_count_pixel_by_pixel() -> None:
    generator = np.random.default_rng(0)
    mask, scores = blobs(1), np.log(simulated_probabilities(blobs(2), 3))
    counted, valid = generator.uniform(size=(2, *SIZE)) < 0.8
    whole, parts = displacements(
        *(torch.from_numpy(a) for a in (scores.astype(np.float32), mask, counted & valid, valid))
    ) or pytest.fail("there are several classes")
    boxes = [slice_of(part.box) for part in parts]
    assert sorted(np.concatenate([np.arange(mask.size).reshape(SIZE)[b].ravel() for b in boxes])) == [*range(mask.size)]
    for part in [whole, *parts]:
        rows, cols = np.nonzero((counted & valid) & inside(part.box))
        for right, down in ((0, 0), (5, -3), (-17, 20), (32, 31)):
            to_rows, to_cols = rows - down, cols - right
            inside_image = (to_rows >= 0) & (to_rows < SIZE[0]) & (to_cols >= 0) & (to_cols < SIZE[1])
            inside_image[inside_image] = valid[to_rows[inside_image], to_cols[inside_image]]
            labels = mask[rows[inside_image], cols[inside_image]]
            gains = (
                scores[labels, to_rows[inside_image], to_cols[inside_image]]
                - scores[labels, rows[inside_image], cols[inside_image]]
            )
            value = part.gains[REACH - down, REACH - right]
            if inside_image.sum() > len(rows) / 2:
                assert value == pytest.approx(gains.mean(), abs=2e-3)
            else:
                assert np.isnan(value)


def slice_of(box: Window) -> tuple[slice, slice]:
    return slice(box.row, box.row + box.height), slice(box.col, box.col + box.width)


def inside(box: Window) -> np.ndarray:
    found = np.zeros(SIZE, bool)
    found[slice_of(box)] = True
    return found


def enlarged(mask: np.ndarray) -> np.ndarray:
    large = zoom(mask, 1.1, order=0, grid_mode=True, mode="nearest")
    top, left = (np.array(large.shape) - mask.shape) // 2
    return large[top : top + mask.shape[0], left : left + mask.shape[1]]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m[:, ::-1], "mirrored left to right"),
        (lambda m: m[::-1], "mirrored top to bottom"),
        (lambda m: m[::-1, ::-1], "rotated by 180°"),
        (lambda m: np.rot90(m), "rotated by 90° to the left"),
        (lambda m: np.rot90(m, 3), "rotated by 90° to the right"),
        (lambda m: m.T, "mirrored across a diagonal"),
        (lambda m: np.array([2, 1, 0])[m], "water and road seem to be swapped"),
        (enlarged, "drawn 10% too large"),
    ],
)
def test_mirrored_rotated_swapped_and_enlarged_masks_are_recognised(
    change: Callable[[np.ndarray], np.ndarray], words: str
) -> None:
    mask = blobs(5, size=(96, 96))
    found = mistake(simulated_probabilities(mask), change(mask).copy())
    assert found is not None and words in describe_mistake(found, None, NAMES) and found.explained > 0.5
    clean = mistake(simulated_probabilities(mask), mask)
    assert clean is None or clean.explained < 0.05


def test_a_displaced_quarter_of_a_mask_is_reported_with_its_area() -> None:
    mask = blobs(7, size=(128, 128))
    drawn = mask.copy()
    drawn[64:, :64] = np.roll(mask, (-9, 12), (0, 1))[64:, :64]
    found = fit("a", simulated_probabilities(mask), drawn)
    part = found.mistake_in_part(Offset(0, 0)) if found else None
    assert part is not None and part.partial and part.offset == (12, -9) and part.box == (0, 64, 64, 64)
    words = describe_mistake(part, METRES, NAMES)
    assert "in columns 0 to 63, rows 64 to 127 the mask seems to lie 12 pixels (120 m) to the right" in words
    assert "9 pixels (180 m) above the image" in words


def test_describe_offset_names_directions_and_distances() -> None:
    assert describe_offset(Offset(12, 0)) == "12 pixels to the right of"
    assert describe_offset(Offset(-1, 0)) == "1 pixel to the left of"
    assert describe_offset(Offset(0, 6)) == "6 pixels below" and describe_offset(Offset(1, -12)) == "12 pixels above"
    assert describe_offset(Offset(3, -4), METRES) == "3 pixels (30 m) to the right of and 4 pixels (80 m) above"
    assert describe_offset(Offset(0, 0)) == "right on"


def rank_displaced(offsets: list[tuple[int, int]], wrong: float = 0.15) -> Suspects:
    """Rank images 0, 1, … whose masks are displaced by the given offsets."""
    fits = []
    for index, (right, down) in enumerate(offsets):
        mask = blobs(index)
        found = fit(str(index), simulated_probabilities(mask, index, wrong), np.roll(mask, (down, right), (0, 1)))
        fits += [found] if found else []
    return rank_suspects([], fits, len(offsets))


def test_correct_masks_are_not_reported_as_displaced() -> None:
    found = rank_displaced([(0, 0)] * 20)
    assert found.usual_offset == (0, 0) and found.outliers == [] and describe_usual_offset(found) == []


def test_displaced_masks_are_ranked_first() -> None:
    found = rank_displaced([(0, 0)] * 18 + [(6, 0), (0, -12)])
    assert [s.image for s in found.ranked[:2]] == [s.image for s in found.outliers] == ["19", "18"]
    assert [s.mistake.offset for s in found.outliers if s.mistake] == [(0, -12), (6, 0)]
    assert all(s.mistake is None for s in found.ranked[2:])


def test_an_offset_common_to_most_masks_is_reported_and_other_offsets_still_found() -> None:
    found = rank_displaced([(3, 0)] * 18 + [(3, 9), (0, 0)])
    assert found.usual_offset == (3, 0)
    assert ["3 pixels to the right of their images" in line for line in describe_usual_offset(found)] == [True]
    assert {s.image: s.mistake and s.mistake.offset for s in found.ranked[:2]} == {"18": (3, 9), "19": (0, 0)}


def test_few_images_do_not_suffice_for_a_common_offset() -> None:
    gains = np.zeros((2 * REACH + 1, 2 * REACH + 1), np.float16)
    gains[REACH, REACH - 4] = 0.1
    assert usual_offset([Displacement(Window(0, 0, 9, 9), gains, 1.0)] * 4) == (
        0,
        0,
    )  # the chance with a fair coin is one in 16
    assert usual_offset([Displacement(Window(0, 0, 9, 9), gains, 1.0)] * 7) == (4, 0)
    assert usual_offset([]) == (0, 0)


def disagreement(name: str, share: float) -> Disagreement:
    return Disagreement(name, share, 0, 1, Window(0, 0, 9, 9), 81)


@given(st.integers(0, 2**32 - 1), st.integers(5, 300), st.floats(0.001, 0.02))
@settings(max_examples=60, deadline=None)
def test_a_label_with_ten_times_the_disagreement_of_all_others_is_the_first_outlier(
    seed: int, images: int, scale: float
) -> None:
    shares = np.random.default_rng(seed).exponential(scale, images).clip(0, 1)
    rest = [disagreement(str(i), float(share)) for i, share in enumerate(shares)]
    assume(shares.max() <= 0.095)  # else no share is ten times as large
    planted = disagreement("planted", 0.05 + 10 * float(shares.max()))
    found = rank_suspects([*rest, planted], [], images + 1)
    assert found.outliers[0].image == "planted" and len(found.outliers) <= MAX_LISTED
    assert len(found.ranked) == images + 1
    assert [s.surprisal for s in found.ranked] == sorted((s.surprisal for s in found.ranked), reverse=True)


def test_equally_good_labels_give_outliers_at_no_more_than_the_stated_false_alarm_rate() -> None:
    generator, listed = np.random.default_rng(0), 0
    for _ in range(400):
        shares = generator.exponential(0.02, 40)
        listed += bool(rank_suspects([disagreement(str(i), float(s)) for i, s in enumerate(shares)], [], 40).outliers)
    assert listed / 400 < 2.5 * FALSE_ALARM  # the scale is estimated from forty images
    assert not rank_suspects([disagreement("a", 0.9)], [], 3).outliers  # too few images to compare with


def test_the_survey_finds_displaced_masks_and_ignores_unlabelled_pixels() -> None:
    def item(name: str, image: np.ndarray, drawn: np.ndarray) -> dict[str, Any]:
        bands = torch.zeros(3, *image.shape)
        bands[0] = torch.from_numpy(np.where(image == 1, 3.0, -2.0))
        valid = torch.ones(image.shape, dtype=torch.bool)
        return {"name": name, "image": bands, "mask": torch.from_numpy(drawn.astype(np.uint8)), "valid": valid}

    mask = blobs(1, classes=2)
    off = np.roll(mask, 6, 1)
    off[:20] = 255
    one = np.zeros_like(mask)
    found = survey(network_of(by_first_band), [item("off", mask, off), item("one class", one, one)])
    assert [(f.image, f.mistake(Offset(0, 0)).offset) for f in found.fits] == [("off", (6, 0))]  # type: ignore[union-attr]
    assert dataclasses.replace(found.fits[0], other=None).mistake_in_part(Offset(6, 0)) is None
