"""Segmenting a scene of any size into files, in memory that does not grow with it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rasterio.errors import RasterioError

from satseg.data.opening import reason
from satseg.errors import ResourceError
from satseg.inference.blending import cross
from satseg.inference.edges import EdgeStore
from satseg.inference.journal import Journal
from satseg.inference.pipeline import Behind, Stopwatch
from satseg.inference.plans import ScenePlan
from satseg.inference.rasters import WorkRaster
from satseg.inference.strips import StripMaker, StripPart

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
        names = [product.name for product in self.maker.products]
        return [self.output.with_stem(f"{self.output.stem}_{name}") if name else self.output for name in names]

    def work(self) -> dict[str, Any]:
        """Return all that the result depends on."""
        maker, info = self.maker, self.maker.scene.info
        plan = maker.plan
        return {
            "identity": dict(self.identity),
            "engine": maker.engine.name,
            "batch": maker.engine.batch_size,
            "plan": [plan.rows, plan.cols, plan.zone],
            "scene": [str(info.path), info.width, info.height, info.crs, info.transform],
            "reading": [maker.scene.bands, maker.scene.nodata, maker.scene.scale, maker.scene.offset, maker.scene.area],
            "products": [[p.name, p.band_names, p.dtype] for p in maker.products],
        }


def predict_scene(
    task: SceneTask,
    progress: Progress = lambda pixels: None,
    watch: Stopwatch | None = None,
    make: MakeStrips | None = None,
) -> list[Path]:
    """Segment a scene; go on where an earlier call with the same task was stopped.

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
    maker, plan = task.maker, task.maker.plan
    journal = Journal(task.output.with_name(f".{task.output.name}.partial"), task.work())
    spec, info = maker.engine.spec, maker.scene.info
    rasters = [WorkRaster(journal.folder, product, info, spec) for product in maker.products]
    if journal.fresh or not all(raster.path.exists() for raster in rasters):
        with _writing(task.output.parent):
            _begin(journal, rasters)
    first: int = journal.finished or 0
    progress(plan.rows[first - 1].keep_stop * plan.width if first else 0)
    sink = Sink(plan, maker, rasters, EdgeStore(journal.folder, plan, spec.num_classes))
    rows = range(first, len(plan.rows))
    with closing(make(rows) if make else maker.make(rows, watch)) as strips:
        for row, parts in strips:
            with _writing(task.output.parent):
                sink.take(row, parts, watch)
            journal.record(row + 1)
            progress((plan.rows[row].keep_stop - plan.rows[row].keep_start) * plan.width)
    with watch.measure("finish"):
        for raster, output in zip(rasters, task.outputs(), strict=True):
            raster.finish(output, task.overviews)
    journal.clear()
    return task.outputs()


def _begin(journal: Journal, rasters: Sequence[WorkRaster]) -> None:
    """Take the room that the work needs, or say at once that it is not there."""
    journal.start()
    needed, free = sum(raster.num_bytes for raster in rasters), shutil.disk_usage(journal.folder).free
    if 2 * needed > free:  # the files while they grow, and then the compressed ones
        raise ResourceError(
            f"{journal.folder.parent} has {free / 1e9:.1f} GB free, but up to {2 * needed / 1e9:.1f} are needed; "
            "make room, or name another output."
        )
    for raster in rasters:
        raster.create()
    journal.record(0)


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Turn what the system or GDAL says of a write into one line."""
    try:
        yield
    except (RasterioError, OSError) as error:
        raise ResourceError(f"{folder} cannot be written ({reason(error)}); is the disk full?") from error


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
