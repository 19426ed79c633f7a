"""Running the commands as people do, in processes of their own, on tiny data."""

import atexit
import functools
import json
import os
import select
import shlex
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import preloaded_processes

TINY = [
    "experiment=demo",
    "backbone=mobilenetv4_conv_small",
    "dataset.size=128",
    "dataset.scenes={train: 2, val: 1, test: 2}",
    "dataset.patch_size=64",
    "dataset.batch_size=2",
    "dataset.patches_per_epoch=8",
    "trainer.max_epochs=2",
    "trainer.enable_progress_bar=false",
]


FRESH = ("executor=ray", *(f"hydra/launcher={name}" for name in ("joblib", "ray", "submitit")))  # start others
_starting = threading.Lock()


def command(
    name: str, *options: str, cwd: Path, starts_others: bool | None = None, ranks: int = 0
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end.

    Args:
        name: Of the command.
        options: On its command line.
        cwd: Where it runs.
        starts_others: Whether it starts processes, where its options do not tell.
        ranks: How many processes it starts, a device each; they have the libraries ready, too.
    """
    environment = os.environ | {"OMP_NUM_THREADS": "1", "SATSEG_CACHE": str(cwd / "cache")}
    environment.pop("WANDB_API_KEY", None)
    return run_module(
        f"satseg.{name}", *options, cwd=cwd, environment=environment, starts_others=starts_others, ranks=ranks
    )


def run_module(
    module: str,
    *options: str,
    cwd: Path,
    environment: dict[str, str],
    starts_others: bool | None = None,
    ranks: int = 0,
) -> subprocess.CompletedProcess[str]:
    """Run a module as a process of its own, without the seconds in which it would import the libraries."""
    if starts_others is None:
        starts_others = "trainer=ddp" in options or any(option.startswith(FRESH) for option in options)
    arguments = [sys.executable, "-m", module, *options]
    if starts_others and not ranks:
        return subprocess.run(arguments, cwd=cwd, env=environment, capture_output=True, text=True)
    return run_program(arguments, ranks=ranks, cwd=cwd, env=environment, start_new_session=True)


def run_program(arguments: list[str], ranks: int = 0, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a program in Python to its end as `subprocess.run` does, with the libraries ready; see `Forked`."""
    pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with Forked(arguments, ranks=ranks, text=True, **pipes, **options) as process:
        said, complained = process.communicate()
    return subprocess.CompletedProcess(arguments, process.returncode, said, complained)


class Forked(preloaded_processes.Handed):
    """A process started as by `subprocess.Popen` that has the libraries ready: `python -m`, `-c` or a script.

    Args:
        arguments: Begin with `sys.executable`.
        ranks: How many of the first processes in Python that it starts have them ready, too.
        options: Of `subprocess.Popen`.
    """

    def __init__(self, arguments: list[str], ranks: int = 0, **options: Any) -> None:
        self._ranks = ranks
        super().__init__(arguments, **options)

    def hand_over(self, asked: dict[str, Any], files: list[int]) -> int:
        self._told, telling = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with telling, _starting:
            message = json.dumps(asked | {"spares": self._ranks}).encode()
            socket.send_fds(_starter(), [message], [*files, telling.fileno()])
        return int(self._told.recv(64))

    def _has_ended(self, seconds: float | None) -> bool:
        if self.returncode is None and select.select([self._told], [], [], seconds)[0]:
            self.returncode = int(self._told.recv(64))
            self._told.close()
        return self.returncode is not None

    def _internal_poll(self, *_: Any, **__: Any) -> int | None:
        return self.returncode if self._has_ended(0) else None

    def _wait(self, timeout: float | None) -> int:
        if not self._has_ended(timeout):
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return self.returncode


@functools.cache
def _starter() -> socket.socket:
    orders, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    arguments = [sys.executable, str(Path(preloaded_processes.__file__)), str(its.fileno())]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(arguments, env=environment, stdin=subprocess.DEVNULL, pass_fds=[its.fileno()])
    its.close()
    atexit.register(process.kill)
    return orders


def refused(name: str, *options: str, cwd: Path, starts_others: bool | None = None, ranks: int = 0) -> str:
    """Run a command that must fail with one line; return that line."""
    done = command(name, *options, cwd=cwd, starts_others=starts_others, ranks=ranks)
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert done.returncode in (1, 2), done.stderr
    errors = [line for line in lines if "Error" in line]
    assert "Traceback" not in done.stderr and len(errors) == 1 and lines[-1] == errors[0], done.stderr
    return errors[0]


def cluster(folder: Path) -> dict[str, str]:
    """Make a folder with what Slurm has on its machines; return the environment of a job of it."""
    tools = folder / "tools"
    tools.mkdir(parents=True)
    for name, text in (("scontrol", f'echo "$@" >> {shlex.quote(str(folder / "asked"))}'), ("srun", 'exec "$@"')):
        (tools / name).write_text(f"#!/bin/sh\n{text}\n")
        (tools / name).chmod(0o755)
    paths = os.pathsep.join([str(tools), str(Path(sys.executable).parent), os.environ["PATH"]])
    return {"SLURM_JOB_ID": "17", "SLURM_NTASKS": "1", "SLURM_JOB_NAME": "satseg", "PATH": paths}
