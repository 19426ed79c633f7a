"""Running functions and satseg's commands in forks of this process, so that libraries are imported once."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import runpy
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

COMMANDS = ("satseg.train.build", "satseg.diagnosis")  # modules that import the libraries


def import_libraries() -> None:
    """Import the libraries that each fork needs."""
    for name in COMMANDS:
        import_module(name)
    gc.freeze()


def run_in_fork(log: Path, function: Callable[..., None], *arguments: Any) -> bool:
    """Run a function in a fork of this process, with output to a file; return whether it succeeded."""
    process = multiprocessing.get_context("fork").Process(target=_logged, args=(log, function, arguments))
    process.start()
    try:
        process.join()
    finally:  # an interruption also ends the fork
        if process.is_alive():
            process.terminate()
            process.join()
    return process.exitcode == 0


def _logged(log: Path, function: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        os.dup2(file, stream.fileno())
    function(*arguments)


def run_command(name: str, *options: str) -> None:
    """Run `python -m satseg.<name>` within a fork.

    Raises:
        RuntimeError: If the command failed.
    """
    sys.argv = [name, *options]
    code: Any = 0
    with contextlib.suppress(SystemExit):
        try:
            runpy.run_module(f"satseg.{name}", run_name="__main__", alter_sys=True)
        except SystemExit as end:
            code = end.code
            raise
    if code:
        raise RuntimeError(f"satseg.{name} {' '.join(options)} ended with {code}")
