"""Atomic writing of files, also on a full disk and by killed processes."""

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

# A limit on file sizes simulates a full disk: the system fails in the middle of a write.
FULL_DISK = """
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


def test_a_full_disk_keeps_the_last_good_checkpoint(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FULL_DISK, str(tmp_path)], capture_output=True, text=True)
    first, second = done.stdout.splitlines()
    assert first == f"{tmp_path}/last.ckpt cannot be written: File too large."
    assert second == "{'a': 1} ['last.ckpt']"


WRITE_HALF = """
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


def test_temporary_files_of_killed_processes_are_removed_and_those_of_living_ones_kept(tmp_path: Path) -> None:
    def start_writing(name: str) -> "subprocess.Popen[str]":
        arguments = [sys.executable, "-c", WRITE_HALF, str(tmp_path / name)]
        process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None and process.stdout.readline() == "writing\n"
        return process

    killed = start_writing("killed.txt")
    killed.communicate("die\n")
    (left,) = tmp_path.iterdir()
    living = start_writing("living.txt")
    assert not left.exists() and len(list(tmp_path.iterdir())) == 1
    third = start_writing("third.txt")
    for process in (living, third):
        process.communicate("end\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["living.txt", "third.txt"]
    assert (tmp_path / "living.txt").read_text() == "living.txt"


def test_a_temporary_folder_that_another_process_is_removing_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = os.open
    removal: list[threading.Timer] = []

    def late(path: Path, *arguments: int) -> int:
        """Lock the new folder as another process would, and remove it a moment later."""
        monkeypatch.undo()
        other = opened(path, os.O_RDONLY)
        fcntl.flock(other, fcntl.LOCK_EX)
        removal.append(threading.Timer(0.2, lambda: (shutil.rmtree(path), os.close(other))))
        removal[0].start()
        return opened(path, *arguments)

    monkeypatch.setattr(os, "open", late)
    with temporary_folder(tmp_path) as folder:
        removal[0].join()
        assert folder.is_dir()
    assert not list(tmp_path.iterdir())


def test_an_unwritable_folder_raises_an_error() -> None:
    with pytest.raises(ResourceError, match="cannot be written: No such file"):
        write_text(Path("/proc/nothing/a.txt"), "")


def test_nan_and_infinity_become_null_in_json(tmp_path: Path) -> None:
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
def test_size_text_uses_a_suitable_unit(num_bytes: float, text: str) -> None:
    assert size_text(num_bytes) == text
