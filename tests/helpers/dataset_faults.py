"""Validation of the dataset in `dataset_files`, and changes that introduce one fault."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from dataset_files import CLASSES, SIZE, read, write

from satseg.data import FolderDataModule
from satseg.data.splits import Subfolder
from satseg.validate.checking import Limits, Validation, validate
from satseg.validate.findings import Finding, Severity


def check(root: Path, limits: Limits | None = None, **options: Any) -> Validation:
    given = {"images": "*/images/*", "masks": "*/masks/*", "classes": CLASSES, "split": Subfolder()} | options
    return validate(FolderDataModule(root, **given), limits, workers=1, progress=False)


def finding_of(validation: Validation, name: str) -> Finding:
    """Return the only finding of a check."""
    (finding,) = [f for f in validation.findings if f.check == name]
    return finding


def problems(validation: Validation) -> list[str]:
    """Return the names of checks with warnings or errors."""
    return [f.check for f in validation.findings if f.severity > Severity.NOTE]


Change = Callable[[Path], None]


def remove(name: str) -> Change:
    return lambda root: (root / name).unlink()


def truncate(name: str, to: float) -> Change:
    def change(root: Path) -> None:
        content = (root / name).read_bytes()
        (root / name).write_bytes(content[: int(len(content) * to)])

    return change


def rewrite(name: str, function: Callable[[np.ndarray], np.ndarray], **profile: Any) -> Change:
    """Change the pixel values of a file; the georeference stays unless the profile changes it."""

    def change(root: Path) -> None:
        number = int(Path(name).stem)
        write(root / name, function(read(root / name)), **{"east": number * 10 * SIZE} | profile)

    return change


def unchanged(array: np.ndarray) -> np.ndarray:
    return array


def add_value_nine(mask: np.ndarray) -> np.ndarray:
    mask[0, 30:50, 30:60] = 9
    return mask
