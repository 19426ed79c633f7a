"""Sweep folders: planning the runs, and running the missing ones."""

from __future__ import annotations

import atexit
import itertools
import logging
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from satseg import locks
from satseg.cli.quoting import quote_value
from satseg.errors import ConfigError, RecordError, SweepError
from satseg.files import write_json
from satseg.ranks import broadcast_result, is_rank_zero
from satseg.runs import SWEEP
from satseg.runs.documents import read_fields
from satseg.sweep.outcome import Outcome, outcome_table, read_outcome

logger = logging.getLogger(__name__)

SWEEP_OPTIONS = ("resume_sweep", "run_dir")  # options of the sweep itself, not of its runs
USER_OVERRIDES = ("trusted_modules=", "logger=", "logger.", "+logger.")
Launch = Callable[[Sequence[Sequence[str]], int], Any]


@dataclass(frozen=True)
class Job:
    """One run of a sweep: its overrides and its folder."""

    overrides: tuple[str, ...]
    folder: Path

    @property
    def command(self) -> list[str]:
        """The overrides that start or resume the run."""
        if (self.folder / "checkpoints" / "last.ckpt").is_file():
            chosen = [o for o in self.overrides if o.startswith(USER_OVERRIDES)]  # which no record may set
            return [*chosen, f"resume_from={quote_value(str(self.folder))}"]
        return [*self.overrides, f"run_dir={quote_value(str(self.folder))}"]


class Sweep:
    """A folder with a plan of runs; reopened, it runs the missing ones.

    Args:
        folder: Folder of a new sweep.
        resume: Folder of a sweep to resume, if any.
        command: The user's overrides and those of the sweeper, including swept values.

    Raises:
        ConfigError: If the folder to resume is not a sweep of the same command, or the folder of a new one is taken.
        InUseError: If another process runs this sweep.
    """

    def __init__(self, folder: Path, resume: str | None, command: Sequence[str]) -> None:
        self.command = sorted(o for o in command if not o.startswith(tuple(f"{key}=" for key in SWEEP_OPTIONS)))
        self.jobs: list[Job] = []
        self.initial = 0
        self._owned = ExitStack()
        atexit.register(self._owned.close)
        self.folder = broadcast_result(lambda: self._checked(folder, resume))  # the name of a new one contains the time

    def _checked(self, folder: Path, resume: str | None) -> Path:
        path = Path(resume or folder).absolute()
        plan = path / SWEEP
        if resume is not None and not plan.is_file():
            raise ConfigError(f"resume_sweep={resume}: there is no {SWEEP}; give the folder of a sweep.")
        self._owned.enter_context(locks.hold(path / locks.LOCK_FILE, f"The sweep {path}", "start a new sweep"))
        if resume is None:
            if plan.exists():
                raise ConfigError(f"{folder} already holds a sweep: choose another folder, or resume_sweep={folder}.")
            return path
        differing = sorted(set(_plan(plan)["command"]) ^ set(self.command))
        if differing:
            raise ConfigError(
                f"resume_sweep={resume} was started by another command ({', '.join(differing)} differs): repeat the "
                "same options, or start a new sweep."
            )
        return path

    def add(self, overrides: Sequence[str], swept: Sequence[str]) -> Job:
        """Add a run to the plan.

        Args:
            overrides: All options of the run.
            swept: The swept options, for the name of its folder.
        """
        own = ",".join(o.replace("=", "-") for o in swept)
        name = f"{len(self.jobs):03d}_{re.sub(r'[^A-Za-z0-9_.+-]+', '_', own)[:100]}".rstrip("_")
        self.jobs.append(Job(tuple(overrides), self.folder / name))
        return self.jobs[-1]

    def save(self) -> None:
        """Write the plan.

        Raises:
            ConfigError: If the existing plan has other runs.
        """
        broadcast_result(self._write_plan)

    def _write_plan(self) -> None:
        runs = {job.folder.name: list(job.overrides) for job in self.jobs}
        path = self.folder / SWEEP
        known = _plan(path)["runs"] if path.is_file() else {}
        differing = [name for name, overrides in known.items() if runs.get(name) != overrides]
        if differing:
            raise ConfigError(
                f"resume_sweep={self.folder} planned {differing[0]}, which this command does not: repeat the same "
                "options in the same order, or start a new sweep."
            )
        write_json(path, {"command": self.command, "runs": runs})

    def run(self, jobs: Sequence[Job], launch: Launch) -> list[Outcome]:
        """Run the jobs that have no settled outcome yet; return the outcomes of all.

        Raises:
            SweepError: If one is still running, or the launcher fails; remote runs may continue.
        """
        missing = broadcast_result(lambda: self._missing(jobs))
        if missing:
            self._launch(missing, launch)
        return broadcast_result(lambda: [read_outcome(job.folder) for job in jobs])

    def _missing(self, jobs: Sequence[Job]) -> list[Job]:
        missing = [job for job in jobs if not read_outcome(job.folder).is_settled]
        if len(missing) < len(jobs):
            print(f"{len(jobs) - len(missing)} of {len(jobs)} runs are done.", file=sys.stderr)
        running = [job.folder for job in missing if not locks.is_free(job.folder / locks.LOCK_FILE)]
        if running:
            raise SweepError(
                f"{running[0]} of this sweep is still in use: wait until it has ended. {self._how_to_resume()}"
            )
        for job in missing:
            if not (job.folder / "checkpoints" / "last.ckpt").is_file():
                shutil.rmtree(job.folder, ignore_errors=True)  # started, but without a checkpoint
        return missing

    def _launch(self, jobs: Sequence[Job], launch: Launch) -> None:
        first, self.initial = self.initial, self.initial + len(jobs)
        try:
            launch(broadcast_result(lambda: [job.command for job in jobs]), first)
        except KeyboardInterrupt:
            print(f"The sweep was interrupted. {self._how_to_resume()}", file=sys.stderr)
            raise
        except (HydraException, OmegaConfBaseException):  # an invalid option
            raise
        except Exception as error:  # the exception depends on the launcher
            self.print_outcomes([read_outcome(job.folder) for job in self.jobs])
            reason = " ".join(str(error).split())[:300]
            raise SweepError(
                f"The launcher failed ({type(error).__name__}: {reason}); runs on other machines may continue. "
                + self._how_to_resume()
            ) from error

    def print_outcomes(self, outcomes: Sequence[Outcome]) -> None:
        """Print the outcomes of the runs."""
        if is_rank_zero():
            print(outcome_table(outcomes))

    def close(self, outcomes: Sequence[Outcome]) -> None:
        """Print the outcomes of the runs.

        Raises:
            SweepError: If a run has no score.
        """
        self.print_outcomes(outcomes)
        if is_rank_zero() and any(outcome.state == "complete" for outcome in outcomes):
            print(f"Compare them: python -m satseg.report runs={shlex.quote(str(self.folder))}")
        failed = [o for o in outcomes if o.state != "complete"]
        if not failed:
            return
        diverged = [o for o in failed if o.state == "diverged"]
        again = "" if len(diverged) == len(failed) else f" Fix the cause. {self._how_to_resume()}"
        note = " Diverged runs would diverge again." if diverged else ""
        raise SweepError(f"{len(failed)} of {len(outcomes)} runs have no score.{again}{note}")

    def _how_to_resume(self) -> str:
        where = shlex.quote(str(self.folder))
        return f"Once none of its runs is active, run the missing ones with the same command and resume_sweep={where}"


