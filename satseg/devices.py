"""Choice of the device, and limits of its memory."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from satseg.errors import ConfigError, ResourceError, is_out_of_memory


def choose_device(name: str) -> torch.device:
    """Return a device by name; `auto` is the first GPU, or the CPU if there is none.

    Raises:
        ConfigError: If the device does not exist.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.zeros(1, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"device={name}: {error}; choose auto, cpu, or an existing GPU such as cuda:0.") from error


@dataclass(frozen=True)
class Machine:
    """Hardware that a training runs on.

    Attributes:
        is_gpu: Whether it is a GPU; else the CPU.
        memory: Total bytes of the GPU, or of the machine, free or not.
        threads: CPU threads per process.
    """

    is_gpu: bool
    memory: int
    threads: int


def training_machine(accelerator: str = "auto") -> Machine:
    """Return the hardware that Lightning's trainer selects for its option `accelerator`."""
    threads = torch.get_num_threads()
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return Machine(True, torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory, threads)
    return Machine(False, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), threads)


@contextmanager
def memory_limit(device: torch.device) -> Iterator[None]:
    """Limit this process to the machine's free memory, so that exceeding it raises an error.

    Otherwise Linux overcommits memory, and kills the process when it is used. Applies to the CPU only, as GPU drivers
    reserve far more address space than they use.
    """
    free = _free_bytes()
    if device.type != "cpu" or free is None:
        yield
        return
    import resource

    earlier, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = free if hard == resource.RLIM_INFINITY else min(free, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (earlier, hard))


def _free_bytes() -> int | None:
    """Return the bytes that this process has and can still allocate; None if the system is not Linux."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines() + Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    numbers = {key: int(rest.split()[0]) for key, _, rest in (line.partition(":") for line in lines) if "kB" in rest}
    return 1024 * (numbers["MemAvailable"] + numbers["VmData"])


@contextmanager
def out_of_memory_advice(advice: str) -> Iterator[None]:
    """Turn out-of-memory errors of the block into a ResourceError.

    Args:
        advice: How to reduce the memory, for the message.

    Raises:
        ResourceError: If memory runs out; gives the advice.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise ResourceError(f"Memory ran out. {advice}") from error


def peak_memory_gb(device: torch.device) -> float:
    """Return the peak memory so far, of the GPU or of the process; NaN if it is unknown."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    try:
        import resource
    except ImportError:  # Windows
        return float("nan")
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
