"""Rebuilding the dataset that a run recorded."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf

from satseg.errors import ConfigError, RunError
from satseg.records.config import check_classes, read_bands, read_dataset
from satseg.runs import run_folder
from satseg.spec import DatasetSpec, InputSpec

if TYPE_CHECKING:  # imports Lightning, which prediction does not need
    from satseg.data import SegmentationDataModule


def recorded_datamodule(
    checkpoint: Path, changes: DictConfig, spec: DatasetSpec, trusted_modules: Collection[str] = ()
) -> SegmentationDataModule:
    """Build the dataset to score a model on: the one it was trained on, or another one.

    Args:
        checkpoint: A run folder, or a model file in one.
        changes: The config group `dataset`; without `_target_` its values override the recorded ones.
        spec: The model's spec.
        trusted_modules: The user's own modules, whose classes a record may name.

    Raises:
        ConfigError: If classes or bands of the dataset differ from the model's, or there is no record.
    """
    from satseg.data.building import build_dataset

    chosen, origin = changes, None
    if "_target_" not in changes:
        folder = run_folder(checkpoint)
        chosen, origin = read_dataset(folder, trusted_modules), folder / "config.yaml"
        check_classes(chosen, "dataset", origin)
        for key, value in changes.items():
            if value is not None and key not in chosen:
                raise ConfigError(f"dataset.{key!s}={value}: the dataset of {checkpoint} has no such option.")
            if value is not None:
                OmegaConf.update(chosen, str(key), value)
    datamodule = build_dataset({str(k): v for k, v in chosen.items() if v is not None}, origin)
    datamodule.setup()
    if datamodule.spec.class_names != spec.class_names:
        raise ConfigError(
            f"The dataset has the classes {', '.join(datamodule.spec.class_names)}, but {checkpoint} was trained on "
            f"{', '.join(spec.class_names)}: give the dataset of the model, or set dataset.classes."
        )
    _check_input(datamodule.spec.inputs[0], spec.inputs[0], checkpoint)
    return datamodule


def recorded_bands(checkpoint: Path) -> list[int] | None:
    """Return the band numbers used in training; None if all or named bands were used, or if unknown."""
    try:
        folder = run_folder(checkpoint)
    except RunError:
        return None
    return read_bands(folder)


def _check_input(given: InputSpec, wanted: InputSpec, checkpoint: Path) -> None:
    """Check that dtype and bands of a dataset match those of the model."""
    reordered = given.bands != wanted.bands and sorted(given.bands) == sorted(wanted.bands)
    if given.dtype != wanted.dtype or len(given.bands) != len(wanted.bands) or reordered:
        raise ConfigError(
            f"The dataset has {given.dtype} images with the bands {', '.join(given.bands)}, but {checkpoint} was "
            f"trained on {wanted.dtype} and {', '.join(wanted.bands)}: set dataset.bands, or give matching data."
        )
