"""OpenVINO: writing its files from the ONNX graph, quantising, and running them."""

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
from satseg.runtimes.packages import explained, load_package

# Images from this size on are worth compiling for, which takes 0.1 s: a sixth of the memory less, and a quicker start.
BY_SHAPE_PIXELS = 1 << 20


def write_openvino(path: Path, network: SegmentationNetwork, size: Size | None) -> None:
    """Write a float32 model: the `.xml` and a `.bin` of the same name, description under `satseg` in the rt_info.

    Raises:
        ExportError: As `write_onnx`.
    """
    graph = path.with_suffix(".onnx")
    write_onnx(graph, network, size, join=True)
    _convert(path, graph, describe(network, size))
    for file in (graph, graph.with_name(f"{graph.name}.data")):
        file.unlink(missing_ok=True)


def _convert(path: Path, graph: Path, description: str) -> None:
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


def open_openvino(path: Path, threads: int, *, shape: Size | None = None, by_shape: bool = False) -> Graph:
    """Open an OpenVINO model on the CPU, without the 16-bit arithmetic that it takes by default where there is any.

    Args:
        path: The `.xml`.
        threads: Of the processor.
        shape: Height and width of the images to expect; others may come.
        by_shape: Compile anew whenever the images' shape changes. OpenVINO 2026.4 crashes where a model of 8 bits is
            given larger images after smaller ones.
    """
    model = OpenVinoGraph(path, threads, by_shape)
    if shape is not None:
        model.compile((1, model.channels, *shape))
    return model


class OpenVinoGraph:
    """A model that is compiled for images of any size, or for those of one where that pays; see `open_openvino`."""

    def __init__(self, path: Path, threads: int, by_shape: bool) -> None:
        self._core = load_package("openvino").Core()
        self._model = self._core.read_model(str(path))
        self._any_shape = self._model.input("image").partial_shape
        self._options = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": "f32",
        }
        self._smallest = 0 if by_shape else BY_SHAPE_PIXELS
        self._compiled: Any = None
        self._shape: Sequence[int] | None = None

    @property
    def channels(self) -> int:
        """Bands of the images."""
        channels: int = self._any_shape[1].get_length()
        return channels

    def __call__(self, image: Tensor) -> Tensor:
        """Return the logits (N, K, H, W) of float32 raw numbers (N, C, H, W)."""
        self.compile(image.shape)
        return torch.from_numpy(self._compiled({"image": image.numpy()}, share_inputs=True)["logits"])

    def compile(self, shape: Sequence[int]) -> None:
        """Make ready for images (N, C, H, W), unless the model that is compiled takes them."""
        wanted = list(shape) if shape[-2] * shape[-1] >= self._smallest else None
        if self._compiled is None or wanted != self._shape:
            self._compiled = None  # its memory, before the next takes its own
            self._model.reshape({"image": wanted or self._any_shape})
            self._compiled, self._shape = self._core.compile_model(self._model, "CPU", self._options), wanted
