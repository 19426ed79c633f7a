"""Training on several devices of this machine: one process per device, started, watched and stopped together."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from satseg import errors, locks, signals
from satseg.files import write_json, write_text
from satseg.ranks import world_size
from satseg.records.resuming import how_to_resume
from satseg.runs import Run
from satseg.runs.documents import read_fields, read_json, read_yaml

JOB, RUN, SCORE = "job.yaml", "run.json", "score.json"
SHUTDOWN_GRACE_S = 20.0  # for the others, after one process has failed
POLL_S = 0.2
# Variables by which a new process would join another process group.
GROUP_VARIABLES = ("LOCAL_RANK", "RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "GROUP_RANK")


def num_processes(cfg: DictConfig) -> int:
    """Return how many processes to start on this machine; 1 if this process trains by itself.

    Raises:
        ConfigError: If several machines are requested without torchrun, or other devices than torchrun started.
    """
    devices, nodes = _num_devices(cfg), cfg.trainer.get("num_nodes", 1)
    if world_size() > 1:
        if devices * nodes != world_size():  # each would train separately
            raise errors.ConfigError(
                f"torchrun started {world_size()} processes, but trainer.devices={devices} and "
                f"trainer.num_nodes={nodes} make {devices * nodes}: set them to what torchrun was given."
            )
        return 1
    if nodes > 1:
        raise errors.ConfigError(
            f"trainer.num_nodes={nodes}: start it with torchrun on each machine, as scripts/train_nodes.sbatch does."
        )
    return devices


def _num_devices(cfg: DictConfig) -> int:
    wanted = cfg.trainer.devices
    if isinstance(wanted, int) and wanted > 0:
        return wanted
    if wanted in ("auto", -1, "-1"):
        import torch

        return max(1, torch.cuda.device_count()) if cfg.trainer.accelerator != "cpu" else 1
    raise errors.ConfigError(f"trainer.devices={wanted}: expected a number of devices, or auto.")


def launch(cfg: DictConfig, run: Run, count: int) -> float:
    """Train in several processes on this machine; return the score.

    Raises:
        SatsegError: The error of the process that failed first; the others are stopped.
    """
    with tempfile.TemporaryDirectory(prefix="satseg-") as name:
        folder = Path(name)
        write_text(folder / JOB, OmegaConf.to_yaml(cfg, resolve=True))
        arguments = [str(run.path), run.resume_path and str(run.resume_path), sys.argv[1:], locks.held_descriptors()]
        write_json(folder / RUN, arguments)
        processes: list[subprocess.Popen[bytes]] = []

        def forward(number: int) -> None:
            for process in processes:
                process.send_signal(number)

        with signals.deferred(forward):
            with signals.blocked():
                processes += _start(folder, count)
            signals.forward_pending()
            with _killed_at_exit(processes), _forwarding_interrupts(forward):
                codes = _wait(processes)
            score = _outcome(folder, run, codes)
            signals.mark_complete()
        return score


@contextmanager
def _killed_at_exit(processes: Sequence[subprocess.Popen[bytes]]) -> Iterator[None]:
    try:
        yield
    finally:
        for process in processes:
            process.kill()


def _start(folder: Path, count: int) -> list[subprocess.Popen[bytes]]:
    environment = {k: v for k, v in os.environ.items() if k not in GROUP_VARIABLES and not k.startswith("TORCHELASTIC")}
    environment.pop("SLURM_NTASKS", None)  # else Lightning would take them for Slurm tasks
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "NODE_RANK": "0", "WORLD_SIZE": str(count)}
    command = [sys.executable, "-m", "satseg.train.worker", str(folder)]
    return [
        subprocess.Popen(
            command,
            env=environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            start_new_session=True,
            pass_fds=locks.held_descriptors(),  # they write to the run folder, and may briefly outlive this process
        )
        for rank in range(count)
    ]


@contextmanager
def _forwarding_interrupts(forward: Callable[[int], None]) -> Iterator[None]:
    """Forward Ctrl-C to the processes, which are not in the terminal's process group."""
    is_main = threading.current_thread() is threading.main_thread()  # only the main thread may set handlers
    previous = signal.signal(signal.SIGINT, lambda number, _: forward(number)) if is_main else None
    try:
        yield
    finally:
        if is_main:
            signal.signal(signal.SIGINT, previous)


def _wait(processes: Sequence[subprocess.Popen[bytes]]) -> list[int | None]:
    """Wait until all have ended, or SHUTDOWN_GRACE_S after one has failed."""
    deadline = None
    while None in [process.poll() for process in processes]:  # polls all, which sets their returncode
        if deadline is None and any(process.returncode for process in processes):
            deadline = time.monotonic() + SHUTDOWN_GRACE_S
        if deadline is not None and time.monotonic() > deadline:
            break  # they may be waiting for the failed one
        time.sleep(POLL_S)
    return [process.poll() for process in processes]


def _outcome(folder: Path, run: Run, codes: Sequence[int | None]) -> float:
    """Return the score, or raise the error of the process that failed first, as the others fail in consequence.

    With a score the run is complete, whatever the exit codes. A reported error takes precedence over a killed process,
    as a library may kill the processes that wait for a failed one.
    """
    if (folder / SCORE).exists():
        score = read_json(folder / SCORE, object)
        return float("nan") if score is None else float(score)
    reported = sorted(folder.glob("error_*.json"), key=lambda path: path.stat().st_mtime_ns)
    if reported:
        first = read_fields(reported[0], {"kind": str, "message": str})
        raise getattr(errors, first["kind"])(first["message"])
    killed = [(rank, -code) for rank, code in enumerate(codes) if code is not None and code < 0]
    if killed:
        rank, number = killed[0]
        name = signal.Signals(number).name
        why = ", most likely because memory ran out" if name == "SIGKILL" else ""
        raise errors.RunError(f"The process of device {rank} was killed by {name}{why}. {how_to_resume(run.path)}")
    traces = sorted(folder.glob("trace_*.txt"), key=lambda path: path.stat().st_mtime_ns)
    if traces:
        print(traces[0].read_text(), file=sys.stderr)
    raise errors.RunError(f"A process failed, see above. {how_to_resume(run.path)}")


def report_error(folder: Path, rank: int, error: Exception) -> None:
    """Write an error to a file for the parent process."""
    if isinstance(error, errors.SatsegError):
        write_json(folder / f"error_{rank}.json", {"kind": type(error).__name__, "message": str(error)})
    else:
        write_text(folder / f"trace_{rank}.txt", "".join(traceback.format_exception(error)))


def read_job(folder: Path) -> tuple[DictConfig, Run, list[str]]:
    """Read the configuration, the run and the user's arguments in a child process, and take over the locks."""
    path, resume_path, typed, held = read_json(folder / RUN, list)
    locks.adopt(held)
    run = Run(Path(path), Path(resume_path) if resume_path else None)
    return OmegaConf.create(read_yaml(folder / JOB)), run, typed
