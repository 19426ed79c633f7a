"""The permutation test, against exact enumeration and on data without an effect."""

import itertools
from math import comb

import numpy as np
import pytest

from satseg.diagnosis.permutation import Contrast, compare, holm, min_p_value


def one_hot(labels: np.ndarray) -> np.ndarray:
    """Return which classes (donors, classes) donors contain, each a single one."""
    held: np.ndarray = labels[:, None] == np.arange(labels.max() + 1)
    return held


def test_p_values_equal_exact_enumeration_of_all_permutations() -> None:
    generator = np.random.default_rng(0)
    values, labels = generator.random((5, 9)), np.array([0, 0, 0, 0, 1, 1, 1, 1, 1])
    values[:, 4:] += 0.25
    centred = (values - values.mean(1, keepdims=True)).mean(0)

    def difference(ones: tuple[int, ...]) -> float:
        chosen = np.isin(np.arange(9), ones)
        return float(centred[chosen].mean() - centred[~chosen].mean())

    found = difference((4, 5, 6, 7, 8))
    exact = np.mean([difference(ones) >= found - 1e-9 for ones in itertools.combinations(range(9), 5)])
    verdicts = compare([Contrast(values, 0, 1)], one_hot(labels), np.arange(9), 0.05)
    assert verdicts.p_values[0] == pytest.approx(exact, abs=0.02)
    expected = values[:, 4:].mean(1) - values[:, :4].mean(1)
    assert Contrast(values, 0, 1).effects(one_hot(labels)) == pytest.approx(expected)
    assert min_p_value(4, 5) == pytest.approx(1 / comb(9, 4))


def test_without_an_effect_the_family_wise_error_rate_holds_although_images_occur_twice() -> None:
    generator, alarms, trials = np.random.default_rng(1), 0, 200
    for _ in range(trials):
        units = np.repeat(np.arange(12), 2)  # two identical donors per image
        labels = np.repeat(generator.permutation(np.repeat([0, 1, 2], 4)), 2)
        values = np.repeat(generator.random((6, 12)) * (generator.random(12) < 0.5), 2, axis=1)
        values[generator.random(values.shape) < 0.3] = np.nan
        family = [Contrast(values[k::2], 0, partner) for k in range(2) for partner in (None, 1, 2)]
        alarms += min(compare(family, one_hot(labels), units, 0.05).p_values) <= 0.05
    assert alarms / trials <= 0.09  # 0.05 plus sampling error


def test_crops_of_one_image_count_once_even_if_they_contain_different_classes() -> None:
    generator, alarms, trials = np.random.default_rng(3), 0, 60
    for _ in range(trials):
        held = generator.permutation(np.repeat([True, False], 4)).repeat(3)
        holds = np.column_stack([held, ~held, np.tile(np.eye(3, dtype=bool), (8, 1))])
        values = generator.normal(size=8).repeat(3) + 0.2 * generator.normal(size=(6, 24))
        alarms += compare([Contrast(values, 1, 0)], holds, np.arange(8).repeat(3), 0.05).p_values[0] <= 0.05
    assert alarms / trials <= 0.09  # 0.14 if each crop counted


def test_donors_with_both_classes_are_left_out_of_pairs_but_count_in_one_against_rest() -> None:
    holds = np.array([[True, False], [True, True], [False, True], [False, False]])
    values = np.array([[1.0, 2.0, 4.0, 8.0]])
    assert Contrast(values, 0, 1).effects(holds) == pytest.approx([3.0])
    assert Contrast(values, None, 1).effects(holds) == pytest.approx([3.0 - 4.5])
    assert Contrast(values, 0, None).effects(holds) == pytest.approx([6.0 - 1.5])


def test_an_effect_in_some_recipients_is_significant_and_exceeds_the_detectable_one() -> None:
    generator = np.random.default_rng(2)
    labels, units = np.repeat([0, 1], 14), np.arange(28)
    values = generator.random((14, 28)) * 0.1
    values[:6, 14:] = 1.0  # six of fourteen recipients lose everything with donors of the other class
    verdicts = compare([Contrast(values, 0, 1)], one_hot(labels), units, 0.05)
    assert verdicts.p_values[0] < 0.001
    assert verdicts.detectable[0] < Contrast(values, 0, 1).effects(one_hot(labels)).mean()


def test_holm_correction_follows_its_definition() -> None:
    assert holm([0.01, 0.04, 0.03, 0.5]) == pytest.approx([0.04, 0.09, 0.09, 0.5])
    assert holm([]) == []
