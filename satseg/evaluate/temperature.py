"""Temperature scaling of a trained model on its validation split."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from satseg.data import SegmentationDataModule
from satseg.errors import CheckpointError
from satseg.evaluate.calibration import fit_temperature, sample_pixels
from satseg.evaluate.scoring import Scoring, without_edges
from satseg.inference.windows import segment
from satseg.locks import output_lock
from satseg.models import SegmentationNetwork
from satseg.models.checkpoint import read_document
from satseg.models.model_file import write_model_file
from satseg.runs import model_path

CALIBRATED = "model_calibrated.safetensors"


def calibrate(
    checkpoint: Path, network: SegmentationNetwork, datamodule: SegmentationDataModule, scoring: Scoring
) -> Path:
    """Fit a temperature on the validation split, set it, and write the calibrated model next to the original file.

    Args:
        checkpoint: A run folder or a model file.
        network: The model loaded from it; its temperature is changed.
        datamodule: The data.
        scoring: Options; only `ignore_edges` is used.

    Raises:
        CheckpointError: If the checkpoint is a `.ckpt` file, which is for resuming only.
    """
    source = model_path(checkpoint)
    if source.suffix == ".ckpt":
        raise CheckpointError(f"calibrate=true needs a model file; {source} is for resuming a run.")
    path = source.with_name(CALIBRATED)
    with output_lock(path):
        network.temperature = 1.0
        network.temperature = fit_temperature(_pixels(network, datamodule, scoring))
        write_model_file(path, network, replace(read_document(source), temperature=network.temperature))
    print(f"Temperature {network.temperature:.3f}, fitted on val: {path}")
    return path


def _pixels(
    network: SegmentationNetwork, datamodule: SegmentationDataModule, scoring: Scoring
) -> Iterator[tuple[Tensor, Tensor]]:
    device = next(network.parameters()).device
    for batch in datamodule.eval_dataloader("val"):
        if "failure" in batch:
            batch["failure"].raise_error()
        image, mask, valid = (batch[key].to(device) for key in ("image", "mask", "valid"))
        with torch.no_grad():
            yield sample_pixels(segment(network, image, valid), without_edges(mask, scoring.ignore_edges), valid)
