"""Run folders: where they are, which are complete, what they record."""

from __future__ import annotations

import csv
import glob
import logging
import re
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from satseg import locks
from satseg.errors import CheckpointError, InterruptedRunError, RecordError, ResourceError, RunError
from satseg.files import write_json
from satseg.runs.documents import fields, read_text
from satseg.runs.renamed import read_record

logger = logging.getLogger(__name__)

LATEST = "latest"
MODEL_FILE = "model.safetensors"
SUMMARY = "summary.json"  # written last: its presence says that the run is complete
CHOICES = "choices.json"  # which file of each config group the run was composed from
SWEEP = "sweep.json"  # the plan of a sweep, in the folder of its runs
DATA = "data.json"  # which images and masks the run began with
FAILURE = "failure.json"  # why a run ended without a score
LAST = Path("checkpoints", "last.ckpt")  # what a run goes on from; its folder is made with the first step
# What a run writes that another program may have written where its folder is to be.
OVERWRITTEN = (SUMMARY, "model.safetensors", "metrics.csv", "data.json", "report.html", "checkpoints", "evaluation")
# Options whose `auto` training replaces by a number.
AUTO = "auto"
CHOSEN = ("dataset.patch_size", "dataset.batch_size", "dataset.patches_per_epoch", "trainer.max_epochs")
MOST_TABLE = 2**26  # bytes of metrics.csv, which grows by some 500 an epoch
PATIENCE_S = 3.0  # which processes of a run that was killed take to end
FIRST_EPOCH = ("model.safetensors", "metrics.csv", "checkpoints/best.ckpt")  # what is there before LAST


@dataclass(frozen=True)
class Run:
    """A run's folder, and the checkpoint that it goes on from."""

    path: Path
    resume_path: Path | None = None


@contextmanager
def open_run(
    run_dir: str | None, runs_dir: Path, name: str, resume_from: str | None = None, config: str = ""
) -> Iterator[Run]:
    """Make a new run folder, or open an unfinished one, and keep other processes from it for the length of a block.

    One that was stopped before its first checkpoint begins anew when it is asked for again. A new folder goes where the
    block fails before anything was trained, such as by an option: but in a sweep, which reads there what failed.

    Args:
        run_dir: The folder; a new one named by time and `name` by default.
        runs_dir: Where new folders are made.
        name: What the run is.
        resume_from: An unfinished run's folder.
        config: What the run will be made from, as in its config.yaml.

    Raises:
        RunError: If the folder holds another run or other work, or there is nothing to resume.
        InUseError: If another process has the folder.
        ResourceError: If the folder cannot be written.
    """
    if resume_from is not None:
        path = Path(resume_from)
        with locks.alone(path / locks.NAME, f"resume_from={path}", "start a new run", PATIENCE_S):
            find_unfinished(path, runs_dir)  # it may have been completed since it was looked for
            yield Run(path, path / LAST)
        return
    with ExitStack() as stack:
        if run_dir is not None:
            path = Path(run_dir)
            is_new = not path.exists()
        else:
            made = [folder for folder in (runs_dir, *runs_dir.parents) if not folder.exists()]
            path, is_new = _free_folder(runs_dir, name), True
            stack.callback(locks.remove_empty, [path, *made])
        otherwise = "set run_dir or runs_dir to another folder"
        stack.enter_context(locks.alone(path / locks.NAME, f"run_dir={path}", otherwise, PATIENCE_S))
        is_run = (path / "config.yaml").exists()
        if is_run and _holds_work(path, config):
            raise RunError(f"run_dir={path} holds a run already: name another folder, or resume_from={path}.")
        if not is_run and (lost := [file for file in OVERWRITTEN if (path / file).exists()]):
            raise RunError(f"run_dir={path} holds {lost[0]}, which the run would write over: name another folder.")
        try:
            yield Run(path)
        except Exception as error:
            if is_new and _is_refused(path, error):
                _empty(path)
            raise


