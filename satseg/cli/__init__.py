"""Shared parts of the entry points: quoting of paths, checks of types, and one-line errors."""

from __future__ import annotations

import difflib
import functools
import mmap
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from satseg import signals
from satseg.cli import checks
from satseg.cli.quoting import quote_paths
from satseg.config import CONFIG_DIR
from satseg.data.workers import worker_lost_error
from satseg.errors import ConfigError, InterruptedRunError, SatsegError, SweepError, causes, is_out_of_memory
from satseg.ranks import is_rank_zero, world_size
from satseg.runs import AUTO, AUTO_OPTIONS, write_failure

HINTS = {  # below the choices of a group
    "backbone": "; any other of timm's by its name, backbone.encoder_name={choice}",
    "hydra/launcher": "; more come with satseg[joblib] and satseg[submitit]",
}
MEMORY_ADVICE = "provide more, or reduce its use, such as by a smaller batch_size or fewer workers."
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


def check_types(cfg: DictConfig, config_name: str) -> None:
    """Check that options have the types of their defaults, as YAML itself would accept `lr=abc`.

    Raises:
        ConfigError: If one has not; names the option, its value and the expected type.
    """
    overrides = list(HydraConfig.get().overrides.task)
    groups = [o for o in overrides if _key(o) in HydraConfig.get().runtime.choices]
    plain = [_key(o) for o in overrides if o not in groups and not o.startswith(("+", "~"))]
    if not plain:
        return
    loader = GlobalHydra.instance().config_loader()
    defaults = loader.load_configuration(config_name, groups, hydra.types.RunMode.RUN)
    for key in plain:
        value = OmegaConf.select(cfg, key)
        if not (value == AUTO and key in AUTO_OPTIONS):  # also if the experiment sets a number
            _check_type(key, value, OmegaConf.select(defaults, key))


def _key(override: str) -> str:
    return override.lstrip("+~").partition("=")[0]


def _check_type(key: str, value: Any, default: Any) -> None:
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise ConfigError(f"{key}={value}: expected true or false.")
    elif isinstance(default, int | float) and not _is_number(value):
        raise ConfigError(f"{key}={value}: expected a number, such as {default}.")
    elif OmegaConf.is_list(default) and isinstance(value, str):
        raise ConfigError(f"{key}={value}: expected a list; write {key}=[{value}].")


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


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


def _one_line_errors(command: Callable[[], Any], is_process: bool) -> None:
    os.environ[SHOW_TRACEBACK] = os.environ.get("HYDRA_FULL_ERROR", "0")
    os.environ["HYDRA_FULL_ERROR"] = "1"  # makes Hydra raise errors instead of printing them and exiting
    try:
        with signals.startup(is_process):
            command()
    except KeyboardInterrupt as error:
        _reserve.release()
        _clear_frames(error)
        sys.exit(130)
    except Exception as error:
        message = describe(error)
        if message is None or os.environ[SHOW_TRACEBACK] == "1":
            raise
        print(message, file=sys.stderr)
        sys.exit(1)
    finally:
        os.environ["HYDRA_FULL_ERROR"] = os.environ.pop(SHOW_TRACEBACK)


def describe(error: BaseException) -> str | None:
    """Return a line for an error that the user can fix, with its details below; None for other errors."""
    for cause in causes(error):
        if isinstance(cause, SatsegError):
            return "\n    ".join([f"{type(cause).__name__}: {_one_line(cause)}", *cause.below])
    if lost := worker_lost_error(error):
        return f"{type(lost).__name__}: {lost}"
    if any(is_out_of_memory(cause) for cause in causes(error)):
        return f"ResourceError: Memory ran out: {MEMORY_ADVICE}"
    if isinstance(error, MissingConfigException) and "/" in (error.missing_cfg_file or ""):
        group, _, choice = str(error.missing_cfg_file).rpartition("/")
        options = error.options or sorted(path.stem for path in (CONFIG_DIR / group).glob("*.yaml"))
        hint = HINTS.get(group, "").format(choice=choice)
        return f"ConfigError: {group}={choice} does not exist; choose one of {', '.join(options)}{hint}."
    if isinstance(error, OverrideParseException):
        return (
            f"ConfigError: {' '.join(error.override.split())} cannot be read as an option: put single quotes around "
            "texts with spaces, commas, =, brackets or parentheses, and double quotes around the whole option, as in "
            "\"dataset.classes=['low (1)',high]\"."
        )
    for cause in causes(error):
        if isinstance(cause, ConfigAttributeError | ConfigKeyError):
            return _unknown_option(cause)
    if isinstance(error, HydraException | OmegaConfBaseException):
        return f"ConfigError: {_one_line(error)}"
    return None


def _unknown_option(error: OmegaConfBaseException) -> str:
    key = str(error.full_key or error.key)
    parent = error.parent_node
    siblings = [str(k) for k in parent] if isinstance(parent, DictConfig) and not isinstance(parent, ListConfig) else []
    group, dot, name = key.rpartition(".")
    near = [group + dot + like for like in difflib.get_close_matches(name, siblings, n=3, cutoff=0.5) or siblings]
    hint = f"; did you mean {' or '.join(near)}" if near and len(near) <= 3 else f"; choose from {', '.join(near)}"
    return f"ConfigError: there is no option {key}{hint if near else ''}."


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
