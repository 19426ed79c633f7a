"""Writing and running ONNX files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from satseg.errors import ExportError, FixedSizeError
from satseg.models import SegmentationNetwork
from satseg.runtimes.agreement import Graph, random_images
from satseg.runtimes.graph import EXAMPLE_SIZE, KEY, ImageToLogits, Size, describe, model_name
from satseg.runtimes.packages import export_errors, load_package
from satseg.spec import InputSpec

LARGEST_FILE_BYTES = 1_900_000_000  # a protobuf message holds at most 2 GB; larger weights go to a second file


def write_onnx(path: Path, network: SegmentationNetwork, size: Size | None, *, fuse: bool = False) -> None:
    """Write an ONNX file: input `image`, output `logits`, description in the metadata key `satseg`.

    Args:
        path: Output file; weights of 2 GB and more go to a file with the additional suffix `.data`.
        network: The model.
        size: Height and width; dynamic by default.
        fuse: As in `ImageToLogits`.

    Raises:
        ExportError: If the model cannot be exported.
        FixedSizeError: If it may be possible with a fixed input size.
    """
    name = f"{model_name(network)} cannot be exported to ONNX"
    try:
        with export_errors(name if size else f"{name} for images of any size"):
            program = _export(ImageToLogits(network, fuse=fuse), network.spec.inputs[0], size)
    except ExportError as error:
        if size is not None:
            raise
        raise FixedSizeError(f"{error} Set a fixed size, such as size='[512,512]'.") from error
    program.model.metadata_props[KEY] = describe(network, size)
    for node in program.model.graph.all_nodes():  # remove source paths of this machine
        node.metadata_props.clear()
        node.doc_string = None
    weights = sum(t.numel() * t.element_size() for t in network.state_dict().values())
    program.save(str(path), external_data=weights > LARGEST_FILE_BYTES)


def _export(graph: ImageToLogits, spec: InputSpec, size: Size | None) -> Any:
    example = random_images(spec, (2, *(size or EXAMPLE_SIZE)))
    names = {0: "batch"} if size else {0: "batch", 2: "height", 3: "width"}
    axes = dict.fromkeys(names, torch.export.Dim.DYNAMIC)
    # captured here, because the exporter would try fallbacks for a minute if this fails
    captured = torch.export.export(graph, (example,), dynamic_shapes={"image": axes}, strict=False)
    return torch.onnx.export(
        captured,
        dynamo=True,
        external_data=False,
        dynamic_shapes={"image": names},
        input_names=["image"],
        output_names=["logits"],
        verbose=False,
    )


def open_onnx(path: Path, threads: int) -> Graph:
    """Open an ONNX file in ONNX Runtime, on the CPU."""
    runtime = load_package("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 4  # errors are also raised as exceptions
    session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(image: Tensor) -> Tensor:
        return torch.from_numpy(session.run(["logits"], {"image": image.numpy()})[0])

    return run