def _is_refused(run: Path, error: Exception) -> bool:
    """Tell whether a run ended before its first step, and nobody looks for its record."""
    is_begun = isinstance(error, InterruptedRunError) or (run / LAST).parent.exists()
    return not is_begun and not (run.parent / SWEEP).is_file()


def _empty(folder: Path) -> None:
    """Remove what a folder holds but its lock, which goes, with the folder, when it is let go."""
    for path in folder.iterdir():
        if path.name == locks.NAME:
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _holds_work(run: Path, config: str) -> bool:
    """Tell whether a run would lose more than its first epoch if it began anew, or is not the one that is asked for."""
    if (run / SUMMARY).exists() or (run / LAST).exists():
        return True
    begun = [name for name in FIRST_EPOCH if (run / name).exists()]
    if "metrics.csv" in begun and len((run / "metrics.csv").read_text(encoding="utf-8").splitlines()) > 2:
        return True  # its checkpoints were removed
    return bool(begun) and not _is_asked_for(config, run / "config.yaml")


def _is_asked_for(config: str, recorded: Path) -> bool:
    """Tell whether a run was made from a configuration, which may leave to training what has a number in the record."""
    now, before = OmegaConf.create(config), OmegaConf.create(read_record(recorded))
    for key in CHOSEN:
        if OmegaConf.select(now, key) == AUTO:
            OmegaConf.update(now, key, OmegaConf.select(before, key))
    return bool(now == before)


def begin(run: Run) -> None:
    """Remove what an earlier start left of its first epoch."""
    for name in FIRST_EPOCH:
        (run.path / name).unlink(missing_ok=True)


def _free_folder(runs_dir: Path, name: str) -> Path:
    """Make a folder that nobody else has made: two runs may start in one second."""
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


def find_complete(reference: str | Path, runs_dir: Path, *, tell: bool = True) -> Path:
    """Return a path as it is, or for `latest` the newest complete run below `runs_dir`.

    Args:
        reference: A path, or `latest`.
        runs_dir: Where to look.
        tell: Whether to say on stderr which run `latest` is.

    Raises:
        RunError: If there is none.
    """
    return _find(reference, runs_dir, lambda folder: (folder / SUMMARY).is_file(), "complete", tell)


def find_checkpoint(reference: str | Path, runs_dir: Path, *, tell: bool = True) -> Path:
    """Return the path of a run folder or model file, that of the newest complete run for `latest`.

    Args:
        reference: A path, or `latest`.
        runs_dir: Where to look.
        tell: As for `find_complete`.

    Raises:
        RunError: If there is no complete run.
        CheckpointError: If nothing is at the path.
    """
    path = find_complete(reference, runs_dir, tell=tell)
    if not path.exists():
        raise CheckpointError(f"checkpoint={path} is not there; name a run folder, a model file, or latest.")
    return path


def model_path(path: Path) -> Path:
    """Return the model file that a run folder, or a file itself, stands for.

    Raises:
        CheckpointError: If it is not there.
    """
    path = path / MODEL_FILE if path.is_dir() else path
    if not path.is_file():
        raise CheckpointError(f"{path} is not there; name a run folder, a model file, or latest.")
    return path


def find_places(pattern: str) -> list[Path]:
    """Return the files and folders that a path with wildcards names; one that is there is no pattern.

    Raises:
        RunError: If there is none.
    """
    places = [Path(pattern)] if Path(pattern).exists() else [Path(p) for p in glob.glob(pattern)]  # noqa: PTH207
    if not places:
        raise RunError(f"runs={pattern} fits no folder.")
    return places


def find_unfinished(reference: str | Path, runs_dir: Path, *, tell: bool = True) -> Path:
    """Return a run folder that can be resumed; for `latest` the newest that no process is in.

    Args:
        reference: A path, or `latest`.
        runs_dir: Where to look.
        tell: As for `find_complete`.

    Raises:
        RunError: If there is none, or the one named is complete or has no checkpoint yet.
    """
    path = _find(reference, runs_dir, partial(_unfinished, tell=tell), "unfinished", tell)
    if not (path / LAST).is_file():
        raise RunError(f"resume_from={path}: there is no checkpoints/last.ckpt in it to go on from.")
    if (path / SUMMARY).exists():
        raise RunError(f"resume_from={path}: this run is complete; start from its weights with init_from={path}.")
    return path


