"""Validation of the loading options."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any, Literal, get_args

from satseg.errors import ConfigError, DataError

Normalisation = Literal["auto", "backbone", "scale", "standardise", "percentile"]
NORMALISATIONS: tuple[Normalisation, ...] = get_args(Normalisation)
FOLDER = "satseg.data.folder.FolderDataModule"
NO_ROOT = "This dataset needs its folder: give dataset.root=/path/to/the/data."


def check_root(root: str | Path | None) -> None:
    """Check that the dataset's folder is given and exists.

    Raises:
        ConfigError: If none is given.
        DataError: If it does not exist.
    """
    if root is None:
        raise ConfigError(NO_ROOT)
    if not Path(root).is_dir():
        raise DataError(f"dataset.root={root} is not a folder; give the one that holds your images and masks.")


def check_options(patch_size: Any, batch_size: Any, patches_per_epoch: Any, num_workers: Any) -> None:
    """Check the patch, batch and worker options.

    Raises:
        ConfigError: Names the option and what was expected.
    """
    for name, value, least in (
        ("patch_size", patch_size, 1),
        ("batch_size", batch_size, 1),
        ("patches_per_epoch", patches_per_epoch, 1),
        ("num_workers", num_workers, 0),
    ):
        if value != "auto" and not _is_whole_number(value, least):
            raise ConfigError(f"dataset.{name}={value}: expected a whole number from {least} up, or auto.")


def check_chosen(name: str, value: Any) -> None:
    """Check that a part of a dataset is an object, not the name of one.

    Raises:
        ConfigError: If it is not; names the option.
    """
    if not callable(value):
        raise ConfigError(f"dataset.{name}={value}: a file of this name is chosen by dataset/{name}={value}.")


def check_numbers(bands: Any, nodata: Any, scale: Any, offset: Any, normalisation: Any) -> None:
    """Check the options about bands and numbers of the images.

    Raises:
        ConfigError: Names the option and what was expected.
    """
    named = (
        isinstance(bands, list | tuple) and bands and all(_is_whole_number(b, 1) or isinstance(b, str) for b in bands)
    )
    if bands is not None and not named:
        raise ConfigError(
            f"dataset.bands={bands}: expected a list of band numbers from 1 up, such as [4, 3, 2], or of names."
        )
    if named and len(set(bands)) < len(bands):
        raise ConfigError(f"dataset.bands={bands}: name each band once.")
    if nodata is not None and not _is_number(nodata):
        raise ConfigError(f"dataset.nodata={nodata}: expected a number, or null for the files' own.")
    if scale != "auto" and not (_is_number(scale) and 0 < scale < math.inf):
        raise ConfigError(f"dataset.scale={scale}: expected auto, or a number above 0.")
    if offset != "auto" and not (_is_number(offset) and math.isfinite(offset)):
        raise ConfigError(f"dataset.offset={offset}: expected auto, or a number.")
    if normalisation not in NORMALISATIONS:
        raise ConfigError(f"dataset.normalisation={normalisation}: choose {', '.join(NORMALISATIONS)}.")


def _is_whole_number(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def default_workers() -> int:
    """Return a suitable number of loader processes for this machine; 0 if it has few cores."""
    cores = os.cpu_count() or 1
    return 0 if cores <= 2 else min(8, cores - 1)
