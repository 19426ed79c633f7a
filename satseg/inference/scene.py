"""Segmentation of a scene of any size into files, in memory that does not grow with it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import rasterio

from satseg import signals
from satseg.data.rasters.opening import CACHE_BYTES, redacted
from satseg.data.rasters.orientation import BOTTOMUP_VARIABLE
from satseg.inference.blending import SeamStore, crossfade
from satseg.inference.pipeline import BackgroundWriter, Stopwatch
from satseg.inference.products import product_paths
from satseg.inference.reading import SceneSource
from satseg.inference.strips import StripMaker, StripPart
from satseg.inference.windows import ScenePlan
from satseg.inference.work_rasters import WorkRaster, is_finished
from satseg.inference.workspace import Journal, allocate, publish, write_errors

Strips = Generator[tuple[int, Iterator[StripPart]]]
MakeStrips = Callable[[Sequence[int]], Strips]
Progress = Callable[[int], None]
MAX_PENDING_WRITES = 2  # blocks that wait to be written
STATISTICS = ".aux.xml"  # written beside a raster by programs that open it
MASK = ".msk"  # mask beside a raster; not listed for the sources of a VRT


@dataclass(frozen=True)
class SceneTask:
    """A scene to segment, and its outputs.

    Attributes:
        maker: Computes the strips.
        output: The map; other products are written beside it.
        overviews: Resampling of the map for overviews, `mode` or `nearest`.
        identity: Everything else that the result depends on, as plain data: the scene's and the models' files.
    """

    maker: StripMaker
    output: Path
    overviews: str
    identity: Mapping[str, Any]

    def outputs(self) -> list[Path]:
        """Return the file of each product."""
        return product_paths(self.output, self.maker.products)

    def work(self) -> dict[str, Any]:
        """Return everything that the result depends on."""
        maker, scene, info = self.maker, self.maker.scene, self.maker.scene.info
        plan = maker.plan
        return {
            "identity": dict(self.identity),
            "engine": maker.engine.name,
            "batch": maker.engine.batch_size,
            "plan": [plan.rows, plan.cols, plan.zone],
            "scene": [redacted(info.path), info.width, info.height, info.crs, info.transform],
            "reading": [scene.bands, scene.nodata, scene.default_nodata, scene.scale, scene.offset, scene.area],
            "north": [info.turned, os.environ.get(BOTTOMUP_VARIABLE)],
            "products": [[p.name, p.band_names, p.dtype] for p in maker.products],
            "values": [p.map_values.values for p in maker.products if p.map_values and p.map_values.table is not None],
            "overviews": self.overviews,
        }


def predict_scene(
    task: SceneTask,
    progress: Progress = lambda pixels: None,
    watch: Stopwatch | None = None,
    make: MakeStrips | None = None,
) -> list[Path]:
    """Segment a scene; resume an interrupted call with the same task, or return what a finished one wrote.

    The caller must make sure that no other process writes the same output; see `satseg.locks.output_lock`.

    Args:
        task: The scene and its outputs.
        progress: Called with the number of pixels finished, strip by strip.
        watch: Measures time by phase.
        make: Computes the strips; in this process by default.

    Returns:
        The files, the map first.

    Raises:
        ResourceError: If the disk is full.
        RasterReadError: If the scene cannot be read to its end.
    """
    watch = watch or Stopwatch()
    task.maker.depth()  # raises if memory is too small, before anything is written
    with rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES):
        journal = Journal(task.output.with_name(f".{task.output.name}.partial"), task.work())
        if all(is_finished(path, journal.key) for path in task.outputs()):
            progress(task.maker.plan.height * task.maker.plan.width)
        else:
            _make(task, journal, progress, watch, make)
        journal.clear()
    return task.outputs()


def _make(task: SceneTask, journal: Journal, progress: Progress, watch: Stopwatch, make: MakeStrips | None) -> None:
    maker, plan = task.maker, task.maker.plan
    spec, info = maker.engine.spec, maker.scene.info
    rasters = [WorkRaster(journal.folder, product, info, spec, journal.key) for product in maker.products]
    edges = SeamStore(journal.folder, plan, spec.num_classes)
    if journal.fresh or not all(raster.path.exists() for raster in rasters):
        allocate(journal, rasters, edges.num_bytes)
    first: int = journal.finished or 0
    progress(plan.rows[first - 1].keep_stop * plan.width if first else 0)
    sink, rows = Sink(plan, maker, rasters, edges), range(first, len(plan.rows))
    with closing(make(rows) if make else maker.make(rows, watch)) as strips:
        for row, parts in strips:
            with write_errors(task.output.parent):
                sink.take(row, parts, watch)
            journal.record(row + 1)
            signals.check()
            pixels = (plan.rows[row].keep_stop - plan.rows[row].keep_start) * plan.width
            watch.pixels += pixels
            progress(pixels)
    with watch.measure("finish"):
        publish(rasters, task.outputs(), task.overviews)


@dataclass(frozen=True)
class Sink:
    """Receives strips in order, blends the seams between them, and writes them."""

    plan: ScenePlan
    maker: StripMaker
    rasters: Sequence[WorkRaster]
    edges: SeamStore

    def take(self, row: int, parts: Iterator[StripPart], watch: Stopwatch) -> None:
        """Write a strip and flush it to the disk."""
        with ExitStack() as stack:
            for raster in self.rasters:
                raster.open()
                stack.callback(raster.close)
            with BackgroundWriter(MAX_PENDING_WRITES) as writer:
                for part in parts:
                    for first, arrays in self._blocks(row, part):
                        writer.submit(partial(self._write, arrays, first, part.col, watch))
        self.edges.sync(row)

    def _blocks(self, row: int, part: StripPart) -> Iterator[tuple[int, list[np.ndarray]]]:
        """Yield the first row in the scene and the products of each block."""
        start, half = self.plan.rows[row].keep_start, self.plan.zone // 2
        if len(part.top.valid):
            above = self.edges.load(row - 1, part.column).to(part.top.logits.device)
            blended = crossfade(above, part.top.logits, -2)
            yield start - half, [product.array(blended, part.top.valid) for product in self.maker.products]
        yield (start - half + self.plan.zone if row else 0), part.body
        if part.bottom.shape[1]:
            self.edges.save(row, part.column, part.bottom)

    def _write(self, arrays: Sequence[np.ndarray], row: int, col: int, watch: Stopwatch) -> None:
        with watch.measure("write"):
            for raster, array in zip(self.rasters, arrays, strict=True):
                raster.write(row, col, array)


def scene_identity(scene: SceneSource) -> dict[str, Any]:
    """Return sizes and modification times of a scene's files, including those behind a VRT, as plain data.

    Remote files have neither, so a sample of their pixels is hashed instead.
    """
    with scene.open() as reader:
        names = [str(scene.info.path), *(name for name in reader.stored.files if not name.endswith(STATISTICS))]
        masks = [name for name in (f"{name}{MASK}" for name in names) if Path(name).exists()]
        states = {name: _state(Path(name)) for name in (*names, *masks)}
        identity: dict[str, Any] = {"files": {name: state for name, state in states.items() if state}}
        if None in states.values():
            identity["pixels"] = hashlib.sha256(reader.sample().tobytes()).hexdigest()
    return identity


def _state(path: Path) -> list[int] | None:
    try:
        state = path.stat()
    except OSError:  # remote, or in an archive
        return None
    return [state.st_size, state.st_mtime_ns]
