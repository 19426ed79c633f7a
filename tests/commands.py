"""Running the commands as people do, in processes of their own, on tiny data."""

import atexit
import functools
import json
import os
import shlex
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

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


STARTS_OTHERS = {"-m", "executor=ray", "trainer=ddp"}  # processes that import what their starter ran
_one_at_a_time = threading.Lock()


def command(name: str, *options: str, cwd: Path, starts_others: bool | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; `starts_others` where its options do not tell whether it starts processes."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "SATSEG_CACHE": str(cwd / "cache")}
    environment.pop("WANDB_API_KEY", None)
    return run_module(f"satseg.{name}", *options, cwd=cwd, environment=environment, starts_others=starts_others)


def run_module(
    module: str, *options: str, cwd: Path, environment: dict[str, str], starts_others: bool | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a module as a process of its own, without the seconds in which it would import the libraries."""
    if starts_others is None:
        starts_others = bool(STARTS_OTHERS & set(options))
    if starts_others or not _one_at_a_time.acquire(blocking=False):
        arguments = [sys.executable, "-m", module, *options]
        return subprocess.run(arguments, cwd=cwd, env=environment, capture_output=True, text=True)
    try:
        return _fork(module, options, cwd, environment)
    finally:
        _one_at_a_time.release()


def _fork(
    module: str, options: tuple[str, ...], cwd: Path, environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    starter = _starter()
    assert starter.stdin is not None and starter.stdout is not None
    with tempfile.NamedTemporaryFile() as out, tempfile.NamedTemporaryFile() as err:
        asked = {"module": module, "options": options, "cwd": str(cwd), "out": out.name, "err": err.name}
        starter.stdin.write(json.dumps(asked | {"environment": environment}) + "\n")
        starter.stdin.flush()
        code = int(starter.stdout.readline())
        said, complained = (Path(file.name).read_text() for file in (out, err))
    return subprocess.CompletedProcess([module, *options], code, said, complained)


@functools.cache
def _starter() -> "subprocess.Popen[str]":
    arguments = [sys.executable, str(Path(__file__).with_name("forking.py"))]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(arguments, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    atexit.register(process.kill)
    return process


def refused(name: str, *options: str, cwd: Path, starts_others: bool | None = None) -> str:
    """Run a command that must fail with one line; return that line."""
    done = command(name, *options, cwd=cwd, starts_others=starts_others)
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
