"""Loaded models, shared by the app and the API."""

from __future__ import annotations

import copy
import threading
import time
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import torch
from omegaconf import DictConfig, OmegaConf

from satseg.attribution import layers_of
from satseg.config import CONFIG_DIR
from satseg.errors import LayerError
from satseg.models import SegmentationNetwork
from satseg.predict.models import Models, open_models
from satseg.runs.finding import named_models
from satseg.serve.estimates import CostModel
from satseg.spec import DatasetSpec

MODEL_OPTIONS = ("engine", "device", "tta", "batch_size", "runs_dir", "trusted_modules")
PROBE_SIDE = 256  # pixels of the image used to list a network's layers
WARM_UP = (512, 512)  # pixels of the warm-up image


@dataclass(frozen=True)
class ServedModel:
    """A loaded model.

    Attributes:
        name: Name shown in menus.
        cfg: Options of `satseg.predict`, for writing the class map only.
        models: The loaded model, never an ensemble, with the engine of short jobs.
        costs: Its cost model on this server.
    """

    name: str
    cfg: DictConfig
    models: Models
    costs: CostModel = field(default_factory=CostModel)
    _opening: threading.Lock = field(default_factory=threading.Lock)

    @property
    def spec(self) -> DatasetSpec:
        """Classes and inputs of the model."""
        return self.models.spec

    @property
    def network(self) -> SegmentationNetwork:
        """The PyTorch network, for use without hooks or other changes to its modules."""
        return self.models.networks[0]

    def private_network(self) -> SegmentationNetwork:
        """Return a copy that shares the weights, to which hooks may be added while other threads compute."""
        shared = {id(one): one for one in (*self.network.parameters(), *self.network.buffers())}
        return copy.deepcopy(self.network, shared)

    def warm_up(self) -> None:
        """Open the engine, and measure its speed."""
        image = torch.zeros(1, self.spec.in_channels, *WARM_UP)
        valid = torch.ones(1, *WARM_UP, dtype=torch.bool)
        with self._opening:
            engine = self.models.open(WARM_UP)
            for _ in range(2):  # the first run is slower
                start = time.perf_counter()
                engine(image, valid).cpu()
                self.costs.calibrate(WARM_UP[0] * WARM_UP[1], time.perf_counter() - start)

    def models_for(self, is_long: bool) -> Models:
        """Return the model with the engine for long or short jobs: not every engine may be shared by two threads."""
        return self._long_models if is_long else self.models

    @cached_property
    def _long_models(self) -> Models:
        with self._opening:
            self.models.open(WARM_UP)
            engines = self.models.chosen  # the same choice, or maps would depend on the kind of job
            return replace(self.models, engines=engines, networks=(self.private_network(),))

    @cached_property
    def layer_names(self) -> list[str]:
        """Names of the layers that can be explained, from fine to coarse."""
        size = (1, self.spec.in_channels, PROBE_SIDE, PROBE_SIDE)
        image = torch.zeros(size, device=self.models.device)
        valid = torch.ones_like(image[:, 0], dtype=torch.bool)
        try:
            return [layer.name for layer in layers_of(self.network, image, valid)]
        except LayerError:  # an unusual network
            return []


def load_models(cfg: DictConfig) -> list[ServedModel]:
    """Load each model that `checkpoint=` names.

    Raises:
        CheckpointError: If a model cannot be loaded.
    """
    found: dict[str, ServedModel] = {}
    for reference in named_models(cfg.checkpoint, Path(cfg.runs_dir)):
        options = predict_options(checkpoint=reference, **{key: cfg[key] for key in MODEL_OPTIONS})
        models = open_models(options)
        path = models.checkpoints[0]
        name = path.name if path.is_dir() else path.parent.name
        name = name if name not in found else f"{name} ({len(found) + 1})"
        found[name] = ServedModel(name, options, models)
    return list(found.values())


def predict_options(**changes: Any) -> DictConfig:
    """Return the default options of `satseg.predict` with changes."""
    options = cast(DictConfig, OmegaConf.load(CONFIG_DIR / "predict.yaml"))
    for key in ("defaults", "hydra"):
        del options[key]
    return cast(DictConfig, OmegaConf.merge(options, {"progress": False}, changes))
