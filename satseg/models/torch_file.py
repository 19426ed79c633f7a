"""Safe reading of files by `torch.save`: only tensors and plain data, of no more bytes than the file."""

from __future__ import annotations

import pickletools
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from satseg.errors import CheckpointError

MAX_PICKLE_BYTES = 16 * 2**20  # it holds names and sizes only; the values are separate members
PLAIN = re.compile(
    r"collections OrderedDict|builtins set|__builtin__ set|torch Size|torch\._utils _rebuild_(tensor_v2|parameter)"
    r"|torch (Float|Double|Half|BFloat16|Long|Int|Short|Char|Byte|Bool)Storage|torch (float|bfloat|int|uint)\d+"
)


def read_torch_file(path: Path, map_location: Any = "cpu", mmap: bool = False) -> Any:
    """Read a file written by `torch.save`, without executing code from it.

    Args:
        path: The file.
        map_location: Device of the tensors.
        mmap: Whether to map the tensors from the file.

    Raises:
        CheckpointError: If it is corrupt, holds more than tensors and plain data, or would take more memory than it
            has bytes.
    """
    with checked_torch_file(path):
        return torch.load(path, map_location=map_location, weights_only=True, mmap=mmap)


@contextmanager
def checked_torch_file(
    path: Path, faults: str = "is corrupt, or holds more than tensors and plain data"
) -> Iterator[None]:
    """Check a file written by `torch.save`, and let the block read it.

    Args:
        path: The file.
        faults: What an error of the block says about the file.

    Raises:
        CheckpointError: If the file is refused, or the block cannot read it.
    """
    try:
        _check(path)
        yield
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}.") from error
    except CheckpointError:
        raise
    except Exception as error:  # unpicklers raise many kinds of errors
        raise CheckpointError(f"{path} {faults}; it was not executed.") from error


def _check(path: Path) -> None:
    """Check, before torch opens a file, that it is uncompressed and names only tensor types.

    Raises:
        CheckpointError: If it is not.
        OSError: If it cannot be read.
        BadZipFile: If it is not a zip archive.
    """
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        pickles = [m for m in members if m.filename.rpartition("/")[2] == "data.pkl"]
        stored = all(m.compress_type == zipfile.ZIP_STORED for m in members)
        if not stored or sum(m.file_size for m in members) > path.stat().st_size or len(pickles) != 1:
            raise CheckpointError(f"{path} is not in the present format of torch.save; it was not executed.")
        if pickles[0].file_size > MAX_PICKLE_BYTES:
            raise CheckpointError(f"{path} holds more than tensors and plain data; it was not executed.")
        data = archive.read(pickles[0])
    for operation, argument, _ in pickletools.genops(data):
        if operation.name in ("GLOBAL", "STACK_GLOBAL", "INST") and not PLAIN.fullmatch(str(argument)):
            raise CheckpointError(
                f"{path} holds more than tensors and plain data ({str(argument)[:80]!r}); it was not executed."
            )


def bounded_tensors(state: Any, size: int) -> dict[str, Tensor] | None:
    """Return a state dict of ordinary tensors whose total size is at most that of the file; None if it is not one.

    This rejects expanded tensors, which repeat one value a million times, and tensors without storage.
    """
    if not isinstance(state, dict) or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()):
        return None
    ordinary = all(t.layout == torch.strided and not (t.is_meta or t.is_quantized) for t in state.values())
    return dict(state) if ordinary and sum(t.nbytes for t in state.values()) <= size else None
