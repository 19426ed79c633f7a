"""The configuration that a run was made from."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from satseg.errors import RecordError, RunError
from satseg.records.slots import checked_record
from satseg.runs.renamed import read_record


def read_config(folder: Path, trusted_modules: Collection[str] = ()) -> DictConfig:
    """Read the configuration that a run was made from; it may come from outside, as its folder may.

    What only the user may say, such as loggers, is left out: see `satseg.records.slots`.

    Raises:
        RunError: If the folder has none, or it cannot be read.
        ConfigError: If it names a class where satseg's own configuration does not, outside the trusted modules.
    """
    path = folder / "config.yaml"
    if not path.is_file():
        raise RunError(f"{folder} is no run folder: it has no config.yaml.")
    config = OmegaConf.create(checked_record(read_record(path), path, trusted_modules))
    if not isinstance(config.get("dataset"), DictConfig):
        raise RecordError(f"{path} has no dataset: it is no record of a run.")
    return config
