"""Assessment of a finished run: problems of its data, its learning curve and its classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from satseg.errors import RecordError
from satseg.evaluate.scoring import EvaluationResult
from satseg.files import write_json
from satseg.runs.documents import MAX_LISTING_BYTES, read_json
from satseg.validate.findings import Finding, Severity, abbreviate, count, worst_first

RECORD = "findings.json"  # findings from the headers of the data, made before training
MIN_LOCATIONS = 10  # independent images below which a score is only a rough estimate
RARE_SHARE = 0.05  # of the labelled pixels; for rarer classes, weights may help
MISSED_IOU = 0.01  # IoU below which a class counts as missed
RISING_SCORE = 0.005  # gain of the score in the last quarter of the training
SCORE_DROP = 0.02  # loss of score after the best epoch
LOSS_INCREASE = 1.3  # ratio of the last validation loss to the lowest
SPLITS = {"train": "training", "val": "validation", "test": "test"}


def write_findings(run: Path, findings: Sequence[Finding]) -> None:
    """Write the findings on a run's data to its folder."""
    plain = [asdict(finding) | {"severity": finding.severity.name.lower()} for finding in findings]
    write_json(run / RECORD, {"findings": plain})


def read_findings(run: Path) -> list[Finding]:
    """Read the findings on a run's data; none if an earlier version made the run.

    Raises:
        RecordError: If the record is invalid.
    """
    path = run / RECORD
    if not path.is_file():
        return []
    found = read_json(path, dict, MAX_LISTING_BYTES).get("findings")
    try:
        return [_finding(entry) for entry in found]
    except (TypeError, KeyError, AttributeError) as error:
        raise RecordError(f"{path} is not a record of findings; delete it, and the report will omit them.") from error


def _finding(entry: Mapping[str, Any]) -> Finding:
    texts = {key: str(entry[key]) for key in ("check", "message", "expected", "repair")}
    severity = Severity[str(entry["severity"]).upper()]
    return Finding(severity=severity, files=tuple(str(file) for file in entry["files"]), **texts)


def assess_run(
    rows: Sequence[Mapping[str, Any]],
    monitor: str,
    max_epochs: int,
    training_pixels: Mapping[str, int],
    results: Mapping[str, EvaluationResult],
) -> list[Finding]:
    """Return problems of a finished run, found in its own numbers; worst first.

    Args:
        rows: Rows of metrics.csv, one per epoch.
        monitor: The score that selected the best epoch.
        max_epochs: Planned number of epochs.
        training_pixels: Labelled pixels of the training split by class.
        results: Scores by split.
    """
    found = [
        *_learning_curve(rows, monitor, max_epochs),
        *_unseen(training_pixels),
        *(finding for split, result in results.items() for finding in _classes(result, split)),
        *(finding for split, result in results.items() for finding in _sample_size(result, split)),
    ]
    if "test" not in results and results:
        found.append(
            Finding(
                "no_test",
                Severity.NOTE,
                "There is no test split: the scores are from the images that selected the best epoch, and are "
                "somewhat too high",
                repair="Set some images aside that training never sees.",
            )
        )
    return worst_first(found)


