"""Locks of outputs and folders: concurrent processes, killed ones, and storage without locks."""

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from commands import TINY, Forked, command, error_line
from safetensors.numpy import load_file

from satseg.errors import InUseError, ResourceError
from satseg.locks import LOCK_FILE, folder_lock, hold, is_free, output_lock


def test_a_lock_file_removed_between_opening_and_locking_does_not_admit_two_writers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, flock, others = tmp_path / "map.tif", fcntl.flock, contextlib.ExitStack()

    def late(file: Any, how: int) -> None:
        """Release the first lock and take a third one between opening the file and locking it."""
        monkeypatch.undo()
        first.close()
        others.enter_context(output_lock(output))
        flock(file, how)

    first = contextlib.ExitStack()
    first.enter_context(output_lock(output))
    monkeypatch.setattr(fcntl, "flock", late)
    in_use = f"map.tif is in use by process {os.getpid()} on "
    with others, pytest.raises(InUseError, match=in_use), output_lock(output):
        pass
    with output_lock(output):
        pass
    assert not list(tmp_path.iterdir())


HOLDS = """
import os, sys, time
from pathlib import Path
from satseg.locks import folder_lock
with folder_lock(Path(sys.argv[1])):
    if os.fork() == 0:  # like a worker of a data loader
        print(os.getpid(), flush=True)
    time.sleep(600)
"""


