"""The models that `checkpoint=` names to be averaged; mostly one."""

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
from satseg.inference.alike import check_alike, joint_spec
from satseg.inference.combining import Ensemble, Scored
from satseg.models import SegmentationNetwork
from satseg.models.checkpoint import fetch_checkpoints, load_model
from satseg.runs import model_path, run_folder
from satseg.spec import DatasetSpec

ENSEMBLES = "ensembles"  # below the folder of runs: what is made by several models has a folder of its own there
RECORD = "ensemble.json"
LONGEST_NAME = 80


@dataclass(frozen=True)
class Members:
    """Models that are averaged.

    Attributes:
        checkpoints: Run folders or model files.
        networks: What they hold.
    """

    checkpoints: tuple[Path, ...]
    networks: tuple[SegmentationNetwork, ...]

    @cached_property
    def spec(self) -> DatasetSpec:
        """Classes and inputs, which all have in common."""
        return joint_spec([network.spec for network in self.networks])

    @property
    def network(self) -> Scored:
        """All of them as one network."""
        return self.networks[0] if len(self.networks) == 1 else Ensemble(self.networks, self.spec)

    @cached_property
    def digests(self) -> list[str]:
        """SHA-256 of the model files."""
        return [file_digest(model_path(path)) for path in self.checkpoints]

    def folder(self, runs_dir: Path) -> Path:
        """Return where results go: the run's folder, or one of several models' own, in which their record is written.

        Raises:
            RunError: If the only model lies in no run folder.
        """
        if len(self.checkpoints) == 1:
            return run_folder(self.checkpoints[0])
        names = sorted(zip(map(_name, self.checkpoints), self.digests, strict=True))
        joint = re.sub(r"[^A-Za-z0-9_.+-]+", "_", "+".join(name for name, _ in names))[:LONGEST_NAME]
        digest = hashlib.sha256("".join(digest for _, digest in names).encode()).hexdigest()
        folder = runs_dir / ENSEMBLES / f"{joint}_{digest[:8]}"
        self.write_record(folder)
        return folder

    def write_record(self, folder: Path) -> None:
        """Write down in a folder which models are averaged."""
        paths = map(str, self.checkpoints)
        members = [
            {"checkpoint": path, "sha256": digest, "temperature": network.temperature}
            for path, digest, network in zip(paths, self.digests, self.networks, strict=True)
        ]
        write_json(folder / RECORD, {"members": members, "combined": "mean of their probabilities"})


def load_members(cfg: DictConfig, device: torch.device) -> Members:
    """Load what `checkpoint=` names, and see that it can be averaged.

    Args:
        cfg: With `checkpoint`, `runs_dir` and `trusted_modules`.
        device: Where to.

    Raises:
        CheckpointError: If a model cannot be loaded.
        ConfigError: If they do not go together.
    """
    paths = fetch_checkpoints(cfg.checkpoint, Path(cfg.runs_dir))
    if twice := next((path for path in paths if [*map(_file, paths)].count(_file(path)) > 1), None):
        raise ConfigError(f"checkpoint=[…]: {twice} is named twice: name each model of an ensemble once.")
    networks = [load_model(path, device, trusted_modules=cfg.trusted_modules) for path in paths]
    specs = [network.spec for network in networks]
    check_alike(specs, [str(path) for path in paths])
    known = {repr(spec.inputs[0].nodata) for spec in specs}
    if len(known) > 1 and cfg.get("nodata", 0) is None:
        taken = joint_spec(specs).inputs[0].nodata
        print(
            f"Warning: the models' trainings knew missing pixels by other values ({', '.join(sorted(known))}): in "
            f"scenes that declare none, {taken:g} is taken for one; nodata= says another.",
            file=sys.stderr,
        )
    return Members(tuple(paths), tuple(networks))


def _file(path: Path) -> Path:
    return model_path(path).resolve()


def _name(path: Path) -> str:
    return path.resolve().name if path.is_dir() else path.resolve().parent.name
