"""Writing and reading the files of an evaluation."""

from __future__ import annotations

import csv
import io
import zlib
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import numpy as np

from satseg.errors import RunError
from satseg.evaluate.scoring import EvaluationResult
from satseg.files import atomic_path, write_json, write_text

MATRICES = "matrices.npz"
MAX_IMAGES = 1_000_000
ZIP_ERRORS = (BadZipFile, zlib.error)
MAX_BYTES = 2**30  # of all matrices, uncompressed: 10,000 images of 100 classes take 0.8 GB
TIMING = "timing.json"  # separate from the scores, which are reproducible


def write_evaluation(result: EvaluationResult, folder: Path, split: str) -> None:
    """Write scores, tables of images (worst first), confusion and reliability, and each image's confusion matrix."""
    document = {"split": split, "scores": result.scores.as_dict(), "protocol": result.protocol}
    write_json(folder / "scores.json", document | {"calibration_error": result.reliability.error})
    pixels = sum(int(image.scores.matrix.sum()) for image in result.images)
    write_json(folder / TIMING, {"megapixels_per_second": pixels / 1e6 / result.seconds, "seconds": result.seconds})
    write_text(folder / "scores.md", result.table(split) + "\n")
    ious = [f"iou/{name}" for name in result.class_names]
    rows: list[list[Any]] = [["name", "group", "pixels", "miou", "accuracy", *ious]]
    for image in result.worst(len(result.images)):
        values = image.scores.as_dict()
        numbers = [values["miou"], values["accuracy"], *(values[i] for i in ious)]
        rows.append(
            [image.name, image.group, int(image.scores.matrix.sum()), *("" if np.isnan(n) else n for n in numbers)]
        )
    write_csv(folder / "images.csv", rows)
    header = ["truth / prediction", *result.class_names]
    body = [[name, *row] for name, row in zip(result.class_names, result.matrix.tolist(), strict=True)]
    write_csv(folder / "confusion_matrix.csv", [header, *body])
    bins = [["" if value is None else value for value in row] for row in result.reliability.rows()]
    write_csv(folder / "reliability.csv", [["up to", "pixels", "confidence", "accuracy"], *bins])
    write_matrices(folder / MATRICES, result)


def write_matrices(path: Path, result: EvaluationResult) -> None:
    """Write the confusion matrix of each image; comparisons and confidence intervals are computed from them."""
    images = sorted(result.images, key=lambda image: image.name)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            names=np.array([image.name for image in images]),
            groups=np.array([image.group for image in images]),
            matrices=np.stack([image.scores.matrix for image in images]),
        )


def read_matrices(path: Path) -> tuple[list[str], list[str], np.ndarray]:
    """Read image names, groups and confusion matrices (N, K, K).

    Raises:
        RunError: If the file is missing or corrupt.
    """
    try:
        with ZipFile(path) as archive:
            if sum(member.file_size for member in archive.infolist()) > MAX_BYTES:
                raise ValueError(f"it would take more than {MAX_BYTES / 1e6:,.0f} MB")
        with np.load(path, allow_pickle=False) as found:
            names, groups, matrices = found["names"], found["groups"], found["matrices"]
        count, *sides = matrices.shape
        texts = all(array.shape == (count,) and array.dtype.kind == "U" for array in (names, groups))
        if not texts or count > MAX_IMAGES or len(set(sides)) != 1 or len(sides) != 2 or matrices.dtype != np.int64:
            raise ValueError("it does not hold a name, a group and a confusion matrix for each image")
    except (ArithmeticError, EOFError, KeyError, MemoryError, OSError, RuntimeError, ValueError, *ZIP_ERRORS) as error:
        raise RunError(f"{path} cannot be read ({error}): score the run again with satseg.evaluate.") from error
    return names.tolist(), groups.tolist(), matrices


def write_csv(path: Path, rows: list[list[Any]]) -> None:
    """Write rows as CSV, header first."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_text(path, text.getvalue())
