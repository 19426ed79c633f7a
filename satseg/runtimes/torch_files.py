"""Files for PyTorch: TorchScript, a plain state_dict, and satseg's own model file."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from satseg.errors import CheckpointError
from satseg.models import STRIDE, SegmentationNetwork
from satseg.models.catalogue import resolve_target
from satseg.models.checkpoint import load_model, read_document
from satseg.models.model_file import write_model_file
from satseg.models.torch_file import read_torch_file
from satseg.runtimes.agreement import Graph, random_images
from satseg.runtimes.graph import EXAMPLE_SIZE, KEY, ImageToLogits, Size, describe, model_name
from satseg.runtimes.packages import export_errors, quiet


def write_torchscript(path: Path, network: SegmentationNetwork, size: Size | None) -> None:
    """Write a traced graph, with the description in the extra file `satseg`.

    Raises:
        ExportError: If the model cannot be traced.
    """
    example = random_images(network.spec.inputs[0], (2, *(size or EXAMPLE_SIZE)))
    with export_errors(f"{model_name(network)} cannot be traced"), torch.no_grad():
        graph = ImageToLogits(network, replace_pools=False)  # they can be traced, and moved to a GPU
        traced = torch.jit.trace(graph, (example,), check_trace=False)  # type: ignore[no-untyped-call]
    with quiet(), path.open("wb") as file:  # torch itself does not report a full disk
        torch.jit.save(traced, file, _extra_files={KEY: describe(network, size)})


def open_torchscript(path: Path) -> Graph:
    """Open a TorchScript file on the CPU."""
    with quiet():
        graph = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
    return _without_gradients(graph)


def write_pth(path: Path, network: SegmentationNetwork) -> None:
    """Write weights and description as plain data, for use with the decoder class alone.

    ```python
    saved = torch.load("model.pth", weights_only=True)
    net = segmentation_models_pytorch.Unet(**saved["options"])  # saved["class"]
    net.load_state_dict(saved["state_dict"])
    ```

    The model takes standardised images, `(raw - saved["shift"]) / saved["divisor"]` with 0 at invalid pixels, padded to
    a multiple of `saved["stride"]`.
    """
    spec, normaliser = network.spec, network.normaliser
    target, options = _described(network)
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in network.net.state_dict().items()}
    torch.save(
        {
            "class": target,
            "options": options,
            "state_dict": state,
            "shift": normaliser.shift.detach().cpu(),
            "divisor": normaliser.divisor.detach().cpu(),
            "nodata": normaliser.nodata,
            "stride": STRIDE,
            "temperature": network.temperature,
            "class_names": list(spec.class_names),
            "spec": spec.to_dict(),
            KEY: describe(network, None),
        },
        path,
    )


def _described(network: SegmentationNetwork) -> tuple[str, dict[str, Any]]:
    """Return the full name of the decoder class and its constructor options."""
    options, spec = dict(network.config), network.spec
    target = options.pop("_target_")
    return target, options | {"in_channels": spec.in_channels, "classes": spec.num_classes, "encoder_weights": None}


def open_pth(path: Path, network: SegmentationNetwork, trusted_modules: Collection[str]) -> Graph:
    """Rebuild the network that an exported file describes, as users without satseg would.

    Args:
        path: A file written by `write_pth`.
        network: The exported network; class and options must match, and its normalisation is used.
        trusted_modules: Additional modules whose classes the file may name.

    Raises:
        CheckpointError: If the file is corrupt, or describes another network.
    """
    saved: dict[str, Any] = read_torch_file(path)
    if (saved["class"], saved["options"]) != _described(network):
        raise CheckpointError(f"{path} describes another network than the one that was exported.")
    net = resolve_target(saved["class"], trusted_modules)(**saved["options"])
    net.load_state_dict(saved["state_dict"])
    graph = SegmentationNetwork(net, network.spec, network.config, saved["temperature"]).eval()
    return _without_gradients(graph)


def write_safetensors(path: Path, network: SegmentationNetwork, checkpoint: Path) -> None:
    """Copy a model file, or write one from a Lightning checkpoint.

    Args:
        path: Output file.
        network: The loaded model.
        checkpoint: The file it was loaded from, a `model.safetensors` or a `.ckpt`.
    """
    if checkpoint.suffix != ".ckpt":
        shutil.copyfile(checkpoint, path)
        return
    write_model_file(path, network, read_document(checkpoint))


def open_safetensors(path: Path, trusted_modules: Collection[str]) -> Graph:
    """Load a model file."""
    return _without_gradients(load_model(path, trusted_modules=trusted_modules))


def _without_gradients(module: nn.Module) -> Graph:
    def run(image: Tensor) -> Tensor:
        with torch.no_grad():
            logits: Tensor = module(image)
        return logits

    return run
