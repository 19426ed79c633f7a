"""Running satseg's commands as separate processes, with libraries preloaded."""

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


STARTS_PROCESSES = (
    "executor=ray",
    *(f"hydra/launcher={name}" for name in ("joblib", "ray", "submitit")),
)  # options whose processes start others
_starting = threading.Lock()


def command(
    name: str, *options: str, cwd: Path, starts_others: bool | None = None, ranks: int = 0
) -> subprocess.CompletedProcess[str]:
    """Run a command of satseg.

    Args:
        name: Name of the command.
        options: Its command line.
        cwd: Its working directory.
        starts_others: True if it starts other processes; derived from the options by default.
        ranks: Number of training processes it starts, which get the libraries preloaded, too.
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
    """Run a module as a separate process with the libraries preloaded, which saves seconds."""
    if starts_others is None:
        starts_others = "trainer=ddp" in options or any(option.startswith(STARTS_PROCESSES) for option in options)
    arguments = [sys.executable, "-m", module, *options]
    if starts_others and not ranks:
        return subprocess.run(arguments, cwd=cwd, env=environment, capture_output=True, text=True)
    return run_program(arguments, ranks=ranks, cwd=cwd, env=environment, start_new_session=True)


def run_program(arguments: list[str], ranks: int = 0, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a Python program as `subprocess.run` does, with the libraries preloaded; see `Forked`."""
    pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with Forked(arguments, ranks=ranks, text=True, **pipes, **options) as process:
        output, errors = process.communicate()
    return subprocess.CompletedProcess(arguments, process.returncode, output, errors)


class Forked(preloaded_processes.ForkedPopen):
    """A process like `subprocess.Popen` with the libraries preloaded: `python -m`, `-c` or a script.

    Args:
        arguments: The command, beginning with `sys.executable`.
        ranks: Number of Python processes started by it that get the libraries preloaded, too.
        options: Options of `subprocess.Popen`.
    """

    def __init__(self, arguments: list[str], ranks: int = 0, **options: Any) -> None:
        self._ranks = ranks
        super().__init__(arguments, **options)

    def fork(self, request: dict[str, Any], files: list[int]) -> int:
        self._status, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, _starting:
            message = json.dumps(request | {"spares": self._ranks}).encode()
            socket.send_fds(_fork_server(), [message], [*files, theirs.fileno()])
        return int(self._status.recv(64))

    def _has_ended(self, seconds: float | None) -> bool:
        if self.returncode is None and select.select([self._status], [], [], seconds)[0]:
            self.returncode = int(self._status.recv(64))
            self._status.close()
        return self.returncode is not None

    def _internal_poll(self, *_: Any, **__: Any) -> int | None:
        return self.returncode if self._has_ended(0) else None

    def _wait(self, timeout: float | None) -> int:
        if not self._has_ended(timeout):
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return self.returncode


@functools.cache
def _fork_server() -> socket.socket:
    requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    arguments = [sys.executable, str(Path(preloaded_processes.__file__)), str(theirs.fileno())]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(arguments, env=environment, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()])
    theirs.close()
    atexit.register(process.kill)
    return requests


def error_line(name: str, *options: str, cwd: Path, starts_others: bool | None = None, ranks: int = 0) -> str:
    """Run a command that must fail with one error line; return that line."""
    done = command(name, *options, cwd=cwd, starts_others=starts_others, ranks=ranks)
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert done.returncode in (1, 2), done.stderr
    errors = [line for line in lines if "Error" in line]
    assert "Traceback" not in done.stderr and len(errors) == 1 and lines[-1] == errors[0], done.stderr
    return errors[0]


def fake_slurm(folder: Path) -> dict[str, str]:
    """Make a folder with stand-ins for Slurm's programs; return the environment of a Slurm job."""
    tools = folder / "tools"
    tools.mkdir(parents=True)
    for name, text in (
        ("scontrol", f'echo "$@" >> {shlex.quote(str(folder / "scontrol_calls"))}'),
        ("srun", 'exec "$@"'),
    ):
        (tools / name).write_text(f"#!/bin/sh\n{text}\n")
        (tools / name).chmod(0o755)
    paths = os.pathsep.join([str(tools), str(Path(sys.executable).parent), os.environ["PATH"]])
    return {"SLURM_JOB_ID": "17", "SLURM_NTASKS": "1", "SLURM_JOB_NAME": "satseg", "PATH": paths}