def _learning_curve(rows: Sequence[Mapping[str, Any]], monitor: str, max_epochs: int) -> list[Finding]:
    """Return the problem of the learning curve, if any."""
    scored = [(number, row) for number, row in enumerate(rows, 1) if isinstance(row.get(monitor), float)]
    scores = np.array([row[monitor] for _, row in scored])
    if not len(scores) or np.isnan(scores).all():
        return []
    at = int(np.nanargmax(scores))
    best, last = scored[at][0], scored[-1][0]
    name = monitor.removeprefix("val/").replace("miou", "mIoU")
    longer = f"trainer.max_epochs={2 * max(max_epochs, last)}"
    if len(scores) == 1:
        return [
            _warning(
                "short",
                f"{name} was computed after one epoch only, so it is unknown whether it is still rising",
                f"Train longer: {longer}.",
            )
        ]
    if at == len(scores) - 1 and (rise := scores[at] - np.nanmax(scores[: -max(1, len(scores) // 4)])) > RISING_SCORE:
        return [
            _warning(
                "rising",
                f"The last epoch is the best: {name} was still rising (by {rise:.3f} in the last "
                f"{max(1, len(scores) // 4)} of {last} epochs)",
                f"Train longer: {longer}.",
            )
        ]
    fell = scores[at] - scores[-1]
    if at == 0 and len(scores) > 2 and fell > SCORE_DROP:
        return [
            _warning(
                "worse",
                f"The first epoch is the best: {name} fell from {scores[0]:.3f} to {scores[-1]:.3f} "
                "while training went on",
                "Look at the labels, and try a lower optimizer.lr.",
            )
        ]
    return _overfitting(scored, best) if len(scores) > 4 and fell > SCORE_DROP else []


def _overfitting(scored: Sequence[tuple[int, Mapping[str, Any]]], best: int) -> list[Finding]:
    """Return a warning if the validation loss rose while the training loss fell."""
    losses = np.array([[row.get(key) or np.nan for key in ("train/loss", "val/loss")] for _, row in scored], float)
    if np.isnan(losses).any():
        return []
    lowest = int(losses[:, 1].argmin())
    if losses[-1, 1] <= LOSS_INCREASE * losses[lowest, 1] or losses[-1, 0] >= losses[lowest, 0]:
        return []
    return [
        _warning(
            "overfit",
            f"The model overfits its training images after epoch {scored[lowest][0]}: since then the validation loss "
            f"rose from {losses[lowest, 1]:.2f} to {losses[-1, 1]:.2f} while the training loss fell; the weights of "
            f"epoch {best} are kept",
            "Use more images, a stronger augmentation=, or a smaller backbone=.",
        )
    ]


def _unseen(pixels: Mapping[str, int]) -> list[Finding]:
    absent = [name for name, number in pixels.items() if not number]
    if not absent:
        return []
    what = f"No pixel of the training images is labelled {abbreviate(absent)}: the model cannot learn {_it(absent)}"
    return [_warning("unseen", what, "Label some, or remove the class from dataset.classes.")]


def _classes(result: EvaluationResult, split: str) -> list[Finding]:
    truth, names, where = result.matrix.sum(1), np.array(result.class_names), SPLITS[split]
    found = []
    missed = names[(truth > 0) & (np.nan_to_num(result.scores.iou, nan=1.0) < MISSED_IOU)].tolist()
    if missed:
        what = (
            f"{abbreviate(missed)} {'is' if len(missed) == 1 else 'are'} hardly ever found in the {where} images: IoU "
        )
        rare = [n for n, share in zip(names, truth / truth.sum(), strict=True) if n in missed and share < RARE_SHARE]
        advice = "Look at the samples and the confusion below"
        advice += f"; loss.class_weights=balanced may help {abbreviate(rare)}." if rare else "; train longer."
        found.append(_warning("missed", what + f"below {MISSED_IOU:g}", advice))
    absent = names[truth == 0].tolist()
    if absent:
        what = (
            f"No pixel of the {where} images is labelled {abbreviate(absent)}: it is unknown how well the model finds "
        )
        found.append(_warning("absent", what + _it(absent), f"Add images with {_it(absent)} to that split."))
    return found


def _sample_size(result: EvaluationResult, split: str) -> list[Finding]:
    places = len({image.group for image in result.images})
    if places >= MIN_LOCATIONS:
        return []
    images = count(len(result.images), "image")
    held = images if places == len(result.images) else f"{images} of {count(places, 'place')}"
    what = f"The {SPLITS[split]} scores are from {held} only: on others they could differ considerably"
    if split == "val":
        what += ", and another best epoch"
    return [_warning("few", what, "Score more images, from other places.")]


def _it(names: Sequence[str]) -> str:
    return "it" if len(names) == 1 else "them"


def _warning(check: str, message: str, repair: str) -> Finding:
    return Finding(check, Severity.WARNING, message, repair=repair)
