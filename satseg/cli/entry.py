"""Entry points: commands that parse their options with Hydra, check them, and report errors in one line."""

from __future__ import annotations

import functools
import mmap
import os
import select
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from satseg import signals
from satseg.cli import checks
from satseg.cli.messages import describe
from satseg.cli.option_types import check_types
from satseg.cli.quoting import quote_paths
from satseg.config import CONFIG_DIR
from satseg.errors import InterruptedRunError, SatsegError, SweepError, causes
from satseg.ranks import is_rank_zero, world_size
from satseg.runs import write_failure

RESERVED_BYTES = 64 << 20
SHOW_TRACEBACK = "SATSEG_FULL_ERROR"  # the user's value of HYDRA_FULL_ERROR


class _ReservedMemory:
    """Reserved address space, to be released when memory runs out, so that the error can be reported."""

    def __init__(self) -> None:
        self._held: mmap.mmap | None = None

    def hold(self) -> None:
        self._held = self._held or mmap.mmap(-1, RESERVED_BYTES, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)

    def release(self) -> None:
        if self._held is not None:
            self._held.close()
            self._held = None


_reserve = _ReservedMemory()


def entry_point(config_name: str) -> Callable[[Callable[[DictConfig], Any]], Callable[[], None]]:
    """Return a decorator that turns a function of a composed config into a command.

    Args:
        config_name: The command's file in `conf/`.

    Returns:
        A decorator; the decorated function takes its options from the command line, prints a
        `SatsegError` as one line and exits with 1 (with a traceback if HYDRA_FULL_ERROR=1 is set); on a stop
        request of the system it prints a note and exits with 130.
    """

    def decorate(function: Callable[[DictConfig], Any]) -> Callable[[], None]:
        @functools.wraps(function)
        def run(cfg: DictConfig) -> Any:
            try:
                _reserve.hold()
                with _failure_recorded(cfg):
                    check_types(cfg, config_name)
                    checks.check(cfg, config_name)
                _print_start(config_name)
                with signals.listening():
                    result = function(cfg)
                if HydraConfig.get().mode == hydra.types.RunMode.RUN:
                    signals.ignore()
                return result
            except InterruptedRunError as error:
                print(describe(error), file=sys.stderr)
                raise KeyboardInterrupt from error  # also stops a sweep
            except Exception as error:
                _report(error, cfg)
                raise

        command = hydra.main(version_base="1.3", config_path=str(CONFIG_DIR), config_name=config_name)(run)

        @functools.wraps(function)
        def main() -> None:
            sys.argv[1:] = quote_paths(sys.argv[1:])
            _one_line_errors(command, function.__module__ == "__main__")

        return main

    return decorate


@contextmanager
def _failure_recorded(cfg: DictConfig) -> Iterator[None]:
    """Record an error of the block in the run folder of a sweep; a single run has no folder yet."""
    try:
        yield
    except SatsegError as error:
        if HydraConfig.get().mode == hydra.types.RunMode.MULTIRUN and cfg.get("run_dir") and is_rank_zero():
            write_failure(Path(cfg.run_dir), error)
        raise


def _print_start(name: str) -> None:
    """Print that a command has started, as importing its libraries takes seconds.

    Option errors are reported before this. Only rank zero, and only the first run of a sweep, prints it.
    """
    hydra_config = HydraConfig.get()
    is_later_run = hydra_config.mode == hydra.types.RunMode.MULTIRUN and hydra_config.job.num > 0
    if is_rank_zero() and not is_later_run:
        print(f"satseg {name}: starting (loading PyTorch takes some seconds)", file=sys.stderr, flush=True)


def _report(error: Exception, cfg: DictConfig) -> None:
    """Report an error: exit a single run; in a sweep, raise it so that the other runs continue."""
    _reserve.release()
    message = describe(error)
    if message is not None and os.environ.get(SHOW_TRACEBACK) != "1":
        _clear_frames(error)
    if HydraConfig.get().mode == hydra.types.RunMode.MULTIRUN:
        name = Path(cfg.get("run_dir") or cfg.get("resume_from") or ".").name
        print(f"Run {name} failed: {message or traceback.format_exc()}", file=sys.stderr)
        if world_size() > 1:  # torchrun's other processes would wait for this one: stop all, to resume the sweep later
            raise SystemExit(1)
        raise SweepError(message or repr(error)) from None  # an error that every launcher can pickle
    _exit_if_output_is_closed(error)
    if message is not None and os.environ.get(SHOW_TRACEBACK) != "1":
        print(message, file=sys.stderr)
        raise SystemExit(1)


def _clear_frames(error: BaseException) -> None:
    """Clear the frames of an error, and hide errors in the destructors of half-built objects."""
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    try:
        for cause in causes(error):
            traceback.clear_frames(cause.__traceback__)
    finally:
        sys.unraisablehook = hook


def _exit_if_output_is_closed(error: Exception) -> None:
    """Exit without a message if stdout is a pipe whose reader has closed it, as `| head` does."""
    if not isinstance(error, BrokenPipeError):
        return
    output = sys.stdout.fileno()
    poll = select.poll()
    poll.register(output, 0)
    if any(events & select.POLLERR for _, events in poll.poll(0)):
        os.dup2(os.open(os.devnull, os.O_WRONLY), output)  # Python flushes it once more
        raise SystemExit(1)


def _one_line_errors(command: Callable[[], Any], is_process: bool) -> None:
    os.environ[SHOW_TRACEBACK] = os.environ.get("HYDRA_FULL_ERROR", "0")
    os.environ["HYDRA_FULL_ERROR"] = "1"  # makes Hydra raise errors instead of printing them and exiting
    try:
        with signals.startup(is_process):
            command()
            sys.stdout.flush()
    except KeyboardInterrupt as error:
        _reserve.release()
        _clear_frames(error)
        sys.exit(130)
    except Exception as error:
        _exit_if_output_is_closed(error)
        message = describe(error)
        if message is None or os.environ[SHOW_TRACEBACK] == "1":
            raise
        print(message, file=sys.stderr)
        sys.exit(1)
    finally:
        os.environ["HYDRA_FULL_ERROR"] = os.environ.pop(SHOW_TRACEBACK)
