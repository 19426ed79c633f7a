"""The survey of a split, confused pairs and evidence shares, against direct counts on small arrays."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from known_networks import by_first_band, network_of
from sklearn.metrics import confusion_matrix, jaccard_score

from satseg.diagnosis.confusion import confused_pairs, gains, top_pairs
from satseg.diagnosis.evidence import BORDER, evidence_shares, mean_shares
from satseg.diagnosis.survey import survey


def item(name: str, predicted: np.ndarray, truth: np.ndarray, margin: float = 4.0) -> dict[str, Any]:
    """Return an item for which the network predicts `predicted`, with a logit margin of `margin`."""
    image = torch.zeros(3, *predicted.shape)
    image[0] = torch.from_numpy(np.where(predicted == 1, 0.5 + margin / 2, 0.5 - margin / 2)).float()
    valid = torch.ones(predicted.shape, dtype=torch.bool)
    return {"name": name, "image": image, "mask": torch.from_numpy(truth.astype(np.uint8)), "valid": valid}


@pytest.fixture
def items() -> list[dict[str, Any]]:
    predicted, truth = np.zeros((40, 60), int), np.zeros((40, 60), int)
    predicted[5:25, 5:25] = 1  # a large error
    predicted[30:33, 30:60] = 1  # a narrow strip
    truth[0:4] = 255
    small_error = np.zeros((40, 60), int)
    small_error[10:20, 10:22] = 1
    return [
        item("a", predicted, truth),
        item("b", small_error, np.zeros((40, 60), int)),
        item("c", truth % 2, truth % 2),
    ]


def test_errors_are_counted_and_sorted_by_size(items: list[dict[str, Any]]) -> None:
    found = survey(network_of(by_first_band), iter(items))
    truths = np.concatenate([i["mask"].numpy().ravel() for i in items])
    predictions = np.concatenate([(i["image"][0] > 0.5).numpy().ravel() for i in items])
    expected = confusion_matrix(truths[truths != 255], predictions[truths != 255], labels=[0, 1])
    assert np.array_equal(found.matrix, expected) and [p.key for p in confused_pairs(found.matrix)] == [(0, 1)]
    components = found.components[0, 1]
    assert [(s.image, s.pixels) for s in components] == [("a", 400), ("b", 120), ("a", 90)]
    assert all(abs(v - 14.5) <= 1 for v in components[0].centre)
    assert found.components[0, 0][-1].centre[0] > 0  # the centre is the pixel farthest from the edge of the image
    assert found.components[1, 1][0].image == "c"


def test_images_are_ranked_by_confident_disagreement(items: list[dict[str, Any]]) -> None:
    ambiguous = item("uncertain", np.ones((40, 60), int), np.zeros((40, 60), int), margin=0.2)
    found = survey(network_of(by_first_band), [*items, ambiguous])
    assert [d.image for d in found.disagreements] == ["a", "b"]
    assert found.disagreements[0].share == pytest.approx(490 / (36 * 60))
    assert (found.disagreements[1].truth, found.disagreements[1].predicted) == (0, 1)
    assert [(d.box, d.pixels) for d in found.disagreements] == [((5, 5, 20, 20), 400), ((10, 10, 12, 10), 120)]
    assert found.worst[0, 1] == [("uncertain", 2400), ("a", 490), ("b", 120)] and found.images == 4


def test_correct_predictions_give_no_confused_pairs_and_no_disagreements() -> None:
    def right() -> Iterator[dict[str, Any]]:
        yield item("c", np.eye(8, dtype=int), np.eye(8, dtype=int))

    found = survey(network_of(by_first_band), right())
    assert confused_pairs(found.matrix) == [] and found.disagreements == []


def test_evidence_shares_by_class_and_by_position() -> None:
    evidence, truth, region = np.zeros((40, 40)), np.zeros((40, 40), int), np.zeros((40, 40), bool)
    region[10:30, 10:30] = True
    truth[:, 35:] = 1
    truth[:, 38:] = 255
    evidence[20, 20] = 3  # inside
    evidence[10, 20] = 1  # at the border
    evidence[5, 36] = 4  # outside, on class 1
    evidence[5, 39] = 2  # outside, unlabelled
    evidence[0, 0] = -50  # negative evidence
    valid = np.ones((40, 40), bool)
    found = evidence_shares(evidence, truth, region, valid, 2)
    assert found is not None and found.by_truth == pytest.approx((0.4, 0.4, 0.2))
    assert found.pixels_by_truth == pytest.approx((35 / 40, 3 / 40, 2 / 40)) and BORDER == 4
    assert (found.inside, found.border, found.outside) == pytest.approx((0.3, 0.1, 0.6))
    assert evidence_shares(-np.abs(evidence), truth, region, valid, 2) is None
    valid[:, 35:] = False
    part = evidence_shares(evidence, truth, region, valid, 2)
    assert part is not None and part.by_truth == part.pixels_by_truth == (1, 0, 0)
    assert (part.inside, part.border, part.outside) == pytest.approx((0.75, 0.25, 0))
    assert mean_shares([found, found]) == found


def test_confused_pairs_are_ranked_both_by_pixels_and_by_share() -> None:
    matrix = np.array([[9000, 700, 300, 0], [400, 8000, 0, 10], [0, 0, 50, 50], [0, 0, 4, 996]])
    pairs = confused_pairs(matrix)
    assert [p.key for p in pairs] == [(0, 1), (1, 0), (0, 2), (2, 3), (1, 3), (3, 2)]
    shares = matrix / matrix.sum(1, keepdims=True)
    assert [p.share for p in pairs] == pytest.approx([shares[p.key] for p in pairs])
    assert pairs[3].by_share == 1 and pairs[3].by_pixels == 4 and pairs[0].by_share == 2
    assert pairs[-1].by_share == 0 and pairs[4].by_share == 0  # too few pixels to be ranked
    assert [p.key for p in top_pairs(pairs, 1)] == [(0, 1), (2, 3)]


def test_the_cost_of_a_confusion_is_the_gain_in_miou_without_it() -> None:
    generator = np.random.default_rng(0)
    for _ in range(20):
        matrix = generator.integers(0, 40, (5, 5)) * generator.integers(0, 2, (5, 5))
        matrix[0, 0] += 1
        truths, predictions = (np.repeat(axis.ravel(), matrix.ravel()) for axis in np.indices((5, 5)))
        present = np.unique(truths)
        before = jaccard_score(truths, predictions, labels=present, average="macro", zero_division=0)
        for truth, predicted in zip(*np.nonzero(matrix), strict=True):
            corrected = np.where((truths == truth) & (predictions == predicted), truth, predictions)
            after = jaccard_score(truths, corrected, labels=present, average="macro", zero_division=0)
            assert gains(matrix)[truth, predicted] == pytest.approx(after - before, abs=1e-12)
