"""Verification of exported graphs against eager PyTorch."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor

from satseg.errors import ExportError, FixedSizeError
from satseg.models import SegmentationNetwork
from satseg.runtimes.graph import EXAMPLE_SIZE, Size, model_name
from satseg.spec import InputSpec

Graph = Callable[[Tensor], Tensor]  # float32 raw images (N, C, H, W), NaN where invalid, to logits (N, K, H, W)

TOLERANCE = 1e-3  # of the largest logit
OTHER_SIZES = ((141, 203), (64, 128))  # one with other padding, and one without padding


def random_images(spec: InputSpec, shape: tuple[int, int, int], seed: int = 0, invalid: bool = True) -> Tensor:
    """Return random raw images within the value range of the training split.

    Args:
        spec: Dtype, range and nodata of the input.
        shape: Number of images, height and width.
        seed: Of the random numbers.
        invalid: Set some pixels to NaN in one band, and some to nodata.

    Returns:
        float32 (N, C, H, W).
    """
    generator = torch.Generator().manual_seed(seed)
    count, height, width = shape
    images = torch.rand(count, len(spec.bands), height, width, generator=generator)
    low, high = _range(spec)
    images = low + images * (high - low)
    images = images if spec.dtype.startswith("float") else images.round()
    if invalid:
        draws = torch.rand(count, height, width, generator=generator)
        images[:, 0][draws < 0.02] = torch.nan
        if spec.nodata is not None:
            images.movedim(1, -1)[draws > 0.98] = spec.nodata
    return images


def _range(spec: InputSpec) -> tuple[Tensor, Tensor]:
    if spec.statistics is None:
        return torch.tensor(spec.offset), torch.tensor(spec.offset + spec.scale)
    low, high = torch.tensor(spec.statistics.minimum), torch.tensor(spec.statistics.maximum)
    return low.view(-1, 1, 1), high.view(-1, 1, 1)


def check_agreement(graph: Graph, network: SegmentationNetwork, size: Size | None, name: str) -> float:
    """Compare an exported graph with eager PyTorch.

    Args:
        graph: The exported graph.
        network: The model, in evaluation mode.
        size: Height and width if the graph has a fixed input size.
        name: Name of the graph in error messages.

    Returns:
        The largest difference of a logit, relative to the largest logit.

    Raises:
        ExportError: If they disagree.
        FixedSizeError: If they agree at the size used for the export, but not at another.
    """
    eager = _on_cpu(network)
    largest, problem = _difference(graph, eager, (2, *(size or EXAMPLE_SIZE)))
    if problem:
        raise ExportError(f"{name} does not agree with PyTorch: {problem}. It was not kept.")
    for height, width in () if size else OTHER_SIZES:
        difference, problem = _difference(graph, eager, (2, height, width))
        largest = max(largest, difference)
        if problem:
            raise FixedSizeError(
                f"{name}: {model_name(network)} can be exported for images of one size only, as at other sizes than "
                f"that of the export {problem}; set the size, such as size='[512,512]'."
            )
    return largest


def check_once(graph: Graph, network: SegmentationNetwork, size: Size | None, name: str) -> None:
    """Compare a graph that passed `check_agreement` before with eager PyTorch, on one small image.

    Raises:
        ExportError: If they disagree.
    """
    _, problem = _difference(graph, _on_cpu(network), (1, *(size or OTHER_SIZES[-1])))
    if problem:
        raise ExportError(f"{name} does not agree with PyTorch: {problem}.")


def _on_cpu(network: SegmentationNetwork) -> SegmentationNetwork:
    return network if next(network.parameters()).device.type == "cpu" else copy.deepcopy(network).to("cpu")


def _difference(graph: Graph, eager: SegmentationNetwork, shape: tuple[int, int, int]) -> tuple[float, str | None]:
    """Return the largest relative difference, and a description of the problem or None."""
    image = random_images(eager.spec.inputs[0], shape)
    with torch.no_grad():
        expected = eager(image)
    try:
        logits = graph(image)
    except Exception as error:  # runtimes raise their own types
        return torch.inf, f"it fails ({type(error).__name__}: {' '.join(str(error).split())[:120]})"
    if logits.shape != expected.shape:
        return torch.inf, f"it returns shape {tuple(logits.shape)} instead of {tuple(expected.shape)}"
    scale = float(expected.abs().max()) or 1.0
    difference = float((logits - expected).abs().max()) / scale
    if not difference <= TOLERANCE:  # also if NaN
        return difference, f"logits differ by up to {difference:.2g} of the largest"
    first, second = expected.topk(2, 1).values.unbind(1)
    clear = first - second > TOLERANCE * scale
    if (logits.argmax(1) != expected.argmax(1))[clear].any():
        return difference, "pixels with a clear prediction get another class"
    return difference, None
