"""Eight bits instead of 32: on which images activations are measured, and what it costs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from satseg.data.dataset import to_item
from satseg.data.rasters.header import Window
from satseg.errors import ConfigError, ExportError
from satseg.files import atomic_paths, write_json
from satseg.models import SegmentationNetwork
from satseg.runtimes.agreement import Graph, random_images
from satseg.runtimes.graph import marked
from satseg.runtimes.openvino_files import open_openvino, write_int8
from satseg.runtimes.packages import load_package
from satseg.runtimes.writing import Source, write_checked
from satseg.spec import DatasetSpec

if TYPE_CHECKING:  # its import brings Lightning, which predicting does without
    from satseg.data import SegmentationDataModule

CROP = 512  # pixels of a calibration image's side, at most
SPLIT = "val"  # what the loss is measured on; the test split stays unseen
Score = Callable[[SegmentationNetwork], float]


class GraphNetwork(SegmentationNetwork):
    """An exported graph in the place of a network, to be scored by the same code."""

    def __init__(self, graph: Graph, spec: DatasetSpec) -> None:
        torch.nn.Module.__init__(self)
        self.graph, self.spec = graph, spec

    def forward(self, image: Tensor, valid: Tensor | None = None) -> Tensor:
        """Segment raw images (N, C, H, W)."""
        return self.graph(image.float() if valid is None else marked(image, valid, self.spec.inputs[0]))


def calibration_crops(datamodule: SegmentationDataModule, count: int, seed: int = 0) -> Iterator[Tensor]:
    """Cut images out of the training split at random places, larger images more often.

    Yields:
        At most `count` float32 images (1, C, H, W) of raw numbers, NaN where invalid; all-invalid places are left out.

    Raises:
        ConfigError: If the count is none.
    """
    if type(count) is not int or count < 1:
        raise ConfigError(f"calibration_images={count}: expected a whole number of 1 or more.")
    random = np.random.default_rng(seed)
    samples = datamodule.samples_of("train")
    areas = np.array([np.prod(datamodule.sizes[s.name]) for s in samples], float)
    for index in random.choice(len(samples), count, p=areas / areas.sum()):
        height, width = datamodule.sizes[samples[index].name]
        rows, cols = min(CROP, height), min(CROP, width)
        window = Window(int(random.integers(width - cols + 1)), int(random.integers(height - rows + 1)), cols, rows)
        item = to_item("", *datamodule.reader.read(samples[index], window))
        if item["valid"].any():
            yield marked(item["image"][None], item["valid"][None], datamodule.spec.inputs[0])


def export_int8(source: Source, output: Path, crops: Iterator[Tensor], score: Score) -> dict[str, Any]:
    """Write an OpenVINO model of 8 bits and, in a JSON file beside it, the mIoU that this costs.

    Args:
        source: The model.
        output: Where to, an `.xml`.
        crops: Images to measure activations on.
        score: Returns the mIoU of a network on SPLIT.

    Returns:
        What the JSON file says.

    Raises:
        ExportError: If the model cannot be written, or nothing can be computed with it.
        FixedSizeError: If it can be written for one size only.
        MissingPackageError: If OpenVINO or NNCF is not installed.
    """
    load_package("nncf")
    spec, threads = source.network.spec, torch.get_num_threads()
    with atomic_paths(output) as path:
        exact = path.with_name(f"{path.stem}_fp32.xml")
        write_checked(exact, source, "openvino", None)
        images = write_int8(path, exact, crops)
        graphs = {"fp32": open_openvino(exact, threads), "int8": open_openvino(path, threads, by_shape=True)}
        if not graphs["int8"](random_images(spec.inputs[0], (1, 70, 90))).isfinite().all():
            raise ExportError(f"{output}: with 8 bits the logits are no numbers. It was not kept; export without int8.")
        miou = {name: score(GraphNetwork(graph, spec)) for name, graph in graphs.items()}
        measured = {
            "miou": miou,
            "loss_of_miou": miou["fp32"] - miou["int8"],
            "split": SPLIT,
            "calibration_images": images,
        }
        write_json(path.with_suffix(".json"), measured)
        del graphs
        for file in (exact, exact.with_suffix(".bin")):
            file.unlink()
    return measured
