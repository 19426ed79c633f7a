"""Faults: what happens to a process at one moment, and what mends it."""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fault_processes import LOOK_S, OUT, Process

DISK_MB = 512
MARGIN_BYTES = 16_000_000  # that a process may take at most when its memory becomes short
FULL_FILE_BYTES = 4096


class Fault:
    """Something that happens while a command runs; this kind kills it.

    Attributes:
        speaks: Whether the process can say what happened.
    """

    speaks = False

    @contextmanager
    def place(self, folder: Path) -> Iterator[None]:
        """Prepare the working folder for the length of a trial."""
        folder.mkdir(parents=True)
        yield

    def hit(self, process: Process, folder: Path, generator: random.Random) -> bool:
        """Happen now; return whether it did before the process ended."""
        process.signal(signal.SIGKILL)
        return True

    def mend(self, folder: Path) -> None:
        """Take away what stood in the way."""


class StopRequested(Fault):
    """SIGTERM."""

    speaks = True

    def hit(self, process: Process, folder: Path, generator: random.Random) -> bool:
        """Ask the process alone."""
        process.signal(signal.SIGTERM)
        return True


class WorkerKilled(Fault):
    """SIGKILL of a process that loads data, as the system does it that has no memory left."""

    speaks = True

    def hit(self, process: Process, folder: Path, generator: random.Random) -> bool:
        """Kill the next worker that there is."""
        while not process.poll():
            if workers := process.children():
                with suppress(ProcessLookupError):
                    os.kill(generator.choice(workers), signal.SIGKILL)
                    return True
            time.sleep(LOOK_S)
        return False


class MemoryShort(Fault):
    """A limit on the process's address space, a little above what it has."""

    speaks = True

    def hit(self, process: Process, folder: Path, generator: random.Random) -> bool:
        """Set the limit."""
        try:
            pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[0])
            limit = pages * resource.getpagesize() + generator.randrange(MARGIN_BYTES)
            resource.prlimit(process.pid, resource.RLIMIT_AS, (limit, limit))
        except (OSError, ProcessLookupError):
            return False
        return True


class OnDisk(Fault):
    """Something that is wrong with the disk: a file system of the folder's own, where the system lets us mount one."""

    speaks = True
    mounts = os.geteuid() == 0

    @contextmanager
    def place(self, folder: Path) -> Iterator[None]:
        """Mount it."""
        folder.mkdir(parents=True)
        if OnDisk.mounts:
            made = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "faults", folder], check=False)
            OnDisk.mounts = made.returncode == 0
        if not OnDisk.mounts:
            yield
            return
        try:
            yield
        finally:
            subprocess.run(["umount", "-l", folder], check=True)


class DiskFull(OnDisk):
    """Another program fills the disk; without a file system of our own, a limit on the size of files stands in."""

    def hit(self, process: Process, folder: Path, generator: random.Random) -> bool:
        """Take what is free, also what the process gives back, until it ends."""
        if not self.mounts:
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (FULL_FILE_BYTES, FULL_FILE_BYTES))
            return True
        with (folder / "filler").open("wb", buffering=0) as file:
            while not process.poll():
                with suppress(OSError):
                    while True:
                        file.write(bytes(2**20 if os.statvfs(folder).f_bavail > 256 else 512))
                time.sleep(LOOK_S)
        return True

    def mend(self, folder: Path) -> None:
        """Make room."""
        (folder / "filler").unlink(missing_ok=True)


class ReadOnly(OnDisk):
    """The disk can only be read any more; where we cannot mount one, the folders' permission bits say so."""

    def hit(self, process: Process, folder: Path, generator: random.Random) -> bool:
        """Mount the output on itself, for reading only: what is open already can still be written to, as logs are."""
        out = folder / OUT
        out.mkdir(exist_ok=True)
        if not self.mounts:
            self._permit(out, 0o555)
            return True
        subprocess.run(["mount", "--bind", out, out], check=True)
        while subprocess.run(["mount", "-o", "remount,bind,ro", out], capture_output=True).returncode:
            time.sleep(LOOK_S)  # a file has just been opened for writing
        return True

    def mend(self, folder: Path) -> None:
        """Allow writing."""
        if self.mounts:
            subprocess.run(["umount", "-l", folder / OUT], check=True)
        else:
            self._permit(folder / OUT, 0o755)

    @staticmethod
    def _permit(folder: Path, mode: int) -> None:
        for path in (folder, *(p for p in folder.rglob("*") if p.is_dir())):
            path.chmod(mode)
