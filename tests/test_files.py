"""Files are there whole or not at all, also when the disk is full."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from satseg.errors import ResourceError
from satseg.files import size_text, temporary_folder, write_json, write_text

# A limit on the size of files stands in for a full disk: the system refuses in the middle of a write.
FULL = """
import resource, sys, torch
from pathlib import Path
from satseg.train.callbacks.checkpoint_io import AtomicCheckpointIO
from satseg.errors import ResourceError
io, path = AtomicCheckpointIO(), Path(sys.argv[1]) / "last.ckpt"
io.save_checkpoint({"a": 1}, path)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    io.save_checkpoint({"a": torch.zeros(1_000_000)}, path)
except ResourceError as error:
    print(error)
print(io.load_checkpoint(path), [p.name for p in path.parent.iterdir()])
"""


def test_a_full_disk_leaves_the_last_good_checkpoint(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True)
    first, second = done.stdout.splitlines()
    assert first == f"{tmp_path}/last.ckpt cannot be written: File too large."
    assert second == "{'a': 1} ['last.ckpt']"


HALF = """
import os, signal, sys
from pathlib import Path
from satseg.files import atomic_path
path = Path(sys.argv[1])
with atomic_path(path) as temporary:
    temporary.write_text("half")
    print("writing", flush=True)
    if input() == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    temporary.write_text(path.name)
"""


def test_what_a_killed_process_left_is_swept_and_what_a_living_one_writes_is_not(tmp_path: Path) -> None:
    def half(name: str) -> "subprocess.Popen[str]":
        arguments = [sys.executable, "-c", HALF, str(tmp_path / name)]
        process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None and process.stdout.readline() == "writing\n"
        return process

    killed = half("killed.txt")
    killed.communicate("die\n")
    (left,) = tmp_path.iterdir()
    living = half("living.txt")
    assert not left.exists() and len(list(tmp_path.iterdir())) == 1
    third = half("third.txt")
    for process in (living, third):
        process.communicate("end\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["living.txt", "third.txt"]
    assert (tmp_path / "living.txt").read_text() == "living.txt"


def test_a_folder_that_is_just_being_swept_is_not_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = os.open
    sweeping: list[threading.Timer] = []

    def late(path: Path, *arguments: int) -> int:
        """Another process has locked the new folder before this one can, and removes it a moment later."""
        monkeypatch.undo()
        other = opened(path, os.O_RDONLY)
        fcntl.flock(other, fcntl.LOCK_EX)
        sweeping.append(threading.Timer(0.2, lambda: (shutil.rmtree(path), os.close(other))))
        sweeping[0].start()
        return opened(path, *arguments)

    monkeypatch.setattr(os, "open", late)
    with temporary_folder(tmp_path) as folder:
        sweeping[0].join()
        assert folder.is_dir()
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_named() -> None:
    with pytest.raises(ResourceError, match="cannot be written: No such file"):
        write_text(Path("/proc/nothing/a.txt"), "")


def test_what_is_not_a_number_becomes_null(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"a": [float("nan"), 1.5], "b": {"c": float("inf")}, "d": (1,)})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": [None, 1.5], "b": {"c": None}, "d": [1]}


@pytest.mark.parametrize(
    ("num_bytes", "text"),
    [
        (0, "0 bytes"),
        (7, "7 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (9_960, "10 kB"),
        (34_567, "35 kB"),
        (999_700, "1.0 MB"),
        (20e6, "20 MB"),
        (7.5e9, "7.5 GB"),
        (1234.5e12, "1,234 TB"),
    ],
)
def test_a_size_is_told_in_the_unit_that_suits_it(num_bytes: float, text: str) -> None:
    assert size_text(num_bytes) == text
