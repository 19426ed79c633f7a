"""The memory limit, out-of-memory errors, and the choice of the device."""

import subprocess
import sys

import pytest
import torch

from satseg.devices import choose_device
from satseg.errors import ConfigError

# Linux overcommits: it grants eight quarters of the memory, and kills the process when the pages are written.
TOO_MUCH = """
import os, torch
from satseg.devices import memory_limit, is_out_of_memory
quarter = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4
kept = []
try:
    with memory_limit(torch.device("cpu")):
        kept += [torch.empty(quarter, dtype=torch.uint8) for _ in range(8)]
except RuntimeError as error:
    print("refused" if is_out_of_memory(error) else error)
kept += [torch.empty(quarter, dtype=torch.uint8) for _ in range(4)]
print("and then unlimited")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux overcommits memory")
def test_allocating_too_much_memory_raises_an_error_within_the_limit() -> None:
    done = subprocess.run([sys.executable, "-c", TOO_MUCH], capture_output=True, text=True)
    assert done.stdout.split("\n")[:2] == ["refused", "and then unlimited"], done.stderr


def test_only_out_of_memory_errors_are_recognised_as_such() -> None:
    from satseg.devices import is_out_of_memory

    assert not is_out_of_memory(RuntimeError("size mismatch"))
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory")) and is_out_of_memory(MemoryError())


def test_an_unknown_device_raises_an_error_with_the_choices() -> None:
    assert choose_device("cpu").type == "cpu"
    with pytest.raises(ConfigError, match=r"device=banana: .*choose auto, cpu"):
        choose_device("banana")
