"""Which device a command computes on, and the memory that it may take there."""

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
    """Return the device of that name; `auto` is the first GPU where there is one.

    Raises:
        ConfigError: If the device is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.zeros(1, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(
            f"device={name}: {error}; choose auto, cpu, or a GPU that is there such as cuda:0."
        ) from error


@dataclass(frozen=True)
class Machine:
    """What a training computes with.

    Attributes:
        is_gpu: Whether on GPUs; else on the processor.
        memory: Bytes of a GPU, or of the machine: all of it, not what happens to be free.
        threads: Of the processor, in one process.
    """

    is_gpu: bool
    memory: int
    threads: int


def training_machine(accelerator: str = "auto") -> Machine:
    """Return what Lightning's trainer will compute with by its option `accelerator`."""
    threads = torch.get_num_threads()
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return Machine(True, torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory, threads)
    return Machine(False, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), threads)


@contextmanager
def memory_limit(device: torch.device) -> Iterator[None]:
    """Let this process take no more memory than the machine has free, so that too much is an error.

    Otherwise Linux promises memory that is not there, and kills the process when it is used. Only where training
    computes on the processor: a GPU's driver reserves far more addresses than it uses.
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
    """Return what this process has and may still take; None where the system is not Linux."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines() + Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    numbers = {key: int(rest.split()[0]) for key, _, rest in (line.partition(":") for line in lines) if "kB" in rest}
    return 1024 * (numbers["MemAvailable"] + numbers["VmData"])


@contextmanager
def out_of_memory_advice(advice: str) -> Iterator[None]:
    """Turn running out of memory into one line.

    Raises:
        ResourceError: With the advice.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise ResourceError(f"Memory ran out. {advice}") from error


def peak_memory_gb(device: torch.device) -> float:
    """Return the most memory so far: of the GPU, or of the process; NaN where the system does not say."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    try:
        import resource
    except ImportError:  # Windows
        return float("nan")
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
