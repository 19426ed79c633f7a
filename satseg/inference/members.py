"""The models that `checkpoint=` names: usually one, several to be averaged."""

from __future__ import annotations

import hashlib
import re
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from omegaconf import DictConfig

from satseg.errors import ConfigError
from satseg.files import file_digest, write_json
from satseg.inference.averaging import AnyNetwork, Ensemble
from satseg.inference.compatibility import check_compatible, joint_spec
from satseg.models import SegmentationNetwork
from satseg.models.checkpoint import fetch_checkpoints, load_model
from satseg.runs import model_path, run_folder
from satseg.spec import DatasetSpec

ENSEMBLES = "ensembles"  # subfolder of the runs folder for results of several models
RECORD = "ensemble.json"
MAX_NAME_LENGTH = 80


@dataclass(frozen=True)
class Members:
    """Models that are averaged.

    Attributes:
        checkpoints: Run folders or model files.
        networks: The loaded networks.
    """

    checkpoints: tuple[Path, ...]
    networks: tuple[SegmentationNetwork, ...]

    @cached_property
    def spec(self) -> DatasetSpec:
        """Common classes and inputs."""
        return joint_spec([network.spec for network in self.networks])

    @property
    def network(self) -> AnyNetwork:
        """All of them as one network."""
        return self.networks[0] if len(self.networks) == 1 else Ensemble(self.networks, self.spec)

    @cached_property
    def digests(self) -> list[str]:
        """SHA-256 of the model files."""
        return [file_digest(model_path(path)) for path in self.checkpoints]

    def folder(self, runs_dir: Path) -> Path:
        """Return the folder for results: the run folder, or an ensemble's own folder, in which its record is written.

        Raises:
            RunError: If the only model is not in a run folder.
        """
        if len(self.checkpoints) == 1:
            return run_folder(self.checkpoints[0])
        names = sorted(zip(map(_name, self.checkpoints), self.digests, strict=True))
        joint = re.sub(r"[^A-Za-z0-9_.+-]+", "_", "+".join(name for name, _ in names))[:MAX_NAME_LENGTH]
        digest = hashlib.sha256("".join(digest for _, digest in names).encode()).hexdigest()
        folder = runs_dir / ENSEMBLES / f"{joint}_{digest[:8]}"
        self.write_record(folder)
        return folder

    def write_record(self, folder: Path) -> None:
        """Write a record of the averaged models to a folder."""
        paths = map(str, self.checkpoints)
        members = [
            {"checkpoint": path, "sha256": digest, "temperature": network.temperature}
            for path, digest, network in zip(paths, self.digests, self.networks, strict=True)
        ]
        write_json(folder / RECORD, {"members": members, "combined": "mean of their probabilities"})


def load_members(cfg: DictConfig, device: torch.device) -> Members:
    """Load the models that `checkpoint=` names, and check that they can be averaged.

    Args:
        cfg: Config with `checkpoint`, `runs_dir` and `trusted_modules`.
        device: Device to load to.

    Raises:
        CheckpointError: If a model cannot be loaded.
        ConfigError: If they cannot be averaged.
    """
    paths = fetch_checkpoints(cfg.checkpoint, Path(cfg.runs_dir))
    if twice := next((path for path in paths if [*map(_file, paths)].count(_file(path)) > 1), None):
        raise ConfigError(f"checkpoint=[…]: {twice} is named twice: name each model of an ensemble once.")
    networks = [load_model(path, device, trusted_modules=cfg.trusted_modules) for path in paths]
    specs = [network.spec for network in networks]
    check_compatible(specs, [str(path) for path in paths])
    known = {repr(spec.inputs[0].nodata) for spec in specs}
    if len(known) > 1 and cfg.get("nodata", 0) is None:
        taken = joint_spec(specs).inputs[0].nodata
        print(
            f"Warning: the models were trained with different nodata values ({', '.join(sorted(known))}): in "
            f"scenes that declare none, {taken:g} is used; set nodata= for another.",
            file=sys.stderr,
        )
    return Members(tuple(paths), tuple(networks))


def _file(path: Path) -> Path:
    return model_path(path).resolve()


def _name(path: Path) -> str:
    return path.resolve().name if path.is_dir() else path.resolve().parent.name
