"""Writing, quantising and running OpenVINO files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from satseg.models import SegmentationNetwork
from satseg.runtimes.agreement import Graph
from satseg.runtimes.graph import KEY, Size, describe
from satseg.runtimes.onnx_files import write_onnx
from satseg.runtimes.packages import export_errors, load_package

# From this size on, compiling for a static shape pays: it takes 0.1 s, saves a sixth of the memory, and starts faster.
STATIC_SHAPE_PIXELS = 1 << 20


def write_openvino(path: Path, network: SegmentationNetwork, size: Size | None) -> None:
    """Write a float32 model: `.xml` and `.bin`, with the description in the rt_info key `satseg`.

    Raises:
        ExportError: As `write_onnx`.
    """
    graph = path.with_suffix(".onnx")
    write_onnx(graph, network, size, fuse=True)
    _convert(path, graph, describe(network, size))
    for file in (graph, graph.with_name(f"{graph.name}.data")):
        file.unlink(missing_ok=True)


def _convert(path: Path, graph: Path, description: str) -> None:
    """Convert an ONNX file to an OpenVINO model."""
    openvino = load_package("openvino")
    with export_errors("OpenVINO cannot read the ONNX graph"):
        model = openvino.Core().read_model(str(graph))
        model.set_rt_info(description, [KEY])
        openvino.save_model(model, str(path), compress_to_fp16=False)


def write_int8(path: Path, fp32_path: Path, crops: Iterable[Tensor]) -> int:
    """Quantise an OpenVINO model to 8 bits, weights symmetrically and activations asymmetrically.

    Args:
        path: Output file, an `.xml`.
        fp32_path: The float32 model.
        crops: Images for calibrating activations, float32 raw values (1, C, H, W).

    Returns:
        The number of calibration images.

    Raises:
        ExportError: If it cannot be quantised.
        MissingPackageError: If NNCF is not installed.
    """
    openvino, nncf = load_package("openvino"), load_package("nncf")
    images = [{"image": crop.numpy()} for crop in crops]
    with export_errors("The model cannot be quantised"):
        quantised = nncf.quantize(
            openvino.Core().read_model(str(fp32_path)),
            nncf.Dataset(images),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(images),
        )
        openvino.save_model(quantised, str(path), compress_to_fp16=False)
    return len(images)


def open_openvino(path: Path, threads: int, *, shape: Size | None = None, static_shapes: bool = False) -> Graph:
    """Open an OpenVINO model on the CPU, with float32 arithmetic even where 16-bit arithmetic is the default.

    Args:
        path: The `.xml`.
        threads: Number of CPU threads.
        shape: Expected height and width of the images; others work as well.
        static_shapes: Recompile whenever the shape of the images changes. OpenVINO 2026.4 crashes if an 8-bit model is
            given larger images after smaller ones.
    """
    model = OpenVinoGraph(path, threads, static_shapes)
    if shape is not None:
        model.compile((1, model.channels, *shape))
    return model


class OpenVinoGraph:
    """A model compiled for dynamic shapes, or for one static shape if that is faster; see `open_openvino`."""

    def __init__(self, path: Path, threads: int, static_shapes: bool) -> None:
        self._core = load_package("openvino").Core()
        self._model = self._core.read_model(str(path))
        self._any_shape = self._model.input("image").partial_shape
        self._options = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": "f32",
        }
        self._smallest = 0 if static_shapes else STATIC_SHAPE_PIXELS
        self._compiled: Any = None
        self._shape: Sequence[int] | None = None

    @property
    def channels(self) -> int:
        """Number of bands of the images."""
        channels: int = self._any_shape[1].get_length()
        return channels

    def __call__(self, image: Tensor) -> Tensor:
        """Return the logits (N, K, H, W) of float32 raw values (N, C, H, W)."""
        self.compile(image.shape)
        return torch.from_numpy(self._compiled({"image": image.numpy()}, share_inputs=True)["logits"])

    def compile(self, shape: Sequence[int]) -> None:
        """Compile for images (N, C, H, W), unless the compiled model accepts them already."""
        wanted = list(shape) if shape[-2] * shape[-1] >= self._smallest else None
        if self._compiled is None or wanted != self._shape:
            self._compiled = None  # free its memory before the next one allocates
            self._model.reshape({"image": wanted or self._any_shape})
            self._compiled, self._shape = self._core.compile_model(self._model, "CPU", self._options), wanted
