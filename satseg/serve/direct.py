"""Maps of small images, quickly: what can be done beside the engine is, so that it never waits."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from satseg.data.rasters.raster import Window
from satseg.devices import out_of_memory_advice
from satseg.inference.plans import ScenePlan
from satseg.inference.preflight import inspect, inspect_open
from satseg.inference.rasters import write_product
from satseg.inference.reading import SceneSource, cache_bytes, sample
from satseg.inference.strips import Batch, StripMaker
from satseg.predict.assemble import maker_of, plan_of, products_for, source_of
from satseg.serve.estimates import MAP, Estimate
from satseg.serve.segmenting import TOO_LARGE, map_upload, notes_of
from satseg.serve.served_models import ServedModel
from satseg.serve.tickets import Ticket
from satseg.serve.uploads import Upload

Arrays = list[np.ndarray]
MAX_BYTES = 1 << 29  # of images that wait in memory; further ones are read when their turn comes


@dataclass(frozen=True, eq=False)
class Prepared:
    """An upload that was looked at, and read if a single window covers it.

    Attributes:
        served: The model.
        scene: How it is read.
        plan: Its windows.
        notes: What its owner should know.
        estimate: What it will take.
        batch: Its only window; read later where there are several, or no room.
        arrays: The map, once it is there and the window was read before.
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
        """What is kept of it in memory until its turn comes."""
        return 0 if self.batch is None else sum(part.nbytes for part in self.batch)


def prepare(served: ServedModel, upload: Upload, preflight: str, *, has_room: bool = True) -> Prepared:
    """Look at an upload, and read it where that is little.

    Args:
        served: The model.
        upload: Checked.
        preflight: As for `scene_of`.
        has_room: Whether more may be kept in memory; the map has the same bytes if not.

    Raises:
        SatsegError: If it is no image that the model takes.
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
    """Images of one size and model that wait are segmented together, where that is wanted.

    Attributes:
        wanted: Whether; results may then depend on what else is asked.
        num_computed: How many batches there were, those of a single image too.
        num_bytes: Of the images that wait in memory.
    """

    wanted: bool = False
    num_computed: int = 0
    num_bytes: int = 0
    _waiting: list[Prepared] = field(default_factory=list)
    _taken: set[Prepared] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def expect(self, prepared: Prepared) -> None:
        """Note an image whose turn will come."""
        with self._lock:
            self.num_bytes += prepared.num_bytes
            if self.wanted and prepared.batch is not None:
                self._waiting.append(prepared)

    def forget(self, prepared: Prepared) -> None:
        """Leave an image out."""
        with self._lock:
            self.num_bytes -= prepared.num_bytes
            self._taken.discard(prepared)
            if prepared in self._waiting:
                self._waiting.remove(prepared)

    def has_room(self) -> bool:
        """Say whether more images may wait in memory."""
        return self.num_bytes < MAX_BYTES

    def segment(self, prepared: Prepared, ticket: Ticket) -> Arrays:
        """Return an image's map; those of others are computed beside it."""
        models = prepared.served.models_for(ticket.is_long)
        maker = maker_of(prepared.served.cfg, models, prepared.scene)
        if together := self._together(prepared, maker.engine.batch_size):
            _compute(maker, together)
        return prepared.arrays.result()

    def _together(self, first: Prepared, most: int) -> list[Prepared]:
        """Return what to compute now; nothing if another has begun to."""
        with self._lock:
            if first in self._taken:
                return []
            alike = [p for p in self._waiting if p.served is first.served and p.plan == first.plan and p is not first]
            together = [first, *alike[: most - 1]]
            self._waiting[:] = [p for p in self._waiting if p not in together]
            self._taken.update(together)
            self.num_computed += 1
        return together


def _compute(maker: StripMaker, together: list[Prepared]) -> None:
    batches = [prepared.batch for prepared in together if prepared.batch is not None]
    try:
        images, valid = (torch.cat(parts) for parts in zip(*batches, strict=True))
        with out_of_memory_advice(TOO_LARGE):
            arrays = maker.segment_whole(Batch(images, valid))
    except Exception as error:
        for prepared in together:
            prepared.arrays.set_exception(error)
        return
    for prepared, own in zip(together, arrays, strict=True):
        prepared.arrays.set_result(own)


def segment(prepared: Prepared, output: Path, batches: Batches, ticket: Ticket) -> None:
    """Segment a prepared upload: in memory, or by strips into a file where it is large."""
    if prepared.batch is None:
        map_upload(prepared.served, prepared.scene, output, ticket)
    else:
        batches.segment(prepared, ticket)
        ticket.complete()


def finish(prepared: Prepared, output: Path) -> None:
    """Write the map, where that was not done by strips."""
    if prepared.batch is not None:
        (array,) = prepared.arrays.result()
        product, *_ = products_for(prepared.served.cfg, prepared.served.models)
        write_product(output, array, product, prepared.scene.info, prepared.served.spec)
