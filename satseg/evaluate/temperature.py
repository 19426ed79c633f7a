"""Temperature scaling of a trained model on its validation split."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn.functional import cross_entropy

from satseg.data import SegmentationDataModule
from satseg.errors import CheckpointError, DataError
from satseg.evaluate.scoring import Scoring, without_edges
from satseg.inference.windows import segment
from satseg.locks import output_lock
from satseg.models import SegmentationNetwork
from satseg.models.checkpoint import read_document
from satseg.models.model_file import write_model_file
from satseg.runs import model_path
from satseg.spec import IGNORE_INDEX

CALIBRATED = "model_calibrated.safetensors"
MAX_PIXELS = 20_000  # per image, for fitting
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.05, 20.0


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


def sample_pixels(logits: Tensor, mask: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Return logits (P, K) and truth (P,) of evenly spaced labelled pixels of one image; deterministic."""
    counted = (valid & (mask != IGNORE_INDEX)).flatten()
    labelled = counted.nonzero().squeeze(1)
    step = max(1, -(-len(labelled) // MAX_PIXELS))
    chosen = labelled[::step]
    return logits[0].flatten(1)[:, chosen].T.float().cpu(), mask.flatten()[chosen].long().cpu()


def fit_temperature(pixels: Iterable[tuple[Tensor, Tensor]]) -> float:
    """Return the temperature that maximises the likelihood of these pixels (Guo et al. 2017).

    Args:
        pixels: Logits (P, K) and truth (P,) of each image.

    Raises:
        DataError: If there is no pixel.
    """
    parts = list(pixels)
    logits = torch.cat([part[0] for part in parts]) if parts else torch.empty(0, 1)
    truth = torch.cat([part[1] for part in parts]) if parts else torch.empty(0)
    if not len(truth):
        raise DataError("The split has no labelled pixel to fit a temperature on.")

    def nll(log_temperature: float) -> float:
        return float(cross_entropy(logits / float(np.exp(log_temperature)), truth))

    found = minimize_scalar(nll, bounds=(np.log(MIN_TEMPERATURE), np.log(MAX_TEMPERATURE)), method="bounded")
    return float(np.exp(found.x))
