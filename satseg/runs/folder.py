"""Creating and opening run folders."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from omegaconf import OmegaConf

from satseg import locks
from satseg.errors import InterruptedRunError, ResourceError, RunError
from satseg.runs.finding import find_unfinished
from satseg.runs.layout import AUTO, AUTO_OPTIONS, FIRST_EPOCH, LAST_CHECKPOINT, OVERWRITTEN, SUMMARY, SWEEP
from satseg.runs.renamed import read_record

LOCK_PATIENCE_S = 3.0  # time for the processes of a killed run to end


@dataclass(frozen=True)
class Run:
    """A run's folder, and the checkpoint to resume from, if any."""

    path: Path
    resume_path: Path | None = None


@contextmanager
def open_run(
    run_dir: str | None, runs_dir: Path, name: str, resume_from: str | None = None, config: str = ""
) -> Iterator[Run]:
    """Create a run folder, or open an unfinished one, and lock it for the length of a block.

    A run that was stopped before its first checkpoint starts over when its command is repeated. If the block fails
    before the first training step, such as for a wrong option, a new folder is removed, except in a sweep, which reads
    the failure from it.

    Args:
        run_dir: The folder; a new one named by time and `name` by default.
        runs_dir: Parent of new folders.
        name: Short name of the run.
        resume_from: Folder of an unfinished run.
        config: The run's configuration as YAML, as in its config.yaml.

    Raises:
        RunError: If the folder holds another run or other files, or there is nothing to resume.
        InUseError: If another process uses the folder.
        ResourceError: If the folder cannot be written.
    """
    if resume_from is not None:
        path = Path(resume_from)
        with locks.hold(path / locks.LOCK_FILE, f"resume_from={path}", "start a new run", LOCK_PATIENCE_S):
            find_unfinished(path, runs_dir)  # it may have been completed in the meantime
            yield Run(path, path / LAST_CHECKPOINT)
        return
    with ExitStack() as stack:
        if run_dir is not None:
            path = Path(run_dir)
            is_new = not path.exists()
        else:
            missing = [folder for folder in (runs_dir, *runs_dir.parents) if not folder.exists()]
            path, is_new = _free_folder(runs_dir, name), True
            stack.callback(locks.remove_empty, [path, *missing])
        otherwise = "set run_dir or runs_dir to another folder"
        stack.enter_context(locks.hold(path / locks.LOCK_FILE, f"run_dir={path}", otherwise, LOCK_PATIENCE_S))
        is_run = (path / "config.yaml").exists()
        if is_run and _holds_results(path, config):
            raise RunError(f"run_dir={path} already holds a run: choose another folder, or resume_from={path}.")
        if not is_run and (lost := [file for file in OVERWRITTEN if (path / file).exists()]):
            raise RunError(f"run_dir={path} holds {lost[0]}, which the run would overwrite: choose another folder.")
        try:
            yield Run(path)
        except Exception as error:
            if is_new and _is_discardable(path, error):
                _empty(path)
            raise


def _is_discardable(run: Path, error: Exception) -> bool:
    """Return True if a run failed before its first step, and no sweep needs its record."""
    has_begun = isinstance(error, InterruptedRunError) or (run / LAST_CHECKPOINT).parent.exists()
    return not has_begun and not (run.parent / SWEEP).is_file()


def _empty(folder: Path) -> None:
    """Remove the contents of a folder except its lock, which is removed with the folder when it is released."""
    for path in folder.iterdir():
        if path.name == locks.LOCK_FILE:
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _holds_results(run: Path, config: str) -> bool:
    """Return True if starting over would lose more than the first epoch, or another run."""
    if (run / SUMMARY).exists() or (run / LAST_CHECKPOINT).exists():
        return True
    present = [name for name in FIRST_EPOCH if (run / name).exists()]
    if "metrics.csv" in present and len((run / "metrics.csv").read_text(encoding="utf-8").splitlines()) > 2:
        return True  # it got further, but its checkpoints were removed
    return bool(present) and not _matches(config, run / "config.yaml")


def _matches(config: str, recorded: Path) -> bool:
    """Return True if a configuration equals a recorded one, in which `auto` options may have numbers."""
    now, before = OmegaConf.create(config), OmegaConf.create(read_record(recorded))
    for key in AUTO_OPTIONS:
        if OmegaConf.select(now, key) == AUTO:
            OmegaConf.update(now, key, OmegaConf.select(before, key))
    return bool(now == before)


def clear_first_epoch(run: Run) -> None:
    """Remove files that an earlier start left in its first epoch."""
    for name in FIRST_EPOCH:
        (run.path / name).unlink(missing_ok=True)


def _free_folder(runs_dir: Path, name: str) -> Path:
    """Create a folder with a unique name, as two runs may start in the same second."""
    stem = f"{time.strftime('%Y-%m-%d_%H-%M-%S')}_{re.sub(r'[^A-Za-z0-9_.+-]+', '_', name)}"
    for number in range(100):
        path = runs_dir / (f"{stem}_{number}" if number else stem)
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise ResourceError(
                f"{runs_dir} cannot be written ({error.strerror}): set run_dir or runs_dir to another folder."
            ) from error
        return path
    raise RunError(f"No free name for a run folder in {runs_dir}.")
