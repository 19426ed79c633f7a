"""Segmenting a scene of any size into files, in memory that does not grow with it."""

from __future__ import annotations

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
from satseg.data.rasters.orientation import NORTH
from satseg.inference.blending import cross
from satseg.inference.edges import EdgeStore
from satseg.inference.journal import Journal
from satseg.inference.pipeline import Behind, Stopwatch
from satseg.inference.plans import ScenePlan
from satseg.inference.products import product_paths
from satseg.inference.rasters import WorkRaster, is_finished
from satseg.inference.strips import StripMaker, StripPart
from satseg.inference.workspace import begin, publish, writing

Strips = Generator[tuple[int, Iterator[StripPart]]]
MakeStrips = Callable[[Sequence[int]], Strips]
Progress = Callable[[int], None]
MOST_BEHIND = 2  # blocks that wait to be written


@dataclass(frozen=True)
class SceneTask:
    """One scene, and what becomes of it.

    Attributes:
        maker: Computes its strips.
        output: The map; other products lie beside it.
        overviews: How the map is made coarser, `mode` or `nearest`.
        identity: All else that the result depends on, as plain data: the scene's and the models' files.
    """

    maker: StripMaker
    output: Path
    overviews: str
    identity: Mapping[str, Any]

    def outputs(self) -> list[Path]:
        """Return the file of each product."""
        return product_paths(self.output, self.maker.products)

    def work(self) -> dict[str, Any]:
        """Return all that the result depends on."""
        maker, scene, info = self.maker, self.maker.scene, self.maker.scene.info
        plan = maker.plan
        return {
            "identity": dict(self.identity),
            "engine": maker.engine.name,
            "batch": maker.engine.batch_size,
            "plan": [plan.rows, plan.cols, plan.zone],
            "scene": [redacted(info.path), info.width, info.height, info.crs, info.transform],
            "reading": [scene.bands, scene.nodata, scene.default_nodata, scene.scale, scene.offset, scene.area],
            "north": [info.turned, os.environ.get(NORTH)],
            "products": [[p.name, p.band_names, p.dtype] for p in maker.products],
            "values": [p.coding.values for p in maker.products if p.coding and p.coding.table is not None],
            "overviews": self.overviews,
        }


def predict_scene(
    task: SceneTask,
    progress: Progress = lambda pixels: None,
    watch: Stopwatch | None = None,
    make: MakeStrips | None = None,
) -> list[Path]:
    """Segment a scene; go on where an earlier call with the same task was stopped, or take what it finished.

    No other process may write the same output meanwhile: the caller sees to it; see `satseg.locks.alone_at`.

    Args:
        task: What to do.
        progress: Told the pixels that are finished, strip by strip.
        watch: Measures.
        make: Computes strips elsewhere; in this process by default.

    Returns:
        The files, the map first.

    Raises:
        ResourceError: If there is no room on the disk.
        RasterReadError: If the scene cannot be read to its end.
    """
    watch = watch or Stopwatch()
    task.maker.depth()  # too little memory is told before anything is written
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
    edges = EdgeStore(journal.folder, plan, spec.num_classes)
    if journal.fresh or not all(raster.path.exists() for raster in rasters):
        begin(journal, rasters, edges.num_bytes)
    first: int = journal.finished or 0
    progress(plan.rows[first - 1].keep_stop * plan.width if first else 0)
    sink, rows = Sink(plan, maker, rasters, edges), range(first, len(plan.rows))
    with closing(make(rows) if make else maker.make(rows, watch)) as strips:
        for row, parts in strips:
            with writing(task.output.parent):
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
    """Takes strips in order, blends the seams between them, and writes."""

    plan: ScenePlan
    maker: StripMaker
    rasters: Sequence[WorkRaster]
    edges: EdgeStore

    def take(self, row: int, parts: Iterator[StripPart], watch: Stopwatch) -> None:
        """Write a strip, so that it is safe on the disk."""
        with ExitStack() as stack:
            for raster in self.rasters:
                raster.open()
                stack.callback(raster.close)
            with Behind(MOST_BEHIND) as writer:
                for part in parts:
                    for first, arrays in self._blocks(row, part):
                        writer.submit(partial(self._write, arrays, first, part.col, watch))
        self.edges.sync(row)

    def _blocks(self, row: int, part: StripPart) -> Iterator[tuple[int, list[np.ndarray]]]:
        """Return blocks of products, and the row of the scene in which each begins."""
        start, half = self.plan.rows[row].keep_start, self.plan.zone // 2
        if len(part.top.valid):
            above = self.edges.load(row - 1, part.column).to(part.top.logits.device)
            blended = cross(above, part.top.logits, -2)
            yield start - half, [product.array(blended, part.top.valid) for product in self.maker.products]
        yield (start - half + self.plan.zone if row else 0), part.body
        if part.bottom.shape[1]:
            self.edges.save(row, part.column, part.bottom)

    def _write(self, arrays: Sequence[np.ndarray], row: int, col: int, watch: Stopwatch) -> None:
        with watch.measure("write"):
            for raster, array in zip(self.rasters, arrays, strict=True):
                raster.write(row, col, array)