def _plan(path: Path) -> dict[str, Any]:
    plan = read_fields(path, {"command": list, "runs": dict})
    if not all(isinstance(option, str) for option in plan["command"]):
        raise RecordError(f"{path} is not the plan of a sweep.")
    return plan


def grid(sweep: Sweep, overrides: Sequence[Override]) -> None:
    """Plan a run for each combination of the swept values.

    Raises:
        ConfigError: If a swept option has no list of values.
    """
    choices = {o.get_key_element(): _values(o) for o in overrides if o.key_or_group not in SWEEP_OPTIONS}
    swept = {o.get_key_element() for o in overrides if o.is_sweep_override()}
    for values in itertools.product(*choices.values()):
        overrides_of_run = [f"{key}={value}" for key, value in zip(choices, values, strict=True)]
        sweep.add(
            overrides_of_run, [t.lstrip("+~") for t, key in zip(overrides_of_run, choices, strict=True) if key in swept]
        )


def _values(override: Override) -> list[str]:
    if not override.is_sweep_override():
        return [str(override.get_value_element_as_str())]
    if not override.is_discrete_sweep():
        raise ConfigError(f"{override.input_line}: a grid needs a list of values; for an interval use sweep=search.")
    return list(override.sweep_string_iterator())


def to_overrides(params: dict[str, Any] | None) -> list[str]:
    """Return a sweeper's options as command-line overrides."""
    return [f"{key}={value}" for key, value in (params or {}).items()]


def parse(params: dict[str, Any] | None, arguments: Sequence[str]) -> list[Override]:
    """Parse the sweeps of a configuration and of the command line, which takes precedence."""
    lines = to_overrides(params) + list(arguments)
    return list({o.key_or_group: o for o in OverridesParser.create().parse_overrides(lines)}.values())
