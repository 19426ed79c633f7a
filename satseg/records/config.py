"""Reading the configuration of a run, and checking its options."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf

from satseg.errors import ConfigError, RecordError, RunError, printable
from satseg.records.slots import HYDRA_KEYS, checked_record, schema
from satseg.runs import AUTO, AUTO_OPTIONS
from satseg.runs.renamed import read_record
from satseg.signatures import first_mismatch


def read_config(folder: Path, trusted_modules: Collection[str] = ()) -> DictConfig:
    """Read the configuration of a run, whose folder may be untrusted.

    Options that only the user may set, such as loggers, are dropped: see `satseg.records.slots`.

    Raises:
        RunError: If the configuration is missing or invalid.
        ConfigError: If it names a class that is neither in satseg's configuration at that place nor trusted.
    """
    path = folder / "config.yaml"
    record = _record(path)
    config = OmegaConf.create(checked_record(record, path, trusted_modules))
    _dataset(record, path)
    return config


def read_dataset(folder: Path, trusted_modules: Collection[str] = ()) -> DictConfig:
    """Read the group `dataset` of a run's configuration; other groups, such as the loss, are not checked.

    Raises:
        RunError: If the configuration is missing or invalid.
        ConfigError: If it names a class that is neither in satseg's configuration at that place nor trusted.
    """
    path = folder / "config.yaml"
    recorded = {"dataset": _dataset(_record(path), path)}
    dataset: DictConfig = OmegaConf.create(checked_record(recorded, path, trusted_modules)).dataset
    return dataset


def read_bands(folder: Path) -> list[int] | None:
    """Return the band numbers used in a run's training; None if all or named bands were used.

    Classes in the record are not checked.

    Raises:
        RunError: If the record is missing or invalid.
    """
    path = folder / "config.yaml"
    bands = _dataset(_record(path), path).get("bands")
    if bands is not None and not isinstance(bands, list):
        raise RecordError(printable(f"{path}: dataset.bands is {str(bands)[:60]}; expected a list."))
    return bands if bands and all(type(band) is int for band in bands) else None


def _dataset(record: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return the group `dataset` of a record, unchecked."""
    dataset = record.get("dataset")
    if not isinstance(dataset, dict):
        raise RecordError(f"{path} has no dataset: it is not the record of a run.")
    return dataset


def _record(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise RunError(f"{path.parent} is not a run folder: it has no config.yaml.")
    return read_record(path)


def check_classes(node: Any, name: str, path: Path) -> None:
    """Check the options of classes that satseg's configuration names; other classes check their own.

    Args:
        node: Section of a record.
        name: Name of the section.
        path: Path of the record.

    Raises:
        ConfigError: If an option is unknown or its value has a wrong type.
    """
    value: Any = OmegaConf.to_container(node) if OmegaConf.is_config(node) else node
    if not isinstance(value, dict):
        return
    target = value.get("_target_")
    if target is not None and any(target in slot.targets for slot in schema().slots.values()):
        # A run that was stopped early may not have resolved its `auto` options yet.
        options = {k: v for k, v in value.items() if not (v == AUTO and f"{name}.{k}" in AUTO_OPTIONS)}
        found = first_mismatch(get_class(target), {k: v for k, v in options.items() if k not in HYDRA_KEYS})
        if found is not None:
            text = f"{path}: {name}.{found[0]} {found[1]}"
            raise ConfigError(printable(text))
    for key, part in value.items():
        check_classes(part, f"{name}.{key}", path)
