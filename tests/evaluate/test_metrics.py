"""Scores from confusion matrices, against scikit-learn."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, jaccard_score, precision_score, recall_score

from satseg.evaluate.metrics import ConfusionMatrix, Scores, confusion_matrices

K = 5
SHAPE = (3, 4, 6)
masks = arrays.arrays(np.uint8, SHAPE, elements=st.sampled_from([0, 1, 2, 3, 4, 255]))
predictions = arrays.arrays(np.int64, SHAPE, elements=st.integers(0, K - 1))
valids = arrays.arrays(bool, SHAPE)


@given(masks, predictions, valids)
def test_scores_equal_those_of_scikit_learn_on_the_same_pixels(
    mask: np.ndarray, predicted: np.ndarray, valid: np.ndarray
) -> None:
    matrices = confusion_matrices(*(torch.from_numpy(a) for a in (predicted, mask, valid)), K)
    counted = valid & (mask != 255)
    truth, prediction = mask[counted], predicted[counted]
    scores = Scores.from_matrix(matrices.sum(0), "abcde")
    if len(truth) == 0:
        assert np.isnan(scores.miou) and np.isnan(scores.accuracy)
        return
    assert (scores.matrix == confusion_matrix(truth, prediction, labels=range(K))).all()
    occurring = sorted(set(truth) | set(prediction))
    values = scores.as_dict()
    options = {"labels": occurring, "zero_division": 0}
    assert values["miou"] == pytest.approx(jaccard_score(truth, prediction, average="macro", **options), abs=1e-15)
    assert values["f1"] == pytest.approx(f1_score(truth, prediction, average="macro", **options), abs=1e-15)
    assert values["micro_iou"] == pytest.approx(jaccard_score(truth, prediction, average="micro", **options), abs=1e-15)
    assert values["accuracy"] == accuracy_score(truth, prediction)
    for i, name in enumerate("abcde"):
        if i not in occurring:
            assert np.isnan(values[f"iou/{name}"]) and np.isnan(values[f"f1/{name}"])
        if i in set(truth) & set(prediction):
            one = {"labels": [i], "average": None}
            assert values[f"iou/{name}"] == jaccard_score(truth, prediction, **one)[0]
            assert values[f"precision/{name}"] == precision_score(truth, prediction, **one)[0]
            assert values[f"recall/{name}"] == recall_score(truth, prediction, **one)[0]


def test_scores_of_a_matrix_equal_manual_fractions() -> None:
    scores = Scores.from_matrix(np.array([[6, 2, 0], [1, 3, 0], [0, 0, 0]]), ("a", "b", "absent")).as_dict()
    assert scores["iou/a"] == 6 / 9 and scores["iou/b"] == 3 / 6 and np.isnan(scores["iou/absent"])
    assert scores["miou"] == (6 / 9 + 3 / 6) / 2
    assert scores["micro_iou"] == 9 / 15
    assert scores["accuracy"] == 9 / 12


def test_a_class_that_is_only_predicted_counts_in_miou_but_not_in_miou_present() -> None:
    scores = Scores.from_matrix(np.array([[3, 1], [0, 0]]), ("a", "b")).as_dict()
    assert scores["iou/b"] == 0 and scores["miou"] == 3 / 8 and scores["miou_present"] == 3 / 4


def test_the_metric_sums_updates_and_can_be_reset() -> None:
    metric = ConfusionMatrix(2)
    metric.update(torch.tensor([[[1, 2], [3, 4]], [[10, 0], [0, 10]]]))
    metric.update(torch.tensor([[[0, 1], [0, 0]]]))
    assert metric.compute().tolist() == [[11, 3], [3, 14]] and metric.compute().dtype == torch.int64
    metric.reset()
    assert metric.compute().sum() == 0