def _unfinished(folder: Path, tell: bool) -> bool:
    """Tell whether a run can be gone on with, and say where only another process that is in it speaks against."""
    if (folder / SUMMARY).exists() or not (folder / LAST).is_file():
        return False
    is_free = locks.is_free(folder / locks.NAME)
    if not is_free and tell:
        print(f"latest: {folder} is in use, and is left out", file=sys.stderr)
    return is_free


def _find(reference: str | Path, runs_dir: Path, wanted: Callable[[Path], bool], kind: str, tell: bool) -> Path:
    if str(reference) != LATEST:
        return Path(reference)
    folders = [config.parent for config in runs_dir.rglob("config.yaml") if wanted(config.parent)]
    if not folders:
        advice = "train one with python -m satseg.train experiment=demo"
        if kind == "complete" and any((config.parent / LAST).exists() for config in runs_dir.rglob("config.yaml")):
            advice = "go on with one that was stopped: python -m satseg.train resume_from=latest"
        raise RunError(f"There is no {kind} run in {runs_dir.resolve()}: {advice}, or name a folder instead of latest.")
    newest = max(folders, key=lambda folder: (folder / "config.yaml").stat().st_mtime_ns)
    if tell:
        print(f"latest: {newest}", file=sys.stderr)
    return newest


def how_to_resume(folder: Path) -> str:
    """Return what to tell the user of a run that has stopped."""
    if (folder / SUMMARY).exists():
        return "The run is complete."
    if not (folder / LAST).exists():
        return "There is no checkpoint yet to go on from; start again."
    return (
        f"The last good checkpoint is kept; go on with: python -m satseg.train resume_from={shlex.quote(str(folder))}"
    )


def run_folder(path: Path) -> Path:
    """Return the folder of the run that a file or folder belongs to.

    Raises:
        RunError: If it lies in none.
    """
    for folder in (path, *path.resolve().parents):
        if (folder / "config.yaml").is_file():
            return folder
    raise RunError(f"{path} lies in no run folder: give dataset= and output= beside it.")


def read_summary(folder: Path) -> dict[str, Any]:
    """Read how a complete run ended: its `score` (None where it is no number), and `scores` of each split by name.

    Raises:
        RecordError: If it is not there, or no such record.
    """
    path = folder / SUMMARY
    summary = fields(path, {"score": (float, int, type(None)), "scores": dict, "monitor": str})
    splits = [scores.values() if isinstance(scores, dict) else ("?",) for scores in summary["scores"].values()]
    if not all(type(number) in (int, float, type(None)) for numbers in splits for number in numbers):
        raise RecordError(f"{path}: its scores are no numbers.")
    return summary


def write_failure(folder: Path, error: Exception) -> None:
    """Note in a run's folder why it ended without a score; where the disk is full, this has no place either."""
    with suppress(ResourceError):
        write_json(folder / FAILURE, {"kind": type(error).__name__, "message": " ".join(str(error).split())})


def read_failure(folder: Path) -> dict[str, Any]:
    """Read why a run ended without a score: the `kind` of error and its `message`.

    Raises:
        RecordError: If it is not there, or no such record.
    """
    return fields(folder / FAILURE, {"kind": str, "message": str})


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Read metrics.csv; numbers as floats, blanks as None.

    Raises:
        RecordError: If it is not there, or no table of numbers.
    """
    rows = csv.reader(read_text(path, MOST_TABLE).splitlines())
    try:
        header = next(rows, [])
        found = [dict(zip(header, (float(v) if v else None for v in row), strict=True)) for row in rows]
    except (ValueError, csv.Error) as error:
        raise RecordError(f"{path} is no table of numbers ({error}); take the file as it was written.") from error
    return found
