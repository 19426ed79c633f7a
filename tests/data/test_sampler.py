"""Patches are a pure function of (seed, epoch, index), and lie where the images are."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from satseg.data.sampler import PatchBatchSampler

SIZES = [(100, 300), (50, 40), (200, 200)]


def sampler(**options: object) -> PatchBatchSampler:
    return PatchBatchSampler(SIZES, **{"patch_size": 64, "batch_size": 4, "num_patches": 22, "seed": 0} | options)


def test_an_epoch_is_whole_batches_and_each_pass_is_the_next_epoch() -> None:
    one, two = sampler(), sampler()
    first, second = list(one), list(one)
    assert len(one) == 5 and [len(b) for b in first] == [4] * 5
    assert first != second
    two.epoch = 1
    assert list(two) == second


def test_ranks_share_an_epoch_without_overlap() -> None:
    whole = [request for batch in sampler(batch_size=8) for request in batch]
    parts = [list(sampler(rank=rank, world_size=2)) for rank in range(2)]
    joined = [request for batches in zip(*parts, strict=True) for batch in batches for request in batch]
    assert joined == whole


def test_images_are_drawn_in_proportion_to_their_area() -> None:
    draws = [request.sample for batch in sampler(num_patches=8000) for request in batch]
    areas = np.array([h * w for h, w in SIZES])
    assert np.allclose(np.bincount(draws) / len(draws), areas / areas.sum(), atol=0.02)


@given(st.integers(0, 2**31), st.integers(0, 1000), st.floats(0.5, 1.0), st.floats(1.0, 2.0))
def test_a_window_is_inside_or_hangs_over_an_image_that_is_smaller(
    seed: int, index: int, low: float, high: float
) -> None:
    request = sampler(seed=seed, zoom=(low, high)).request(3, index)
    height, width = SIZES[request.sample]
    edge = request.window.width
    assert request.window.height == edge and round(64 / high) <= edge <= round(64 / low)
    for start, length in ((request.window.col, width), (request.window.row, height)):
        if length >= edge:
            assert 0 <= start <= length - edge
        else:
            assert length - edge <= start <= 0


def test_a_zoom_of_one_always_cuts_the_patch_itself() -> None:
    assert {request.window.width for batch in sampler() for request in batch} == {64}
