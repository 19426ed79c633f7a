"""The automatic choice of patch size and batch size."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from satseg.data.sampling.patch_sizes import fit_batch_size, fit_patch_size
from satseg.devices import Machine

edges = st.integers(1, 3000)


@given(st.lists(st.tuples(edges, edges), min_size=1, max_size=30))
def test_the_patch_size_is_the_largest_that_fits_images_with_90_percent_of_all_pixels(
    sizes: list[tuple[int, int]],
) -> None:
    pixels = np.prod(sizes, 1)

    def share_of_smaller_images(edge: int) -> float:
        return float(pixels[np.min(sizes, 1) < edge].sum() / pixels.sum())

    edge = fit_patch_size(sizes)
    assert edge in range(32, 257, 32)
    assert edge == 32 or share_of_smaller_images(edge) <= 0.1
    assert edge == 256 or share_of_smaller_images(edge + 32) > 0.1


@given(st.integers(1, 8), st.integers(1, 10_000), st.booleans(), st.integers(1, 80))
def test_the_batch_size_fits_memory_and_the_number_of_patches_and_is_never_one(
    steps: int, patches: int, is_gpu: bool, gb: int
) -> None:
    edge, machine = 32 * steps, Machine(is_gpu, gb * 10**9, 2)
    batch = fit_batch_size(edge, patches, machine)
    assert batch in (2, 4, 8, 16, 32) and batch <= max(2, patches)
    assert batch == 2 or batch * edge**2 * 1500 <= machine.memory / 4
    assert batch <= 4 or patches // batch >= 8
    assert batch <= fit_batch_size(edge, 2 * patches, machine)


def test_patches_of_256_pixels_get_a_batch_size_of_8_on_the_cpu_and_16_on_a_gpu() -> None:
    assert fit_batch_size(256, 117, Machine(False, 8 * 10**9, 2)) == 8
    assert fit_batch_size(256, 2000, Machine(True, 16 * 10**9, 2)) == 16
    assert fit_batch_size(256, 12, Machine(True, 16 * 10**9, 2)) == 4
