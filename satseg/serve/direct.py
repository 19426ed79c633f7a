"""Low-latency maps of small images: reading and writing run alongside the engine, so that it never waits."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from satseg.data.rasters.header import Window
from satseg.devices import out_of_memory_advice
from satseg.inference.preflight import inspect, inspect_open
from satseg.inference.reading import SceneSource, cache_bytes, sample
from satseg.inference.strips import Batch, StripMaker
from satseg.inference.windows import ScenePlan
from satseg.inference.work_rasters import write_product
from satseg.predict.assemble import maker_of, plan_of, products_for, source_of
from satseg.serve.estimates import MAP, Estimate
from satseg.serve.segmenting import TOO_LARGE, map_upload, notes_of
from satseg.serve.served_models import ServedModel
from satseg.serve.tickets import Ticket
from satseg.serve.uploads import Upload

Arrays = list[np.ndarray]
MAX_BYTES = 1 << 29  # of images waiting in memory; further ones are read when their turn comes


@dataclass(frozen=True, eq=False)
class Prepared:
    """An inspected upload, already read if a single window covers it.

    Attributes:
        served: The model.
        scene: The scene in the upload.
        plan: Windows of the scene.
        notes: Warnings for the client.
        estimate: Estimated cost.
        batch: The only window; None if there are several, or memory is short.
        arrays: The map, once computed, if `batch` is set.
    """

    served: ServedModel
    scene: SceneSource
    plan: ScenePlan
    notes: list[str]
    estimate: Estimate
    batch: Batch | None
    arrays: Future[Arrays] = field(default_factory=Future)

    @property
    def num_bytes(self) -> int:
        """Bytes held in memory until its turn comes."""
        return 0 if self.batch is None else sum(part.nbytes for part in self.batch)


def prepare(served: ServedModel, upload: Upload, preflight: str, *, has_room: bool = True) -> Prepared:
    """Inspect an upload, and read it if it is small.

    Args:
        served: The model.
        upload: A checked upload.
        preflight: As for `scene_of`.
        has_room: Whether the image may be held in memory; the map has the same bytes either way.

    Raises:
        SatsegError: If the model cannot take the image.
    """
    scene = source_of(served.cfg, served.models, upload.path, upload.info.driver)
    plan, source = plan_of(served.cfg, served.models, scene), served.spec.inputs[0]
    height, width = plan.window
    estimate = served.costs.estimate(MAP, plan.height * plan.width)
    if (plan.height, plan.width) != plan.window or not has_room:
        return Prepared(served, scene, plan, notes_of(inspect(scene, source), upload, preflight), estimate, None)
    with scene.open(cache_bytes(scene.info, scene.bands, height)) as reader:
        image, valid = reader.read(Window(0, 0, width, height))

        def read(part: Window) -> tuple[Tensor, Tensor]:
            rows, cols = slice(part.row, part.row + part.height), slice(part.col, part.col + part.width)
            return image[:, rows, cols], valid[rows, cols]

        findings = inspect_open(reader, source, sample(read, height, width))
    notes = notes_of(findings, upload, preflight)
    return Prepared(served, scene, plan, notes, estimate, Batch(image[None], valid[None]))


@dataclass
class Batches:
    """Batches waiting images of the same size and model, if enabled.

    Attributes:
        enabled: Whether to batch; results may then depend on concurrent requests.
        num_computed: Number of batches computed, including those of a single image.
        num_bytes: Bytes of the images waiting in memory.
    """

    enabled: bool = False
    num_computed: int = 0
    num_bytes: int = 0
    _waiting: list[Prepared] = field(default_factory=list)
    _taken: set[Prepared] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, prepared: Prepared) -> None:
        """Add an image that waits for its turn."""
        with self._lock:
            self.num_bytes += prepared.num_bytes
            if self.enabled and prepared.batch is not None:
                self._waiting.append(prepared)

    def remove(self, prepared: Prepared) -> None:
        """Remove an image."""
        with self._lock:
            self.num_bytes -= prepared.num_bytes
            self._taken.discard(prepared)
            if prepared in self._waiting:
                self._waiting.remove(prepared)

    def has_room(self) -> bool:
        """Return whether more images may be held in memory."""
        return self.num_bytes < MAX_BYTES

    def segment(self, prepared: Prepared, ticket: Ticket) -> Arrays:
        """Return an image's map, computing those of similar images in the same batch."""
        models = prepared.served.models_for(ticket.is_long)
        maker = maker_of(prepared.served.cfg, models, prepared.scene)
        if batch := self._take(prepared, maker.engine.batch_size):
            _compute(maker, batch)
        return prepared.arrays.result()

    def _take(self, first: Prepared, most: int) -> list[Prepared]:
        """Take the images to compute now; none if another job has already taken `first`."""
        with self._lock:
            if first in self._taken:
                return []
            similar = [p for p in self._waiting if p.served is first.served and p.plan == first.plan and p is not first]
            batch = [first, *similar[: most - 1]]
            self._waiting[:] = [p for p in self._waiting if p not in batch]
            self._taken.update(batch)
            self.num_computed += 1
        return batch


def _compute(maker: StripMaker, group: list[Prepared]) -> None:
    batches = [prepared.batch for prepared in group if prepared.batch is not None]
    try:
        images, valid = (torch.cat(parts) for parts in zip(*batches, strict=True))
        with out_of_memory_advice(TOO_LARGE):
            arrays = maker.segment_whole(Batch(images, valid))
    except Exception as error:
        for prepared in group:
            prepared.arrays.set_exception(error)
        return
    for prepared, own in zip(group, arrays, strict=True):
        prepared.arrays.set_result(own)


def segment(prepared: Prepared, output: Path, batches: Batches, ticket: Ticket) -> None:
    """Segment a prepared upload in memory, or strip by strip into a file if it is large."""
    if prepared.batch is None:
        map_upload(prepared.served, prepared.scene, output, ticket)
    else:
        batches.segment(prepared, ticket)
        ticket.complete()


def finish(prepared: Prepared, output: Path) -> None:
    """Write the map unless it was already written strip by strip."""
    if prepared.batch is not None:
        (array,) = prepared.arrays.result()
        product, *_ = products_for(prepared.served.cfg, prepared.served.models)
        write_product(output, array, product, prepared.scene.info, prepared.served.spec)
