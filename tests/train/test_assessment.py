"""The assessment of a run in its report, and the record of findings in its data."""

import json
from pathlib import Path

import numpy as np
import pytest

from satseg.errors import RecordError
from satseg.evaluate.metrics import Scores
from satseg.evaluate.scoring import EvaluationResult, ImageScores
from satseg.train.assessment import assess_run, read_findings, write_findings
from satseg.validate.findings import Finding, Severity

NAMES = ("land", "water", "road")
SOUND = np.array([[90, 5, 5], [5, 90, 5], [5, 5, 90]])
PIXELS = dict.fromkeys(NAMES, 1000)


def result(matrix: np.ndarray = SOUND, images: int = 20, groups: int = 20) -> EvaluationResult:
    scores = Scores.from_matrix(matrix, NAMES)
    return EvaluationResult(NAMES, [ImageScores(str(i), f"place {i % groups}", scores) for i in range(images)])


def epochs(scores: list[float], training: list[float] | None = None, validation: list[float] | None = None) -> list:
    training, validation = training or [1.0] * len(scores), validation or [1.0] * len(scores)
    columns = zip(scores, training, validation, strict=True)
    return [{"epoch": float(i), "val/miou": s, "train/loss": t, "val/loss": v} for i, (s, t, v) in enumerate(columns)]


@pytest.mark.parametrize(
    ("rows", "check", "words"),
    [
        (epochs([0.2, 0.5, 0.6, 0.6, 0.59]), None, ""),
        (epochs([0.2, 0.3, 0.4, 0.5]), "rising", "by 0.100 in the last 1 of 4 epochs"),
        (epochs([0.2, 0.6, 0.6, 0.601]), None, ""),  # converged
        (epochs([0.2]), "short", "after one epoch only"),
        (epochs([0.6, 0.5, 0.4]), "worse", "from 0.600 to 0.400"),
        (epochs([0.2, 0.6, 0.5, 0.5, 0.5], [5, 4, 3, 2, 1], [2, 1, 1.2, 1.4, 1.6]), "overfit", "from 1.00 to 1.60"),
        (
            epochs([0.2, 0.6, 0.6, 0.6, 0.6], [5, 4, 3, 2, 1], [2, 1, 1.2, 1.4, 1.6]),
            None,
            "",
        ),  # the score does not decrease
        ([{"epoch": 0.0, "val/miou": None}], None, ""),
        ([], None, ""),
    ],
)
def test_training_curves_are_assessed_by_the_monitored_score(rows: list, check: str | None, words: str) -> None:
    found = assess_run(rows, "val/miou", 4, PIXELS, {"val": result(), "test": result()})
    assert [f.check for f in found] == ([check] if check else [])
    assert not found or words in found[0].message


def test_missed_and_absent_classes_and_small_splits_give_warnings() -> None:
    missed = np.array([[90, 10, 0], [10, 90, 0], [50, 50, 0]])
    absent = np.array([[90, 10, 0], [10, 90, 0], [0, 0, 0]])
    results = {"val": result(missed, images=12, groups=3), "test": result(absent)}
    found = {f.check: f for f in assess_run([], "val/miou", 4, PIXELS | {"water": 0}, results)}
    assert set(found) == {"missed", "absent", "few", "unseen"}
    assert "road is hardly ever found in the validation images" in found["missed"].message
    assert "No pixel of the test images is labelled road" in found["absent"].message
    assert "12 images of 3 places" in found["few"].message
    assert "No pixel of the training images is labelled water" in found["unseen"].message
    assert all(f.severity is Severity.WARNING for f in found.values())


@pytest.mark.parametrize(("share", "advice"), [(20, "may help road"), (400, "train longer")])
def test_class_weights_are_advised_only_for_rare_classes(share: int, advice: str) -> None:
    missed = np.array([[500, 0, 0], [0, 500, 0], [share, 0, 0]])
    found = assess_run(epochs([0.2, 0.6, 0.6, 0.6]), "val/miou", 4, PIXELS, {"val": result(missed), "test": result()})
    (missed_finding,) = [finding for finding in found if finding.check == "missed"]
    assert advice in missed_finding.repair


def test_a_run_without_a_test_split_gets_a_note() -> None:
    (found,) = assess_run([], "val/miou", 4, PIXELS, {"val": result()})
    assert found.severity is Severity.NOTE and "no test split" in found.message


def test_recorded_findings_are_read_unchanged(tmp_path: Path) -> None:
    findings = [Finding("overlap", Severity.ERROR, "two images", "none", "Split.", ("a ü.tif", "b.tif"))]
    write_findings(tmp_path, findings)
    assert read_findings(tmp_path) == findings


def test_a_run_without_a_record_has_no_findings(tmp_path: Path) -> None:
    assert read_findings(tmp_path) == []


@pytest.mark.parametrize("broken", [{}, {"findings": 1}, {"findings": [{"check": "a"}]}, {"findings": ["x"]}])
def test_an_invalid_record_raises_an_error(tmp_path: Path, broken: dict) -> None:
    (tmp_path / "findings.json").write_text(json.dumps(broken))
    with pytest.raises(RecordError, match="not a record of findings; delete it"):
        read_findings(tmp_path)