def test_a_lock_ends_with_its_process_although_a_fork_of_it_is_alive(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with subprocess.Popen([sys.executable, "-c", HOLDS, str(folder)], stdout=subprocess.PIPE, text=True) as holder:
        copy = 0
        try:
            assert holder.stdout is not None
            copy = int(holder.stdout.readline())
            assert not is_free(folder / LOCK_FILE)
            with pytest.raises(InUseError, match=f"in use by process {holder.pid} on "), folder_lock(folder):
                pass
            holder.kill()
            holder.wait()
            assert is_free(folder / LOCK_FILE)
            os.kill(copy, 0)  # it is still alive
            with folder_lock(folder):
                pass
        finally:
            holder.kill()
            if copy:
                os.kill(copy, signal.SIGKILL)
    assert not list(folder.iterdir())


ADOPTS = """
import os, subprocess, sys, time
from pathlib import Path
from satseg.locks import adopt, folder_lock, held_descriptors
if sys.argv[1] == "first":
    with folder_lock(Path(sys.argv[2])):
        passed = held_descriptors()
        command = [sys.executable, "-c", sys.argv[3], "second", ",".join(map(str, passed))]
        subprocess.Popen(command, pass_fds=passed)
        time.sleep(600)
adopt(map(int, sys.argv[2].split(",")))
worker = os.fork()  # like a worker of a data loader
if worker:
    print(os.getpid(), worker, flush=True)
time.sleep(600)
"""


def test_a_process_that_adopted_a_lock_keeps_it_when_the_first_holder_is_killed(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    arguments = [sys.executable, "-c", ADOPTS, "first", str(folder), ADOPTS]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as first:
        pids: list[int] = []
        try:
            assert first.stdout is not None
            pids = [int(number) for number in first.stdout.readline().split()]
            first.kill()
            first.wait()
            assert not is_free(folder / LOCK_FILE)
            with pytest.raises(InUseError, match=f"in use by process {first.pid} on "), folder_lock(folder):
                pass
            os.kill(pids[0], signal.SIGKILL)
            with folder_lock(folder, patience_s=10):  # although the worker is alive
                os.kill(pids[1], 0)
        finally:
            first.kill()
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def test_failing_to_get_a_lock_leaves_no_files(tmp_path: Path) -> None:
    with folder_lock(tmp_path / "held"):
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(InUseError), folder_lock(tmp_path / "held"):
            pass
        assert sorted(tmp_path.rglob("*")) == before
    with pytest.raises(ZeroDivisionError), folder_lock(tmp_path / "a/b/c"):
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


def test_a_folder_removed_by_its_last_holder_is_created_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, opened = tmp_path / "run", os.open

    def late(path: Path, *arguments: int) -> int:
        """Remove the folder between its creation and the opening of the lock."""
        monkeypatch.undo()
        folder.rmdir()
        return opened(path, *arguments)

    monkeypatch.setattr(os, "open", late)
    with folder_lock(folder):
        assert (folder / LOCK_FILE).exists()
    assert not list(tmp_path.iterdir())


def test_storage_without_locks_gives_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refusing(file: Any, how: int) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refusing)
    with hold(tmp_path / LOCK_FILE, "It", "go away"):
        assert "This storage keeps no locks" in caplog.text
    monkeypatch.undo()
    monkeypatch.setattr(os.path, "samestat", lambda *_: False)
    with hold(tmp_path / LOCK_FILE, "It", "go away"):
        assert "this storage does not know its files again" in caplog.text


def test_a_lock_file_of_another_user_raises_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refusing(path: Path, *arguments: int) -> int:
        raise PermissionError(13, "Permission denied")

    (tmp_path / LOCK_FILE).touch()
    monkeypatch.setattr(os, "open", refusing)
    whose = r"\.lock is another user's: remove it .*, or go away"
    with pytest.raises(ResourceError, match=whose), hold(tmp_path / LOCK_FILE, "It", "go away"):
        pass


@pytest.mark.slow
def test_only_one_of_two_trainings_in_the_same_folder_runs(tmp_path: Path) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "SATSEG_CACHE": str(tmp_path / "cache")}
    arguments = [sys.executable, "-m", "satseg.train", *TINY, "run_dir=runs/one", "trainer=debug"]
    both = [Forked(arguments, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    printed = {process.pid: process.communicate(timeout=300)[1] for process in both}
    (failed,) = [process.pid for process in both if process.returncode == 1]
    (succeeded,) = [process.pid for process in both if process.returncode == 0]
    line = printed[failed].splitlines()[-1]
    assert (
        line.startswith(f"InUseError: run_dir=runs/one is in use by process {succeeded} on ") and "wait until" in line
    )
    run = tmp_path / "runs/one"
    assert (run / "train.log").read_text().count("Training ") == 1 and not (run / LOCK_FILE).exists()

    files = sorted(run.rglob("*"))
    assert "already holds a run" in error_line("train", *TINY, "run_dir=runs/one", cwd=tmp_path)
    (run / "config.yaml").rename(tmp_path / "config.yaml")  # like a folder to which only a model was copied
    (run / "summary.json").unlink()
    assert "holds model.safetensors, which the run would overwrite" in error_line(
        "train", *TINY, "run_dir=runs/one", cwd=tmp_path
    )
    (tmp_path / "config.yaml").rename(run / "config.yaml")
    assert sorted(run.rglob("*")) == [file for file in files if file.name != "summary.json"]

    shutil.copytree(run, tmp_path / "runs/begun")  # as if killed between its first model and its first checkpoint
    shutil.rmtree(tmp_path / "runs/begun/checkpoints")
    options = [*TINY, "run_dir=runs/begun", "trainer=debug"]
    assert "already holds a run" in error_line("train", *options, cwd=tmp_path)  # because of another configuration
    ours = tmp_path / "runs/begun/config.yaml"
    ours.write_text(ours.read_text().replace("run_dir: runs/one", "run_dir: runs/begun"))
    metrics = tmp_path / "runs/begun/metrics.csv"
    rows = metrics.read_text()
    metrics.write_text(f"{rows}{rows.splitlines()[-1]}\n")
    assert "already holds a run" in error_line("train", *options, cwd=tmp_path)  # because of two epochs
    metrics.write_text(rows)
    (tmp_path / "runs/begun/model.safetensors").write_bytes(b"stale")
    assert command("train", *options, cwd=tmp_path).returncode == 0
    assert load_file(tmp_path / "runs/begun/model.safetensors").keys() == load_file(run / "model.safetensors").keys()

    with folder_lock(run):  # as if it were being resumed
        line = error_line("train", "resume_from=runs/one", cwd=tmp_path)
        assert line.startswith(f"InUseError: resume_from=runs/one is in use by process {os.getpid()} on ")
        done = command("train", "resume_from=latest", cwd=tmp_path)
        assert done.returncode == 1 and "latest: runs/one is in use, and is skipped" in done.stderr
        assert "RunError: There is no unfinished run" in done.stderr
    done = command("train", "resume_from=latest", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert sorted(run.rglob("*")) == files


@pytest.mark.parametrize("name", ["evaluate", "explain", "export", "predict"])
def test_commands_do_not_write_to_an_output_that_is_in_use(
    name: str, run_and_image: tuple[Path, Path], tmp_path: Path
) -> None:
    model, image = run_and_image
    output = tmp_path / {"export": "model.onnx", "predict": "map.tif"}.get(name, "out")
    options = [f"checkpoint={model}", f"output={output}"]
    options += {"explain": ["target=water"], "export": ["format=onnx"], "predict": ["engine=torch"]}.get(name, [])
    options += [f"input={image}"] if name in ("explain", "predict") else []
    with output_lock(output) if output.suffix else folder_lock(output):
        before = sorted(tmp_path.rglob("*"))
        line = error_line(name, *options, cwd=model.parent)
        assert line.startswith(f"InUseError: {output} is in use by process {os.getpid()} on "), line
        assert sorted(tmp_path.rglob("*")) == before


@pytest.fixture(scope="module")
def run_and_image(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return a run and an image for it."""
    folder = tmp_path_factory.mktemp("locks")
    done = command("train", *TINY, "run_dir=run", "trainer=debug", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "run", next((folder / "cache").rglob("images/**/*.tif"))
