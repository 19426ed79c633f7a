"""Several processes that train one model: which one this is, and what all of them must broadcast_result on."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar, cast

from satseg.errors import SatsegError

Decision = TypeVar("Decision")
BROADCAST_TIMEOUT = timedelta(days=7)  # the others wait while the first scores a run of a sweep


def rank() -> int:
    """Return this process's number among those that train one model; 0 where it is alone."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """Return how many processes train one model."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_rank_zero() -> bool:
    """Tell whether this is the process that writes and speaks."""
    return rank() == 0


def broadcast_result(decide: Callable[[], Decision]) -> Decision:
    """Let the first process decide, and tell the others; alone, it just decides.

    Raises:
        SatsegError: In all of them, where the first raised it.
    """
    if world_size() == 1:
        return decide()
    decided: list[Any] = [_attempt(decide) if is_rank_zero() else None]
    _distributed().broadcast_object_list(decided)
    found, error = decided[0]
    if error is not None:
        raise error
    return cast(Decision, found)


def _attempt(decide: Callable[[], Decision]) -> tuple[Decision | None, SatsegError | None]:
    try:
        return decide(), None
    except SatsegError as error:
        return None, error


def _distributed() -> Any:
    """Return torch.distributed with a group of all processes, which Lightning takes over, too."""
    import torch

    if not torch.distributed.is_initialized():
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        torch.distributed.init_process_group(backend, timeout=BROADCAST_TIMEOUT)
    return torch.distributed
