"""Building the network that a file describes, with its tensors checked against the file before memory is used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from satseg.errors import ModelError

MAX_CALLS = 100_000  # of torch functions while a network is built; timm's largest need 66,000
EXTRA_BYTES = 512 * 2**20  # besides the weights, such as for a discarded classifier head or position indices
# In-place fills, skipped on the meta device, where torch would run them in Python at a millisecond each.
FILLS = frozenset(
    getattr(Tensor, name) for name in ("normal_", "uniform_", "fill_", "zero_", "erfinv_", "clamp_", "mul_", "add_")
)
FACTORIES = frozenset({torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn, torch.arange})


@dataclass(frozen=True)
class TensorInfo:
    """Shape and dtype of a tensor, as in a file's header."""

    shape: tuple[int, ...]
    dtype: torch.dtype


class _CallCounter(TorchFunctionMode):
    """Counts torch calls and bytes of a constructor on the meta device, and aborts one with too many calls."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = self.created = 0

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        options = dict(kwargs or {})
        self.calls += 1
        if self.calls > MAX_CALLS:
            raise ModelError(f"building it takes more than {MAX_CALLS:,} steps")
        if func in FILLS and isinstance(args[0], Tensor) and args[0].is_meta:
            return args[0]
        if func is torch.linspace:  # drop rates by depth, whose values constructors need
            options["device"] = "cpu" if options.get("steps", args[2] if len(args) > 2 else 0) <= MAX_CALLS else "meta"
        result = func(*args, **options)
        if func in FACTORIES:
            self.created += result.nbytes
        return result


def build_like(
    make: Callable[[], nn.Module], tensors: Mapping[str, TensorInfo], size: int, trusted: bool = False
) -> nn.Module:
    """Build a network if it has the tensors of a file.

    It is built on the meta device first, where tensors use no memory.

    Args:
        make: Builds the network; its weights need not be initialised.
        tensors: The tensors of the file by name.
        size: Size of the file in bytes.
        trusted: Whether the constructor is trusted, and may also run where it needs real tensors.

    Returns:
        The network on the CPU; its weights may be uninitialised.

    Raises:
        ModelError: If names, shapes or dtypes differ, or it would need far more memory than the file has bytes.
    """
    try:
        with torch.device("meta"), _CallCounter() as counting:
            net = make()
    except (RuntimeError, NotImplementedError, TypeError):
        if not trusted:
            raise
        net = make()
        compare(net, tensors)
        return net
    compare(net, tensors)
    saved = {id(tensor) for tensor in net.state_dict(keep_vars=True).values()}
    unsaved = [tensor for tensor in _tensors(net) if id(tensor) not in saved]
    if not unsaved and not trusted:  # a user's module may hold tensors that cannot be found
        return net.to_empty(device="cpu")
    needed = counting.created + sum(tensor.nbytes for tensor in unsaved)  # only the constructor knows their values
    if needed > 2 * size + EXTRA_BYTES:
        raise ModelError(f"building it would take {needed / 1e6:,.0f} MB, but the file has {size / 1e6:,.0f} MB")
    return make()


def compare(net: nn.Module, tensors: Mapping[str, TensorInfo]) -> None:
    """Compare a network with the tensors of a file.

    Raises:
        ModelError: If names, shapes or dtypes differ; names one that does.
    """
    own = {name: TensorInfo(tuple(t.shape), t.dtype) for name, t in net.state_dict().items()}
    differing = sorted(own.keys() ^ tensors.keys()) or [name for name in own if own[name] != tensors[name]]
    if differing:
        name = differing[0]
        raise ModelError(
            f"its weights are not the model's: {len(differing)} differ, such as {name[:100]!r}, which is "
            f"{_described(tensors.get(name))} in the file and {_described(own.get(name))} in the model"
        )


def _described(tensor: TensorInfo | None) -> str:
    return "missing" if tensor is None else f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"


def _tensors(net: nn.Module) -> list[Tensor]:
    """Return all tensors of a network: parameters, buffers and plain attributes of modules."""
    found: list[Tensor] = []
    waiting: list[Any] = [vars(module) for module in net.modules()]
    seen: set[int] = set()
    while waiting:
        value = waiting.pop()
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, dict | list | tuple) and id(value) not in seen:
            seen.add(id(value))
            waiting += value.values() if isinstance(value, dict) else value
    return found
