"""Files of `torch.save`: tensors and plain data only, and never more of them than the file has bytes."""

from __future__ import annotations

import pickletools
import re
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from satseg.errors import CheckpointError

MAX_PICKLE_BYTES = 16 * 2**20  # names and sizes; the numbers lie in files of their own
PLAIN = re.compile(
    r"collections OrderedDict|builtins set|__builtin__ set|torch Size|torch\._utils _rebuild_(tensor_v2|parameter)"
    r"|torch (Float|Double|Half|BFloat16|Long|Int|Short|Char|Byte|Bool)Storage|torch (float|bfloat|int|uint)\d+"
)


def read_torch_file(path: Path, map_location: Any = "cpu", mmap: bool = False) -> Any:
    """Read a file that `torch.save` has written.

    Args:
        path: The file.
        map_location: Where its tensors go.
        mmap: Whether tensors stay in the file until they are read.

    Raises:
        CheckpointError: If it is broken, holds more than tensors and plain data, or would take more memory than it
            has bytes; nothing in it was run.
    """
    try:
        check_torch_file(path)
        return torch.load(path, map_location=map_location, weights_only=True, mmap=mmap)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}.") from error
    except CheckpointError:
        raise
    except Exception as error:  # an unpickler refuses in many ways
        raise CheckpointError(
            f"{path} is broken, or holds more than tensors and plain data; it was not run."
        ) from error


def check_torch_file(path: Path) -> None:
    """Refuse compressed parts, and names of anything but tensors, before torch opens the file.

    Raises:
        CheckpointError: If it has some.
        OSError: If it cannot be read.
        BadZipFile: If it is no file of torch.
    """
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        pickles = [m for m in members if m.filename.rpartition("/")[2] == "data.pkl"]
        stored = all(m.compress_type == zipfile.ZIP_STORED for m in members)
        if not stored or sum(m.file_size for m in members) > path.stat().st_size or len(pickles) != 1:
            raise CheckpointError(f"{path} is no file that torch.save writes today; it was not run.")
        if pickles[0].file_size > MAX_PICKLE_BYTES:
            raise CheckpointError(f"{path} holds more than tensors and plain data; it was not run.")
        data = archive.read(pickles[0])
    for operation, argument, _ in pickletools.genops(data):
        if operation.name in ("GLOBAL", "STACK_GLOBAL", "INST") and not PLAIN.fullmatch(str(argument)):
            raise CheckpointError(
                f"{path} holds more than tensors and plain data ({str(argument)[:80]!r}); it was not run."
            )


def bounded_tensors(state: Any, size: int) -> dict[str, Tensor] | None:
    """Return a mapping of names to ordinary tensors that together have no more bytes than a file; None if it is none.

    A tensor may repeat one number a million times, or lie nowhere; such a one is none of ours.
    """
    if not isinstance(state, dict) or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()):
        return None
    ordinary = all(t.layout == torch.strided and not (t.is_meta or t.is_quantized) for t in state.values())
    return dict(state) if ordinary and sum(t.nbytes for t in state.values()) <= size else None
