"""Segmenting uploads, with the same results as `satseg.predict` on the same file."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from satseg.devices import out_of_memory_advice
from satseg.inference.engines import Engine
from satseg.inference.preflight import inspect, resolve_findings
from satseg.inference.reading import SceneSource
from satseg.inference.scene import SceneTask, predict_scene
from satseg.inference.value_checks import Findings
from satseg.mapping import ClassArea, class_areas
from satseg.predict.assemble import source_of, task_of
from satseg.serve.served_models import ServedModel
from satseg.serve.tickets import Ticket
from satseg.serve.uploads import Upload
from satseg.spec import DatasetSpec

TOO_LARGE = "The image's windows are too large for this machine."
WINDOWS_SHARE = 0.9  # of the progress; the rest is writing the cloud-optimised file


@dataclass(frozen=True)
class MonitoredEngine:
    """An engine that reports each batch of windows, and can be cancelled between batches."""

    engine: Engine
    tick: Callable[[int], None]

    @property
    def name(self) -> str:
        """The engine's own, as its results are the same."""
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
        self.tick(0)
        logits = self.engine(image, valid)
        self.tick(len(image))
        return logits


@dataclass(frozen=True)
class Segmented:
    """A finished map.

    Attributes:
        upload: The upload.
        scene: The scene in the upload.
        classes: The map, one uint8 band.
        probabilities: One uint8 band per class, 0 to 254 for 0 to 1.
        areas: Areas of the classes.
        notes: Warnings for the user.
    """

    upload: Upload
    scene: SceneSource
    classes: Path
    probabilities: Path
    areas: list[ClassArea]
    notes: list[str]


def scene_of(served: ServedModel, upload: Upload, preflight: str) -> tuple[SceneSource, list[str]]:
    """Return the scene in an upload, and warnings for the user.

    Args:
        served: The model.
        upload: A checked upload.
        preflight: `stop` at a scene unlike the training data, or only `warn`.

    Raises:
        SatsegError: If the model cannot take the image.
    """
    scene = source_of(served.cfg, served.models, upload.path, upload.info.driver)
    return scene, notes_of(inspect(scene, served.spec.inputs[0]), upload, preflight)


def notes_of(findings: Findings, upload: Upload, preflight: str) -> list[str]:
    """Return warnings for the user of an upload.

    Raises:
        PreflightError: If it is unlike the training, and `preflight` is `stop`.
    """
    return [upload.public_text(note.partition("; set ")[0]) for note in resolve_findings(findings, preflight)]


def segment_upload(
    served: ServedModel, upload: Upload, folder: Path, ticket: Ticket, preflight: str = "warn", kind: str = "classes"
) -> Segmented:
    """Segment an upload, whatever its size, with all probabilities.

    Args:
        served: The model.
        upload: A checked upload.
        folder: An empty folder for the map.
        ticket: Receives progress, window by window.
        preflight: `stop` at a scene unlike the training data, or only `warn`.
        kind: Suffix of the files' stems.

    Raises:
        PreflightError: If it is unlike the training, and `preflight` is `stop`.
        SatsegError: If it is no image that the model takes.
        CancelledError: If the user stopped it.
    """
    scene, notes = scene_of(served, upload, preflight)
    cfg = OmegaConf.merge(served.cfg, {"probabilities": "all"})
    assert isinstance(cfg, DictConfig)
    task = task_of(cfg, served.models_for(ticket.is_long), scene, folder / f"{upload.stem}_{kind}.tif")
    classes, probabilities = run_task(task, ticket)
    ticket.tick(0)  # raises if cancelled, before the areas are computed
    return Segmented(upload, scene, classes, probabilities, class_areas(classes, served.spec.class_names), notes)


def map_upload(served: ServedModel, scene: SceneSource, output: Path, ticket: Ticket) -> None:
    """Segment an upload of any size into a class map only; resume an interrupted call.

    Raises:
        SatsegError: If it cannot be segmented.
        CancelledError: If the user stopped it.
    """
    run_task(task_of(served.cfg, served.models_for(ticket.is_long), scene, output), ticket)


def run_task(task: SceneTask, ticket: Ticket) -> list[Path]:
    """Segment a scene, report progress to a ticket, and return the files."""
    plan = task.maker.plan
    ticket.total = math.ceil(len(plan.rows) * len(plan.cols) / WINDOWS_SHARE)
    done = 0

    def strip_done(count: int) -> None:  # the engine does not see windows without valid pixels
        nonlocal done
        done += count
        ticket.reach(WINDOWS_SHARE * done / (plan.width * plan.height))

    with out_of_memory_advice(TOO_LARGE):
        files = predict_scene(_watched(task, ticket.tick), strip_done)
    ticket.complete()
    return files


def _watched(task: SceneTask, tick: Callable[[int], None]) -> SceneTask:
    return replace(task, maker=replace(task.maker, engine=MonitoredEngine(task.maker.engine, tick)))
