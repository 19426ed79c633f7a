"""From a scene to strips of results: read a row of windows, infer, blend it, and make of it what is written."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from satseg.data.rasters.raster import Window
from satseg.errors import ConfigError
from satseg.inference.blending import Seen, strips
from satseg.inference.engines import Engine
from satseg.inference.numbers import has_numbers
from satseg.inference.pipeline import Stopwatch, ahead
from satseg.inference.plans import ScenePlan
from satseg.inference.products import Product
from satseg.inference.reading import SceneReader, SceneSource, cache_bytes

MOST_AHEAD = 4  # batches read before they are needed: more would hide no more waiting


class StripPart(NamedTuple):
    """Columns of a strip.

    Attributes:
        column: Which column of windows.
        col: Where the columns begin in the scene.
        top: The zone that the strip above shares; no rows where there is none.
        body: One array (bands, h, w) a product, of the rows that no other strip has a say in.
        bottom: Logits (K, zone, w) of the zone that the strip below shares.
    """

    column: int
    col: int
    top: Seen
    body: list[np.ndarray]
    bottom: Tensor


class Batch(NamedTuple):
    """Windows of one row, side by side."""

    image: Tensor
    valid: Tensor


@dataclass(frozen=True)
class StripMaker:
    """Computes strips of a scene; the same bytes in whatever order, process or memory.

    Attributes:
        engine: Segments windows.
        scene: What is read.
        plan: Its windows.
        products: What is made of it.
        max_ram_bytes: For all but the engine.
    """

    engine: Engine
    scene: SceneSource
    plan: ScenePlan
    products: Sequence[Product]
    max_ram_bytes: int

    def make(self, rows: Sequence[int], watch: Stopwatch) -> Generator[tuple[int, Iterator[StripPart]]]:
        """Return the parts of strips; each strip's must be taken before the next.

        Args:
            rows: Which, in order.
            watch: Measures reading and inference.
        """
        with closing(ahead(self._read(rows, watch), self.depth())) as batches:
            seen = self._infer(batches, watch)
            for row in rows:
                yield row, self._strip(row, islice(seen, len(self.plan.cols)))

    def whole(self, batch: Batch) -> list[list[np.ndarray]]:
        """Return the products of scenes that one window covers each, in memory: the same bytes as those of `make`.

        Args:
            batch: The scenes, of one size; of one alone where the same bytes are wanted.
        """
        windows = self._infer(iter([batch]), Stopwatch())
        return [part.body for seen in windows for part in self._strip(0, iter([seen]))]

    @property
    def _product_bytes(self) -> int:
        """Of a pixel, in all products."""
        return sum(len(p.band_names) * np.dtype(p.dtype).itemsize for p in self.products)

    @property
    def strip_bytes(self) -> int:
        """Of the largest strip: its products, and the logits of the zones that it shares."""
        height = max(piece.keep_stop - piece.keep_start for piece in self.plan.rows)
        zones = 2 * self.plan.zone * self.engine.spec.num_classes * 4
        return self.plan.width * (height * self._product_bytes + zones)

    def depth(self) -> int:
        """Return how many batches may wait.

        Raises:
            ConfigError: If not even one has room.
        """
        scene, engine = self.scene.info, self.engine
        pixels = self.plan.window[0] * self.plan.window[1] * engine.batch_size
        batch = pixels * (len(self.scene.bands) * 4 + 1)
        results = pixels * engine.spec.num_classes * 4 * 5  # as they come, averaged and as probabilities
        results += 4 * pixels * self._product_bytes
        fixed = cache_bytes(scene, self.scene.bands, self.plan.window[0]) + results
        if fixed + 2 * batch > self.max_ram_bytes:
            raise ConfigError(
                f"max_ram_gb={self.max_ram_bytes / 1e9:g}: windows of {self.plan.window[1]} x {self.plan.window[0]} "
                f"pixels need {(fixed + 2 * batch) / 1e9:.3g}; raise it, or set a smaller window_size or batch_size."
            )
        return int(min((self.max_ram_bytes - fixed) // batch - 1, MOST_AHEAD))

    def _read(self, rows: Sequence[int], watch: Stopwatch) -> Iterator[Batch]:
        cache = cache_bytes(self.scene.info, self.scene.bands, self.plan.window[0])
        with self.scene.open(cache) as reader:
            for row in rows:
                for first in range(0, len(self.plan.cols), self.engine.batch_size):
                    with watch.measure("read"):
                        batch = self._batch(reader, row, first)
                    yield batch

    def _batch(self, reader: SceneReader, row: int, first: int) -> Batch:
        height, width = self.plan.window
        start = self.plan.rows[row].start
        cols = self.plan.cols[first : first + self.engine.batch_size]
        read = [reader.read(Window(piece.start, start, width, height)) for piece in cols]
        return Batch(torch.stack([image for image, _ in read]), torch.stack([valid for _, valid in read]))

    def _infer(self, batches: Iterator[Batch], watch: Stopwatch) -> Iterator[Seen]:
        for image, valid in batches:
            with watch.measure("infer"):
                if valid.any():
                    logits = self.engine(image, valid)
                    finite = has_numbers(logits, image, valid, self.engine.spec, self.engine)
                    if not finite.all():  # of what is beyond the rest, or the model would not be used: nodata
                        logits, valid = logits.masked_fill(~finite[:, None], 0.0), valid & finite.to(valid.device)
                else:  # nothing to see: no pixel of it is written
                    logits = torch.zeros(len(image), self.engine.spec.num_classes, *image.shape[-2:])
            yield from map(Seen, logits, valid)

    def _strip(self, row: int, windows: Iterator[Seen]) -> Iterator[StripPart]:
        for part in strips(self.plan, row, windows):
            body = [product.array(*part.body) for product in self.products]
            yield StripPart(part.column, part.col, part.top, body, part.bottom.logits)
