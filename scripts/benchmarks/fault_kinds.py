"""Kinds of faults that are injected into a process, and their removal."""

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
MARGIN_BYTES = 16_000_000  # headroom of a process when memory becomes short
FULL_FILE_BYTES = 4096


class Fault:
    """A fault during a command; this base class kills it.

    Attributes:
        can_report: Whether the process can report the fault.
    """

    can_report = False

    @contextmanager
    def place(self, folder: Path) -> Iterator[None]:
        """Prepare the working folder for a trial."""
        folder.mkdir(parents=True)
        yield

    def hit(self, process: Process, folder: Path, generator: random.Random) -> bool:
        """Inject the fault; return whether it happened before the process ended."""
        process.signal(signal.SIGKILL)
        return True

    def remove(self, folder: Path) -> None:
        """Remove the fault."""


class StopRequested(Fault):
    """SIGTERM."""

    can_report = True

    def hit(self, process: Process, folder: Path, generator: random.Random) -> bool:
        """Signal only the process itself."""
        process.signal(signal.SIGTERM)
        return True


class WorkerKilled(Fault):
    """SIGKILL of a data loading process, as by the system's out-of-memory killer."""

    can_report = True

    def hit(self, process: Process, folder: Path, generator: random.Random) -> bool:
        """Kill the next worker."""
        while not process.poll():
            if workers := process.children():
                with suppress(ProcessLookupError):
                    os.kill(generator.choice(workers), signal.SIGKILL)
                    return True
            time.sleep(LOOK_S)
        return False


class MemoryShort(Fault):
    """A limit on the address space, slightly above its present size."""

    can_report = True

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
    """A disk fault, on a separate file system for the folder if mounting is allowed."""

    can_report = True
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
    """The disk is full; without a separate file system, a limit on the file size is used instead."""

    def hit(self, process: Process, folder: Path, generator: random.Random) -> bool:
        """Fill the free space, including what the process releases, until it ends."""
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

    def remove(self, folder: Path) -> None:
        """Free the space."""
        (folder / "filler").unlink(missing_ok=True)


class ReadOnly(OnDisk):
    """The disk becomes read-only; without a separate file system, by permission bits of the folders."""

    def hit(self, process: Process, folder: Path, generator: random.Random) -> bool:
        """Remount the output read-only; files that are already open, such as logs, remain writable."""
        out = folder / OUT
        out.mkdir(exist_ok=True)
        if not self.mounts:
            self._permit(out, 0o555)
            return True
        subprocess.run(["mount", "--bind", out, out], check=True)
        while subprocess.run(["mount", "-o", "remount,bind,ro", out], capture_output=True).returncode:
            time.sleep(LOOK_S)  # wait until a file is being written
        return True

    def remove(self, folder: Path) -> None:
        """Allow writing."""
        if self.mounts:
            subprocess.run(["umount", "-l", folder / OUT], check=True)
        else:
            self._permit(folder / OUT, 0o755)

    @staticmethod
    def _permit(folder: Path, mode: int) -> None:
        for path in (folder, *(p for p in folder.rglob("*") if p.is_dir())):
            path.chmod(mode)
