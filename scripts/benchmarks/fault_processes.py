"""Commands as processes for fault injection, forked from one with libraries imported, and monitored."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests/helpers"))

import preloaded_processes

OUT = "out"  # output folder of each command, in its working folder
LOOK_S = 0.002  # polling interval
MOST_S = 180.0  # time limit of a process


@dataclass(frozen=True)
class Mark:
    """A function call that marks a phase of a command.

    Attributes:
        phase: Name of the phase that starts with the call.
        function: `module:name`.
    """

    phase: str
    function: str


@dataclass
class Process:
    """A running or finished command.

    Attributes:
        pid: Process id, also of its process group.
        folder: Folder of its output and marks.
        name: Base name of these files.
        started: Start time on the monotonic clock.
        code: Exit code; None while it runs.
        seconds: Its duration.
    """

    pid: int
    folder: Path
    name: str
    started: float
    code: int | None = None
    seconds: float = 0.0

    def poll(self) -> bool:
        """Return whether the process has ended."""
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code, self.seconds = os.waitstatus_to_exitcode(status), time.monotonic() - self.started
        return self.code is not None

    def sleep(self, until: float) -> bool:
        """Wait until a time after the start; return whether the process still runs."""
        while time.monotonic() - self.started < until:
            if self.poll():
                return False
            time.sleep(LOOK_S)
        return not self.poll()

    def wait(self) -> int:
        """Wait for the process to end; if it hangs, kill it, with the exit code of SIGKILL."""
        if self.sleep(time.monotonic() - self.started + MOST_S):
            self.signal(signal.SIGKILL)
            while not self.poll():
                time.sleep(LOOK_S)
        assert self.code is not None
        return self.code

    def signal(self, number: int) -> None:
        """Send a signal to the process only, unless it has ended."""
        if not self.poll():
            os.kill(self.pid, number)

    def end_group(self) -> None:
        """Kill the remaining processes of its group."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def children(self) -> list[int]:
        """Return its child processes."""
        try:
            text = "".join(path.read_text() for path in Path(f"/proc/{self.pid}/task").glob("*/children"))
        except OSError:  # it has ended meanwhile
            return []
        return [int(pid) for pid in text.split()]

    def stderr(self) -> str:
        """Return its stderr."""
        return (self.folder / f"{self.name}.err").read_text(errors="replace")

    def marks(self) -> list[tuple[str, float]]:
        """Return the phases so far, with their start times in seconds."""
        lines = (self.folder / f"{self.name}.marks").read_text().splitlines()
        return [(phase, float(at)) for phase, _, at in (line.rpartition(" ") for line in lines)]

    def phase(self) -> str:
        """Return the current phase."""
        return self.marks()[-1][0]


def start(command: str, options: Sequence[str], folder: Path, name: str, cache: Path, marks: Sequence[Mark]) -> Process:
    """Start a command as a fork of this process, which must not have threads.

    Args:
        command: As in `python -m satseg.<command>`.
        options: Command line options.
        folder: The working folder; output and marks go to a folder with the suffix `.logs` next to it.
        name: Of these files.
        cache: Of satseg.
        marks: Of the command.
    """
    notes = folder.with_name(f"{folder.name}.logs")
    for path in (folder, notes):
        path.mkdir(parents=True, exist_ok=True)
    for suffix in ("out", "err", "marks"):
        (notes / f"{name}.{suffix}").write_text("start 0\n" if suffix == "marks" else "")
    environment = {k: v for k, v in os.environ.items() if k != "WANDB_API_KEY"}
    environment |= {"OMP_NUM_THREADS": "1", "SATSEG_CACHE": str(cache)}
    arguments = [sys.executable, "-m", f"satseg.{command}", *options]
    request = {"command": arguments, "cwd": str(folder), "environment": environment, "leads": True, "passed": []}
    started = time.monotonic()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            descriptor = os.open(notes / f"{name}.marks", os.O_WRONLY | os.O_APPEND)
            for mark in marks:
                _watch(mark, descriptor, started)
            streams = (os.open(notes / f"{name}.{suffix}", os.O_WRONLY) for suffix in ("out", "err"))
            code = preloaded_processes.run(request, [os.open(os.devnull, os.O_RDONLY), *streams])
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return Process(pid, notes, name, started)


def _watch(mark: Mark, descriptor: int, started: float) -> None:
    """Log each call of a function to a file; methods as well."""
    module, _, path = mark.function.partition(":")
    owner = importlib.import_module(module)
    *owners, attribute = path.split(".")
    for part in owners:
        owner = getattr(owner, part)
    function = getattr(owner, attribute)

    def watched(*arguments: object, **named: object) -> object:
        os.write(descriptor, f"{mark.phase} {time.monotonic() - started:.4f}\n".encode())
        return function(*arguments, **named)

    setattr(owner, attribute, watched)
