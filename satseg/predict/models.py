"""Models on inference engines, for segmenting scenes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor

from satseg.devices import choose_device
from satseg.environment import package_version
from satseg.inference.averaging import Segmenter, averaged, views
from satseg.inference.engines import Engine, open_engine
from satseg.inference.members import Members, load_members
from satseg.inference.preflight import inspect_open
from satseg.inference.reading import SceneSource
from satseg.inference.value_checks import Findings
from satseg.runs import model_path
from satseg.spec import DatasetSpec

RUNTIMES = ("satseg", "torch", "onnxruntime", "openvino")  # packages whose versions affect results


@dataclass(frozen=True)
class Combined:
    """Several models or views as one engine."""

    name: str
    spec: DatasetSpec
    batch_size: int
    segmenter: Segmenter

    def __call__(self, image: Tensor, valid: Tensor) -> Tensor:
        """Return the logarithm of the mean probabilities (N, K, H, W)."""
        return self.segmenter(image, valid)


@dataclass(frozen=True)
class Models(Members):
    """An ensemble of models on engines; usually of one.

    Attributes:
        device: Device of the models.
        engines: Name of each model's engine; `auto` to choose one.
        tta: Test-time augmentation.
        batch_size: Number of windows per batch; the engine's default if None.
    """

    device: torch.device
    engines: tuple[str, ...]
    tta: str
    batch_size: int | None

    def open(self, shape: tuple[int, int]) -> Engine:
        """Return the engine for windows of a shape; engines for any shape are opened once."""
        if not self._opened or any(getattr(e, "size", None) not in (None, shape) for e in self._opened):
            self._opened[:] = [self._open(i, shape) for i in range(len(self.networks))]
        name = "+".join(self.chosen) + ("" if self.tta == "none" else f" tta={self.tta}")
        batch_size = self.batch_size or self._opened[0].batch_size
        return Combined(name, self.spec, batch_size, averaged(tuple(self._opened), views(self.tta)))

    def _open(self, index: int, shape: tuple[int, int]) -> Engine:
        path = model_path(self.checkpoints[index])
        return open_engine(path, self.networks[index], self.engines[index], self.device, shape=shape)

    @property
    def chosen(self) -> tuple[str, ...]:
        """Names of the engines opened last."""
        return tuple(engine.name for engine in self._opened)

    def engine_line(self) -> str:
        """Return a line with the engine and why it was chosen; empty if none was opened."""
        reasons = [(engine.name, getattr(engine, "why", "")) for engine in self._opened]
        lines = [f"{name}, {why}" if why else name for name, why in reasons]
        return f"Engine: {'; '.join(dict.fromkeys(lines))}" if lines else ""

    @property
    def graphs(self) -> tuple[str, ...]:
        """Hashes of the opened engines' files; empty for engines that are derived from the model alone."""
        return tuple(getattr(engine, "digest", "") for engine in self._opened)

    @cached_property
    def _opened(self) -> list[Engine]:
        return []

    def identity(self) -> dict[str, Any]:
        """Return the properties of models and opened engines that affect results."""
        versions = {package: package_version(package) for package in RUNTIMES}
        device = {"device": self.device.type, "threads": torch.get_num_threads()}
        return {"models": self.digests, "graphs": list(self.graphs), "tta": self.tta, "versions": versions} | device

    def inspect(self, scene: SceneSource) -> Findings:
        """Compare a scene with the training data of each model; return the findings of the worst match."""
        with scene.open() as reader:
            values = reader.sample()
            found = [inspect_open(reader, network.spec.inputs[0], values) for network in self.networks]
        worst = max(range(len(found)), key=lambda i: (len(found[i].errors), len(found[i].warnings), -i))
        if len({(len(one.errors), len(one.warnings)) for one in found}) == 1:
            return found[0]
        of = f" (for {self.checkpoints[worst].name}, one of {len(found)} models)"
        errors, warnings = (
            [f"{text.rstrip('.')}{of}." for text in texts] for texts in (found[worst].errors, found[worst].warnings)
        )
        return Findings(errors, warnings)


def open_models(cfg: DictConfig) -> Models:
    """Load the models of `checkpoint=`.

    Raises:
        CheckpointError: If a model cannot be loaded.
        ConfigError: If the models are incompatible, or an option is invalid.
    """
    views(cfg.tta)
    device = choose_device(cfg.device)
    members = load_members(cfg, device)
    engines = (cfg.engine,) * len(members.networks)
    return Models(members.checkpoints, members.networks, device, engines, cfg.tta, cfg.batch_size)
