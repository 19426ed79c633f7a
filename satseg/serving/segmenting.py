"""A model that is served, and what it makes of an upload: the same numbers as `satseg.predict` on the same file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from satseg.attribution import layers_of
from satseg.config import CONFIG_DIR
from satseg.data.opening import open_raster
from satseg.devices import enough_memory
from satseg.inference.engines import Engine
from satseg.inference.preflight import inspect, settle
from satseg.inference.reading import SceneSource
from satseg.inference.scene import SceneTask, predict_scene
from satseg.mapping import ClassArea, class_areas
from satseg.models import SegmentationNetwork
from satseg.predicting import Models, open_models, source_of, task_of
from satseg.serving.jobs import Ticket
from satseg.serving.uploads import Upload
from satseg.spec import DatasetSpec

PASSED_ON = ("engine", "device", "tta", "runs_dir", "trusted_modules")
OUTLINE_SIDE = 256  # pixels of the image that a network's layers are looked up with


@dataclass(frozen=True)
class Served:
    """A model that is ready.

    Attributes:
        name: What a menu calls it.
        cfg: The options of `satseg.predict`.
        models: It, alone.
    """

    name: str
    cfg: DictConfig
    models: Models

    @property
    def spec(self) -> DatasetSpec:
        """Its classes and inputs."""
        return self.models.spec

    @property
    def network(self) -> SegmentationNetwork:
        """It, in PyTorch."""
        return self.models.networks[0]

    @cached_property
    def layer_names(self) -> list[str]:
        """Layers whose maps can be shown, from fine to coarse."""
        size = (1, self.spec.in_channels, OUTLINE_SIDE, OUTLINE_SIDE)
        image = torch.zeros(size, device=self.models.device)
        return [layer.name for layer in layers_of(self.network, image, torch.ones_like(image[:, 0], dtype=torch.bool))]


@dataclass(frozen=True)
class Watched:
    """An engine that tells after each batch of windows, and can be stopped between two."""

    engine: Engine
    tick: Callable[[int], None]

    @property
    def name(self) -> str:
        """The engine's own: what comes of it is the same."""
        return self.engine.name

    @property
    def spec(self) -> DatasetSpec:
        """The engine's own."""
        return self.engine.spec

    @property
    def batch_size(self) -> int:
        """The engine's own."""
        return self.engine.batch_size

    def __call__(self, image: Tensor, valid: Tensor) -> Tensor:
        """Segment windows."""
        logits = self.engine(image, valid)
        self.tick(len(image))
        return logits


@dataclass(frozen=True)
class Segmented:
    """A finished map.

    Attributes:
        upload: What it is of.
        scene: How that is read.
        classes: The map, one uint8 band.
        probabilities: A uint8 band a class, 0 to 254 for 0 to 1.
        areas: Of the classes.
        notes: What the user should know before trusting it.
    """

    upload: Upload
    scene: SceneSource
    classes: Path
    probabilities: Path
    areas: list[ClassArea]
    notes: list[str]


def open_served(cfg: DictConfig) -> list[Served]:
    """Load what `checkpoint=` names, a path or a list of them, each as a model of its own.

    Raises:
        CheckpointError: If one cannot be loaded.
    """
    named: Sequence[Any] = list(cfg.checkpoint) if OmegaConf.is_list(cfg.checkpoint) else [cfg.checkpoint]
    found: dict[str, Served] = {}
    for reference in named:
        options = predict_options(checkpoint=str(reference), **{key: cfg[key] for key in PASSED_ON})
        models = open_models(options)
        path = models.checkpoints[0]
        name = path.name if path.is_dir() else path.parent.name
        name = name if name not in found else f"{name} ({len(found) + 1})"
        found[name] = Served(name, options, models)
    return list(found.values())


def predict_options(**changes: Any) -> DictConfig:
    """Return the options of `satseg.predict` as they stand in `conf/`, with changes."""
    options = cast(DictConfig, OmegaConf.load(CONFIG_DIR / "predict.yaml"))
    for key in ("defaults", "hydra"):
        del options[key]
    fixed = {"preflight": "warn", "probabilities": "all", "progress": False}
    return cast(DictConfig, OmegaConf.merge(options, fixed | changes))


def segment_upload(served: Served, upload: Upload, folder: Path, ticket: Ticket) -> Segmented:
    """Segment an upload, whatever its size.

    Args:
        served: The model.
        upload: Checked.
        folder: Where the map goes; with nothing else in it.
        ticket: Told window by window.

    Raises:
        SatsegError: If it is no image that the model takes.
        CancelledError: If the user stopped it.
    """
    scene = source_of(served.cfg, served.models, upload.path, upload.info.driver)
    notes = [upload.told(note.partition("; set ")[0]) for note in settle(inspect(scene, served.spec.inputs[0]), "warn")]
    task = task_of(served.cfg, served.models, scene, folder / f"{upload.stem}_classes.tif")
    ticket.total = len(task.maker.plan.rows) * len(task.maker.plan.cols)
    done, pixels = 0, scene.info.width * scene.info.height

    def strip_done(count: int) -> None:  # windows without an image are not given to the engine
        nonlocal done
        done += count
        ticket.reach(done / pixels)

    with enough_memory("The image's windows are too large for this machine."):
        classes, probabilities = predict_scene(_watched(task, ticket.tick), strip_done)
    return Segmented(upload, scene, classes, probabilities, class_areas(classes, served.spec.class_names), notes)


def _watched(task: SceneTask, tick: Callable[[int], None]) -> SceneTask:
    return replace(task, maker=replace(task.maker, engine=Watched(task.maker.engine, tick)))


@dataclass(frozen=True)
class Thumbnails:
    """A finished map at the size of a screen.

    Attributes:
        image: Raw numbers (C, h, w) of all bands of the file.
        valid: Boolean (h, w).
        classes: Indices (h, w), uint8; the ignore index where there is no image.
        confidence: Probability (h, w) of the class that won, 0 to 1; NaN where there is no image.
    """

    image: np.ndarray
    valid: np.ndarray
    classes: np.ndarray
    confidence: np.ndarray


def thumbnails(found: Segmented, side: int) -> Thumbnails:
    """Read image and map so that no side is longer than so many pixels."""
    scene = replace(found.scene, bands=found.upload.info.bands)
    with scene.open() as reader:
        image, valid = reader.thumbnail(side)
    with open_raster(found.classes) as source:
        classes = source.read(1, out_shape=valid.shape)
    with open_raster(found.probabilities) as source:
        top = source.read(out_shape=(source.count, *valid.shape)).max(0)
    nothing = classes == 255
    confidence = np.where(nothing, np.nan, top / np.float32(254))
    return Thumbnails(image, valid & ~nothing, classes, confidence)


def probabilities_at(found: Segmented, col: int, row: int) -> list[float] | None:
    """Return the classes' probabilities at a pixel; None where there is no image."""
    with open_raster(found.probabilities) as source:
        stored = source.read(window=((row, row + 1), (col, col + 1)))[:, 0, 0]
    return None if (stored == 255).all() else (stored / 254).tolist()
