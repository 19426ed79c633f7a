"""Models that are served: loaded once, and asked by the app and the API."""

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

PASSED_ON = ("engine", "device", "tta", "batch_size", "runs_dir", "trusted_modules")
OUTLINE_SIDE = 256  # pixels of the image that a network's layers are looked up with
WARM_UP = (512, 512)  # pixels of an empty image


@dataclass(frozen=True)
class ServedModel:
    """A model that is ready.

    Attributes:
        name: What a menu calls it.
        cfg: The options of `satseg.predict`, the map alone being written.
        models: It, alone, with the engine that short jobs use.
        costs: How fast it is on this server.
    """

    name: str
    cfg: DictConfig
    models: Models
    costs: CostModel = field(default_factory=CostModel)
    _opening: threading.Lock = field(default_factory=threading.Lock)

    @property
    def spec(self) -> DatasetSpec:
        """Its classes and inputs."""
        return self.models.spec

    @property
    def network(self) -> SegmentationNetwork:
        """It, in PyTorch, for who leaves its modules as they are."""
        return self.models.networks[0]

    def private_network(self) -> SegmentationNetwork:
        """Return it with modules of the caller's own, to which hooks may be added while others compute."""
        shared = {id(one): one for one in (*self.network.parameters(), *self.network.buffers())}
        return copy.deepcopy(self.network, shared)

    def warm_up(self) -> None:
        """Open the engine, and measure it."""
        image = torch.zeros(1, self.spec.in_channels, *WARM_UP)
        valid = torch.ones(1, *WARM_UP, dtype=torch.bool)
        with self._opening:
            engine = self.models.open(WARM_UP)
            for _ in range(2):  # the first time takes longer
                begun = time.perf_counter()
                engine(image, valid).cpu()
                self.costs.calibrate(WARM_UP[0] * WARM_UP[1], time.perf_counter() - begun)

    def models_for(self, is_long: bool) -> Models:
        """Return the models with an engine of the kind of job that asks: not all may be used by two threads."""
        return self._models_of_long if is_long else self.models

    @cached_property
    def _models_of_long(self) -> Models:
        with self._opening:
            self.models.open(WARM_UP)
            engines = self.models.chosen  # the same, or maps would depend on the kind of job
            return replace(self.models, engines=engines, networks=(self.private_network(),))

    @cached_property
    def layer_names(self) -> list[str]:
        """Layers whose maps can be shown, from fine to coarse."""
        size = (1, self.spec.in_channels, OUTLINE_SIDE, OUTLINE_SIDE)
        image = torch.zeros(size, device=self.models.device)
        valid = torch.ones_like(image[:, 0], dtype=torch.bool)
        try:
            return [layer.name for layer in layers_of(self.network, image, valid)]
        except LayerError:  # a network of a kind of its own
            return []


def load_models(cfg: DictConfig) -> list[ServedModel]:
    """Load what `checkpoint=` names, one model or several, each as a model of its own.

    Raises:
        CheckpointError: If one cannot be loaded.
    """
    found: dict[str, ServedModel] = {}
    for reference in named_models(cfg.checkpoint, Path(cfg.runs_dir)):
        options = predict_options(checkpoint=reference, **{key: cfg[key] for key in PASSED_ON})
        models = open_models(options)
        path = models.checkpoints[0]
        name = path.name if path.is_dir() else path.parent.name
        name = name if name not in found else f"{name} ({len(found) + 1})"
        found[name] = ServedModel(name, options, models)
    return list(found.values())


def predict_options(**changes: Any) -> DictConfig:
    """Return the options of `satseg.predict` as they stand in `conf/`, with changes."""
    options = cast(DictConfig, OmegaConf.load(CONFIG_DIR / "predict.yaml"))
    for key in ("defaults", "hydra"):
        del options[key]
    return cast(DictConfig, OmegaConf.merge(options, {"progress": False}, changes))
