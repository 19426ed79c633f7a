"""Model files: safetensors with a JSON document in the header."""

from __future__ import annotations

import struct
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from satseg.errors import CheckpointError, DivergedError, ModelError, printable
from satseg.files import atomic_path
from satseg.models import SegmentationNetwork
from satseg.models.blueprint import TensorInfo
from satseg.models.document import Document
from satseg.models.finite import nonfinite_tensor

KEY = "satseg"
MAX_HEADER_BYTES = 8 * 2**20
MAX_TENSORS = 20_000
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


def write_model_file(path: Path, network: SegmentationNetwork, document: Document, write: bool = True) -> None:
    """Write weights and document atomically; equal input gives equal bytes.

    Args:
        path: Path of the file.
        network: The network; if it is sharded, this must be called on all ranks.
        document: Its description.
        write: Whether this process writes the file.

    Raises:
        DivergedError: If a weight is not finite; nothing is written.
        ModelError: If the document does not follow its schema.
    """
    state = {}
    for name, tensor in network.state_dict().items():
        whole = _gather(tensor)
        if write:
            state[name] = whole.detach().cpu().contiguous()
    if not write:
        return
    nonfinite = nonfinite_tensor(state)
    if nonfinite is not None:
        raise DivergedError(f"{path} was not written: {nonfinite} holds values that are not finite.")
    text = document.text()
    with atomic_path(path) as temporary:
        temporary.write_bytes(_serialize(state, text))


def _serialize(state: dict[str, Tensor], text: str) -> bytes:
    """Return the bytes of a file; turn the Rust panic of safetensors on failed allocation into a MemoryError."""
    try:
        return save(state, {KEY: text})
    except BaseException as error:
        if type(error).__name__ != "PanicException" or "null" not in str(error):
            raise
        raise MemoryError(str(error)) from error


def _gather(tensor: Tensor) -> Tensor:
    """Gather a sharded tensor."""
    gathered: Tensor = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return gathered


def read_header(path: Path) -> tuple[Document, dict[str, TensorInfo]]:
    """Read the document of a model file, and the shapes and dtypes of its tensors, after checking lengths.

    Raises:
        CheckpointError: If the file is not a model file of this format.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else size
        if length > min(size - 8, MAX_HEADER_BYTES):
            raise CheckpointError(f"{path} is not a model file: its header would be {length} bytes long.")
        with safe_open(path, framework="pt") as opened:
            text = (opened.metadata() or {}).get(KEY)
            if text is None:
                raise CheckpointError(f"{path} is not a satseg model file: another program wrote it.")
            document = Document.parse(text)
            names = list(opened.keys())
            if len(names) > MAX_TENSORS:
                raise CheckpointError(f"{path} is not a satseg model file: it has {len(names):,} tensors.")
            return document, {name: _info(opened.get_slice(name)) for name in names}
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}.") from error
    except ModelError as error:
        raise CheckpointError(f"{path} does not describe a model that may be built: {printable(str(error))}") from error
    except (SafetensorError, ValueError, OverflowError) as error:
        raise CheckpointError(f"{path} is not a satseg model file: its header is corrupt ({_line(error)}).") from error


def _info(tensor: object) -> TensorInfo:
    name = tensor.get_dtype()  # type: ignore[attr-defined]
    if name not in DTYPES:
        raise ModelError(f"its weights have the dtype {name}, which satseg does not support")
    return TensorInfo(tuple(tensor.get_shape()), DTYPES[name])  # type: ignore[attr-defined]


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read the weights.

    Raises:
        CheckpointError: If the file is corrupt.
    """
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} is corrupt: {_line(error)}.") from error
