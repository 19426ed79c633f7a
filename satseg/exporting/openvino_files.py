"""OpenVINO: writing its files from the ONNX graph, quantising, and running them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from satseg.exporting.agreement import Graph
from satseg.exporting.graph import KEY, Size, describe
from satseg.exporting.onnx_files import write_onnx
from satseg.exporting.packages import explained, load_package
from satseg.models import SegmentationNetwork


def write_openvino(path: Path, network: SegmentationNetwork, size: Size | None) -> None:
    """Write a float32 model: the `.xml` and a `.bin` of the same name, description under `satseg` in the rt_info.

    Raises:
        ExportError: As `write_onnx`.
    """
    graph = path.with_suffix(".onnx")
    write_onnx(graph, network, size)
    convert_onnx(path, graph, describe(network, size))
    for file in (graph, graph.with_name(f"{graph.name}.data")):
        file.unlink(missing_ok=True)


def convert_onnx(path: Path, graph: Path, description: str) -> None:
    """Write the OpenVINO model of an ONNX file."""
    openvino = load_package("openvino")
    with explained("OpenVINO cannot read the ONNX graph"):
        model = openvino.Core().read_model(str(graph))
        model.set_rt_info(description, [KEY])
        openvino.save_model(model, str(path), compress_to_fp16=False)


def write_int8(path: Path, exact: Path, crops: Iterable[Tensor]) -> int:
    """Quantise an OpenVINO model to 8 bits, weights symmetrically and activations asymmetrically.

    Args:
        path: Where to, an `.xml`.
        exact: The float32 model.
        crops: Images to measure activations on, float32 raw numbers (1, C, H, W).

    Returns:
        How many images were used.

    Raises:
        ExportError: If it cannot be quantised.
        MissingPackageError: If NNCF is not installed.
    """
    openvino, nncf = load_package("openvino"), load_package("nncf")
    images = [{"image": crop.numpy()} for crop in crops]
    with explained("The model cannot be quantised"):
        quantised = nncf.quantize(
            openvino.Core().read_model(str(exact)),
            nncf.Dataset(images),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(images),
        )
        openvino.save_model(quantised, str(path), compress_to_fp16=False)
    return len(images)


def open_openvino(path: Path, threads: int, *, by_shape: bool = False) -> Graph:
    """Open an OpenVINO model on the CPU, without the 16-bit arithmetic that it takes by default where there is any.

    Args:
        path: The `.xml`.
        threads: Of the processor.
        by_shape: Compile anew when the images' shape changes. OpenVINO 2026.4 crashes where a model of 8 bits is given
            larger images after smaller ones.
    """
    openvino = load_package("openvino")
    options = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32",
    }
    core = openvino.Core()
    model = core.read_model(str(path))
    compiled: Any = None if by_shape else core.compile_model(model, "CPU", options)
    shape: torch.Size | None = None

    def run(image: Tensor) -> Tensor:
        nonlocal compiled, shape
        if by_shape and shape != image.shape:
            model.reshape({"image": list(image.shape)})
            compiled, shape = core.compile_model(model, "CPU", options), image.shape
        return torch.from_numpy(compiled({"image": image.numpy()}, share_inputs=True)["logits"])

    return run
