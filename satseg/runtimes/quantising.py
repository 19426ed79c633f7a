"""Quantisation to 8 bits: calibration images, and the loss of accuracy."""

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
from satseg.runtimes.graph import mark_invalid
from satseg.runtimes.openvino_files import open_openvino, write_int8
from satseg.runtimes.packages import load_package
from satseg.runtimes.writing import Source, write_checked
from satseg.spec import DatasetSpec

if TYPE_CHECKING:  # importing it imports Lightning, which prediction does not need
    from satseg.data import SegmentationDataModule

CROP = 512  # largest side of a calibration image, in pixels
SPLIT = "val"  # for measuring the loss of accuracy; the test split stays unseen
Score = Callable[[SegmentationNetwork], float]


class GraphNetwork(SegmentationNetwork):
    """An exported graph with the interface of a network, so that the same code scores it."""

    def __init__(self, graph: Graph, spec: DatasetSpec) -> None:
        torch.nn.Module.__init__(self)
        self.graph, self.spec = graph, spec

    def forward(self, image: Tensor, valid: Tensor | None = None) -> Tensor:
        """Segment raw images (N, C, H, W)."""
        return self.graph(image.float() if valid is None else mark_invalid(image, valid, self.spec.inputs[0]))


def calibration_crops(datamodule: SegmentationDataModule, count: int, seed: int = 0) -> Iterator[Tensor]:
    """Yield crops at random positions of the training split, sampling images in proportion to their area.

    Yields:
        At most `count` float32 images (1, C, H, W) of raw values, NaN at invalid pixels; crops without valid pixels are
        skipped.

    Raises:
        ConfigError: If the count is not a positive integer.
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
            yield mark_invalid(item["image"][None], item["valid"][None], datamodule.spec.inputs[0])


def export_int8(source: Source, output: Path, crops: Iterator[Tensor], score: Score) -> dict[str, Any]:
    """Write an 8-bit OpenVINO model, and a JSON file with the loss of mIoU next to it.

    Args:
        source: The model.
        output: Output file, an `.xml`.
        crops: Images for calibrating activations.
        score: Returns the mIoU of a network on SPLIT.

    Returns:
        The content of the JSON file.

    Raises:
        ExportError: If the model cannot be exported, or its logits are not finite.
        FixedSizeError: If it can be exported for one size only.
        MissingPackageError: If OpenVINO or NNCF is not installed.
    """
    load_package("nncf")
    spec, threads = source.network.spec, torch.get_num_threads()
    with atomic_paths(output) as path:
        fp32_path = path.with_name(f"{path.stem}_fp32.xml")
        write_checked(fp32_path, source, "openvino", None)
        images = write_int8(path, fp32_path, crops)
        graphs = {"fp32": open_openvino(fp32_path, threads), "int8": open_openvino(path, threads, static_shapes=True)}
        if not graphs["int8"](random_images(spec.inputs[0], (1, 70, 90))).isfinite().all():
            raise ExportError(f"{output}: the 8-bit logits are not finite. It was not kept; export without int8.")
        miou = {name: score(GraphNetwork(graph, spec)) for name, graph in graphs.items()}
        measured = {
            "miou": miou,
            "loss_of_miou": miou["fp32"] - miou["int8"],
            "split": SPLIT,
            "calibration_images": images,
        }
        write_json(path.with_suffix(".json"), measured)
        del graphs
        for file in (fp32_path, fp32_path.with_suffix(".bin")):
            file.unlink()
    return measured
