"""Two that write in one place: one of them does, and the other says who."""

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from satseg.errors import InUseError
from satseg.locks import NAME, alone, alone_at, alone_in, is_free


def test_a_process_that_opened_the_lock_of_one_that_ends_does_not_write_beside_a_third(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, flock, others = tmp_path / "map.tif", fcntl.flock, contextlib.ExitStack()

    def late(file: Any, how: int) -> None:
        """The first ends, and a third begins, between this one's opening the file and its locking it."""
        monkeypatch.undo()
        first.close()
        others.enter_context(alone_at(output))
        flock(file, how)

    first = contextlib.ExitStack()
    first.enter_context(alone_at(output))
    monkeypatch.setattr(fcntl, "flock", late)
    with others, pytest.raises(InUseError, match=f"map.tif is in use by process {os.getpid()} on "), alone_at(output):
        pass
    with alone_at(output):
        pass
    assert not list(tmp_path.iterdir())


HOLDS = """
import os, sys, time
from pathlib import Path
from satseg.locks import alone_in
with alone_in(Path(sys.argv[1])):
    child = os.fork()  # as a loader's worker is made
    print(child, flush=True)
    time.sleep(600)
"""


def test_a_lock_ends_with_its_process_though_a_copy_of_that_lives_on(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with subprocess.Popen([sys.executable, "-c", HOLDS, str(folder)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        lines = {holder.stdout.readline(), holder.stdout.readline()}
        copy = max(map(int, lines))
        try:
            assert not is_free(folder / NAME)
            with pytest.raises(InUseError, match=f"in use by process {holder.pid} on "), alone_in(folder):
                pass
            holder.kill()
            holder.wait()
            assert is_free(folder / NAME)
            os.kill(copy, 0)  # it is there still
            with alone_in(folder):
                pass
        finally:
            os.kill(copy, signal.SIGKILL)
            holder.kill()
    assert not folder.exists() or not list(folder.iterdir())


def test_a_refused_process_leaves_nothing(tmp_path: Path) -> None:
    with alone_in(tmp_path / "held"):
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(InUseError), alone_in(tmp_path / "held"):
            pass
        assert sorted(tmp_path.rglob("*")) == before
    with pytest.raises(ZeroDivisionError), alone_in(tmp_path / "a/b/c"):
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


def test_storage_without_locks_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refusing(file: Any, how: int) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refusing)
    with alone(tmp_path / NAME, "It", "go away"):
        assert "This storage keeps no locks" in caplog.text
