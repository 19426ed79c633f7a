"""Export of a model to a file that is kept only if it agrees with PyTorch."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import torch

from satseg.files import atomic_paths
from satseg.models import SegmentationNetwork
from satseg.runtimes.agreement import Graph, check_agreement
from satseg.runtimes.graph import Size
from satseg.runtimes.onnx_files import open_onnx, write_onnx
from satseg.runtimes.openvino_files import open_openvino, write_openvino
from satseg.runtimes.packages import load_package
from satseg.runtimes.request import Request
from satseg.runtimes.torch_files import (
    open_pth,
    open_safetensors,
    open_torchscript,
    write_pth,
    write_safetensors,
    write_torchscript,
)

PACKAGES = {
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "openvino": ("onnx", "onnxscript", "openvino"),
}


@dataclass(frozen=True)
class Source:
    """A trained model and its file.

    Attributes:
        network: In evaluation mode.
        checkpoint: Its file.
        trusted_modules: Additional modules whose classes the file may name.
    """

    network: SegmentationNetwork
    checkpoint: Path
    trusted_modules: Collection[str] = ()


def export_model(source: Source, request: Request) -> float:
    """Export a model, and compare the file with eager PyTorch before it is kept.

    Args:
        source: The model.
        request: The options.

    Returns:
        The largest difference of a logit from eager PyTorch, relative to the largest logit.

    Raises:
        ExportError: If the model cannot be exported, or the file does not agree with PyTorch.
        FixedSizeError: If it can be exported for one size only, and none is given.
        MissingPackageError: If the format needs a package that is not installed.
        ResourceError: If the file cannot be written.
    """
    with atomic_paths(request.output) as path:
        return write_checked(path, source, request.format, request.size)


def write_checked(path: Path, source: Source, name: str, size: Size | None) -> float:
    """Write a file in place, and compare it with eager PyTorch; see `export_model`."""
    network = source.network
    for package in PACKAGES.get(name, ()):
        load_package(package)
    match name:
        case "onnx":
            write_onnx(path, network, size)
        case "openvino":
            write_openvino(path, network, size)
        case "torchscript":
            write_torchscript(path, network, size)
        case "pth":
            write_pth(path, network)
        case _:
            write_safetensors(path, network, source.checkpoint)
    return check_agreement(open_exported(path, source, name), network, size, f"format={name}")


def open_exported(path: Path, source: Source, name: str) -> Graph:
    """Open an exported file in its runtime, on the CPU."""
    match name:
        case "onnx":
            return open_onnx(path, torch.get_num_threads())
        case "openvino":
            return open_openvino(path, torch.get_num_threads())
        case "torchscript":
            return open_torchscript(path)
        case "pth":
            return open_pth(path, source.network, source.trusted_modules)
        case _:
            return open_safetensors(path, source.trusted_modules)
