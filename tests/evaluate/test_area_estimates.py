"""Area estimates: against a published example, and coverage of confidence intervals."""

import numpy as np
import pytest

from satseg.errors import DataError
from satseg.evaluate.area_estimates import by_cluster, estimate_areas

CLUSTERS, CLASSES, PIXELS = 1200, 4, 64 * 64


def test_area_estimates_equal_the_published_example() -> None:
    # Olofsson et al. 2014, tables 8 and 9: deforestation, gain, stable forest, stable non-forest; 640 sample units
    sample = np.array([[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]])  # rows: map
    mapped = np.array([200_000, 150_000, 3_200_000, 6_450_000])
    units = [
        np.outer(np.arange(4) == truth, np.arange(4) == guess).astype(np.int64)
        for guess in range(4)
        for truth in range(4)
        for _ in range(sample[guess, truth])
    ]
    estimate = estimate_areas(np.stack(units), mapped)
    hectares = estimate.corrected * mapped.sum() * 0.09  # 30 m pixels
    assert hectares == pytest.approx([21_158, 11_686, 285_770, 581_386], rel=1e-4)
    assert 1.96 * estimate.error[0] * mapped.sum() * 0.09 == pytest.approx(6_158, rel=0.02)


def population(random: np.random.Generator, correlated: bool) -> np.ndarray:
    """Return confusion matrices (clusters, truth, prediction) of a map, with independent or correlated errors."""
    base = np.full((CLASSES, CLASSES), 0.06) + np.eye(CLASSES) * 0.76
    matrices = np.zeros((CLUSTERS, CLASSES, CLASSES), np.int64)
    for cluster in matrices:
        pixels = random.multinomial(PIXELS, random.dirichlet((0.8, 0.6, 0.4, 0.3)))
        for truth in range(CLASSES):
            chances = random.dirichlet(base[truth] * 8) if correlated else base[truth]
            cluster[truth] = random.multinomial(pixels[truth], chances)
    return matrices


@pytest.mark.parametrize("correlated", [True, False])
def test_confidence_intervals_have_their_nominal_coverage(correlated: bool) -> None:
    random = np.random.default_rng(4)
    matrices = population(random, correlated)
    truth, mapped = matrices.sum((0, 2)) / matrices.sum(), matrices.sum((0, 1))
    hits = np.zeros(CLASSES)
    for _ in range(2000):
        estimate = estimate_areas(matrices[random.choice(CLUSTERS, 60, replace=False)], mapped)
        hits += (estimate.low <= truth) & (truth <= estimate.high)
    assert ((hits / 2000 >= 0.93) & (hits / 2000 <= 0.97)).all(), hits / 2000


def test_a_perfect_map_is_not_corrected() -> None:
    matrices = np.stack([np.diag([5, 3, 0]), np.diag([1, 9, 0])])
    estimate = estimate_areas(matrices, np.array([10.0, 20.0, 10.0]))
    assert estimate.corrected == pytest.approx([0.25, 0.5, 0.25]) and (estimate.error == 0).all()
    with pytest.raises(DataError, match="at least two"):
        estimate_areas(matrices[:1], np.ones(3))


def test_images_of_a_group_are_summed() -> None:
    matrices = np.arange(12).reshape(3, 2, 2)
    assert (by_cluster(matrices, ["b", "a", "b"]) == np.stack([matrices[1], matrices[0] + matrices[2]])).all()
