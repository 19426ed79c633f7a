"""The model file: tensors in safetensors, and one JSON document in its header."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from satseg.errors import CheckpointError
from satseg.files import atomic_path
from satseg.models import SegmentationNetwork
from satseg.runs import package_version

FORMAT_VERSION = 1
KEY = "satseg"
MAX_HEADER_BYTES = 16 * 1024 * 1024
VERSIONED = ("satseg", "torch", "timm", "segmentation-models-pytorch")


def document(network: SegmentationNetwork, training: Mapping[str, Any], protocol: Mapping[str, Any]) -> dict[str, Any]:
    """Return all that is needed to rebuild and to judge a model, as plain data.

    Args:
        network: The model.
        training: What to know of its training, such as epoch and score.
        protocol: What each score means.
    """
    return {
        "format_version": FORMAT_VERSION,
        "model": network.config,
        "spec": network.spec.to_dict(),
        "temperature": network.temperature,
        "training": dict(training),
        "versions": {name: package_version(name) for name in VERSIONED},
        "metric_protocol": dict(protocol),
    }


def write_model_file(
    path: Path, network: SegmentationNetwork, described: Mapping[str, Any], write: bool = True
) -> None:
    """Write weights and document atomically; equal input gives equal bytes.

    Args:
        path: Where to.
        network: Its weights may be shared among devices; then all of them must call this.
        described: The document.
        write: Whether this process is the one that writes.
    """
    state = {}
    for name, tensor in network.state_dict().items():
        whole = _whole(tensor)
        if write:
            state[name] = whole.detach().cpu().contiguous()
    if not write:
        return
    text = json.dumps(described, sort_keys=True, ensure_ascii=False)
    with atomic_path(path) as temporary:
        temporary.write_bytes(save(state, {KEY: text}))


def _whole(tensor: Tensor) -> Tensor:
    """Bring together a tensor of which each device has a share."""
    gathered: Tensor = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return gathered


def read_header(path: Path) -> dict[str, Any]:
    """Read the document of a model file; its length is checked before anything is parsed.

    Raises:
        CheckpointError: If the file is no model file of this format.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else size
            if length > min(size - 8, MAX_HEADER_BYTES):
                raise CheckpointError(f"{path} is no model file: its header would be {length} bytes long.")
            header = json.loads(file.read(length))
        found: dict[str, Any] = json.loads(header["__metadata__"][KEY])
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path} is no satseg model file: its header is broken or another program's.") from error
    check_document(found, path)
    return found


def check_document(found: Any, path: Path) -> None:
    """Refuse a document of another version, or one with interpolations.

    Raises:
        CheckpointError: Says which.
    """
    version = found.get("format_version") if isinstance(found, dict) else None
    if type(version) is not int or version != FORMAT_VERSION:  # True equals 1
        raise CheckpointError(
            f"{path} has format version {version}, but this satseg reads {FORMAT_VERSION}; use the one that wrote it."
        )
    for text in _texts(found):
        if "${" in text:
            raise CheckpointError(f"{path} holds an interpolation ({text[:60]}), which no model file needs.")


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for pair in value.items() for part in pair for text in _texts(part)]
    if isinstance(value, list | tuple):
        return [text for part in value for text in _texts(part)]
    return []


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read the weights.

    Raises:
        CheckpointError: If the file is broken.
    """
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} is broken: {error}.") from error
