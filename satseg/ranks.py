"""Ranks of the processes that train one model, and decisions shared among them."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar, cast

from satseg.errors import SatsegError

Result = TypeVar("Result")
BROADCAST_TIMEOUT = timedelta(days=7)  # the others wait while rank zero scores a run of a sweep


def rank() -> int:
    """Return the rank of this process; 0 for a single process."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """Return the number of processes that train one model."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_rank_zero() -> bool:
    """Return True on the rank that writes files and logs."""
    return rank() == 0


def broadcast_result(compute: Callable[[], Result]) -> Result:
    """Call a function on rank zero, and return its result on all ranks.

    Raises:
        SatsegError: On all ranks, if rank zero raised it.
    """
    if world_size() == 1:
        return compute()
    computed: list[Any] = [_attempt(compute) if is_rank_zero() else None]
    _distributed().broadcast_object_list(computed)
    found, error = computed[0]
    if error is not None:
        raise error
    return cast(Result, found)


def _attempt(compute: Callable[[], Result]) -> tuple[Result | None, SatsegError | None]:
    try:
        return compute(), None
    except SatsegError as error:
        return None, error


def _distributed() -> Any:
    """Return torch.distributed with its default process group initialised, which Lightning then reuses."""
    import torch

    if not torch.distributed.is_initialized():
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        torch.distributed.init_process_group(backend, timeout=BROADCAST_TIMEOUT)
    return torch.distributed
