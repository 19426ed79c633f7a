"""Computing a scene strip by strip: read a row of windows, infer, blend, and convert to output products."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from satseg.data.rasters.header import Window
from satseg.errors import ConfigError, ModelError
from satseg.inference.averaging import Segmenter
from satseg.inference.blending import WindowLogits, blend_row
from satseg.inference.engines import Engine
from satseg.inference.pipeline import Stopwatch, prefetch
from satseg.inference.products import Product
from satseg.inference.reading import SceneReader, SceneSource, cache_bytes
from satseg.inference.windows import ScenePlan
from satseg.spec import DatasetSpec, InputSpec

MAX_PREFETCH = 4  # batches; more would not hide more latency


class StripPart(NamedTuple):
    """Columns of a strip.

    Attributes:
        column: Index of the column of windows.
        col: First column in the scene.
        top: The zone shared with the strip above; no rows where there is none.
        body: One array (bands, h, w) per product, of the rows that no other strip contributes to.
        bottom: Logits (K, zone, w) of the zone shared with the strip below.
    """

    column: int
    col: int
    top: WindowLogits
    body: list[np.ndarray]
    bottom: Tensor


class Batch(NamedTuple):
    """Windows of one row, side by side."""

    image: Tensor
    valid: Tensor


@dataclass(frozen=True)
class StripMaker:
    """Computes strips of a scene, with the same bytes in any order, process or amount of memory.

    Attributes:
        engine: Segments windows.
        scene: The scene.
        plan: Windows of the scene.
        products: Output products.
        max_ram_bytes: Memory limit for everything but the engine.
    """

    engine: Engine
    scene: SceneSource
    plan: ScenePlan
    products: Sequence[Product]
    max_ram_bytes: int

    def make(self, rows: Sequence[int], watch: Stopwatch) -> Generator[tuple[int, Iterator[StripPart]]]:
        """Yield strips; the parts of each must be consumed before the next.

        Args:
            rows: Indices of the strips, in order.
            watch: Measures reading and inference.
        """
        with closing(prefetch(self._read(rows, watch), self.depth())) as batches:
            windows = self._infer(batches, watch)
            for row in rows:
                yield row, self._strip(row, islice(windows, len(self.plan.cols)))

    def segment_whole(self, batch: Batch) -> list[list[np.ndarray]]:
        """Return the products of scenes that fit a single window each, in memory.

        Args:
            batch: Scenes of the same size. Only a batch of one gives the same bytes as `make`.
        """
        windows = self._infer(iter([batch]), Stopwatch())
        return [part.body for window in windows for part in self._strip(0, iter([window]))]

    @property
    def _product_bytes(self) -> int:
        """Bytes per pixel of all products."""
        return sum(len(p.band_names) * np.dtype(p.dtype).itemsize for p in self.products)

    @property
    def strip_bytes(self) -> int:
        """Bytes of the largest strip: its products, and the logits of its shared zones."""
        height = max(piece.keep_stop - piece.keep_start for piece in self.plan.rows)
        zones = 2 * self.plan.zone * self.engine.spec.num_classes * 4
        return self.plan.width * (height * self._product_bytes + zones)

    def depth(self) -> int:
        """Return how many batches may be prefetched.

        Raises:
            ConfigError: If memory does not suffice for one.
        """
        scene, engine = self.scene.info, self.engine
        pixels = self.plan.window[0] * self.plan.window[1] * engine.batch_size
        batch = pixels * (len(self.scene.bands) * 4 + 1)
        results = pixels * engine.spec.num_classes * 4 * 5  # raw, averaged and as probabilities
        results += 4 * pixels * self._product_bytes
        fixed = cache_bytes(scene, self.scene.bands, self.plan.window[0]) + results
        if fixed + 2 * batch > self.max_ram_bytes:
            raise ConfigError(
                f"max_ram_gb={self.max_ram_bytes / 1e9:g}: windows of {self.plan.window[1]} x {self.plan.window[0]} "
                f"pixels need {(fixed + 2 * batch) / 1e9:.3g}; raise it, or set a smaller window_size or batch_size."
            )
        return int(min((self.max_ram_bytes - fixed) // batch - 1, MAX_PREFETCH))

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

    def _infer(self, batches: Iterator[Batch], watch: Stopwatch) -> Iterator[WindowLogits]:
        for image, valid in batches:
            with watch.measure("infer"):
                if valid.any():
                    logits = self.engine(image, valid)
                    finite = finite_pixels(logits, image, valid, self.engine.spec, self.engine)
                    if not finite.all():  # because of extreme input values: nodata
                        logits, valid = logits.masked_fill(~finite[:, None], 0.0), valid & finite.to(valid.device)
                else:  # no valid pixel: nothing of it is written
                    logits = torch.zeros(len(image), self.engine.spec.num_classes, *image.shape[-2:])
            yield from map(WindowLogits, logits, valid)

    def _strip(self, row: int, windows: Iterator[WindowLogits]) -> Iterator[StripPart]:
        for part in blend_row(self.plan, row, windows):
            body = [product.array(*part.body) for product in self.products]
            yield StripPart(part.column, part.col, part.top, body, part.bottom.logits)


def finite_pixels(logits: Tensor, image: Tensor, valid: Tensor, spec: DatasetSpec, segmenter: Segmenter) -> Tensor:
    """Return the pixels (N, H, W) for which a model's logits are finite.

    A few input values far outside the training range may turn a whole window into NaN. So if no pixel is finite, the
    model is also tried on noise with the training's mean and standard deviation.

    Args:
        logits: The model's output (N, K, H, W).
        image: Its input, raw values (N, C, H, W).
        valid: Boolean (N, H, W), on the image's device.
        spec: Inputs of the model.
        segmenter: The model.

    Raises:
        ModelError: If the output for the noise is not finite either.
    """
    finite = logits.sum(1).isfinite()
    if finite.all() or not valid.any() or (finite & valid.to(finite.device)).any():
        return finite
    if not segmenter(_training_noise(image, spec.inputs[0]), torch.ones_like(valid)).isfinite().any():
        raise ModelError("The model computes nothing but NaN or infinite numbers: it is damaged, use another file.")
    return finite


def _training_noise(image: Tensor, source: InputSpec) -> Tensor:
    """Return noise with the training's statistics, in the shape and dtype of an image (N, C, H, W)."""
    mean, std = (np.array(numbers or ()).reshape(-1, 1, 1) for numbers in (source.mean, source.std))
    noise = np.random.default_rng(0).standard_normal(tuple(image.shape))
    raw = source.offset + source.scale * (mean + std * noise)
    if not image.is_floating_point():
        limits = torch.iinfo(image.dtype)
        raw = raw.clip(limits.min, limits.max)
    return torch.from_numpy(raw).to(image.dtype).to(image.device)
