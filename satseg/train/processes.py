"""Training on several devices of this machine: a process for each, started here, watched, and ended together."""

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
from satseg.runs import Run, how_to_resume
from satseg.runs.documents import read_fields, read_json, read_yaml

JOB, RUN, SCORE = "read_job.yaml", "run.json", "score.json"
SHUTDOWN_GRACE_S = 20.0  # after one process has ended with an error
POLL_S = 0.2
# What would report_error a new process that it belongs to another group.
GROUP_VARIABLES = ("LOCAL_RANK", "RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "GROUP_RANK")


def num_processes(cfg: DictConfig) -> int:
    """Return for how many devices processes must be started here; 1 where this process trains by itself.

    Raises:
        ConfigError: If machines are asked for that nothing started processes on, or other devices than torchrun has.
    """
    devices, nodes = _num_devices(cfg), cfg.trainer.get("num_nodes", 1)
    if world_size() > 1:
        if devices * nodes != world_size():  # each would train for itself
            raise errors.ConfigError(
                f"torchrun started {world_size()} processes, but trainer.devices={devices} and "
                f"trainer.num_nodes={nodes} make {devices * nodes}: set them to what torchrun was told."
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
    """Train in so many processes of this machine; return the score.

    Raises:
        SatsegError: What ended one of them; the others are ended, too.
    """
    with tempfile.TemporaryDirectory(prefix="satseg-") as name:
        folder = Path(name)
        write_text(folder / JOB, OmegaConf.to_yaml(cfg, resolve=True))
        told = [str(run.path), run.resume_path and str(run.resume_path), sys.argv[1:], locks.held()]
        write_json(folder / RUN, told)
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
    environment.pop("SLURM_NTASKS", None)  # by which Lightning would take them for tasks of Slurm
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
            pass_fds=locks.held(),  # they write, and may outlive this process for a moment
        )
        for rank in range(count)
    ]


@contextmanager
def _forwarding_interrupts(forward: Callable[[int], None]) -> Iterator[None]:
    """Send Ctrl-C on to the processes, which have left this one's group in the terminal."""
    is_main = threading.current_thread() is threading.main_thread()  # only which may listen
    previous = signal.signal(signal.SIGINT, lambda number, _: forward(number)) if is_main else None
    try:
        yield
    finally:
        if is_main:
            signal.signal(signal.SIGINT, previous)


def _wait(processes: Sequence[subprocess.Popen[bytes]]) -> list[int | None]:
    """Wait until all have ended, or one has failed and the others had a while to end, too."""
    deadline = None
    while None in [process.poll() for process in processes]:  # all are asked: only then one learns how it ended
        if deadline is None and any(process.returncode for process in processes):
            deadline = time.monotonic() + SHUTDOWN_GRACE_S
        if deadline is not None and time.monotonic() > deadline:
            break  # such as those that wait for one that is no more
        time.sleep(POLL_S)
    return [process.poll() for process in processes]


def _outcome(folder: Path, run: Run, codes: Sequence[int | None]) -> float:
    """Return the score, or raise what ended the first of the processes that failed: the others follow it.

    Where there is a score, the run is complete, however they ended. What one said comes next: a library may kill those
    that wait for it.
    """
    if (folder / SCORE).exists():
        score = read_json(folder / SCORE, object)
        return float("nan") if score is None else float(score)
    told = sorted(folder.glob("error_*.json"), key=lambda path: path.stat().st_mtime_ns)
    if told:
        first = read_fields(told[0], {"kind": str, "message": str})
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
    """Leave word of an error, in one of the processes."""
    if isinstance(error, errors.SatsegError):
        write_json(folder / f"error_{rank}.json", {"kind": type(error).__name__, "message": str(error)})
    else:
        write_text(folder / f"trace_{rank}.txt", "".join(traceback.format_exception(error)))


def read_job(folder: Path) -> tuple[DictConfig, Run, list[str]]:
    """Read what to train and what the user typed, in one of the processes, which takes over the locks."""
    path, resume_path, typed, held = read_json(folder / RUN, list)
    locks.adopt(held)
    run = Run(Path(path), Path(resume_path) if resume_path else None)
    return OmegaConf.create(read_yaml(folder / JOB)), run, typed
