"""Finding run folders and model files by path, pattern or `latest`."""

from __future__ import annotations

import glob
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from satseg import locks
from satseg.errors import CheckpointError, ConfigError, RunError
from satseg.runs.layout import LAST_CHECKPOINT, MODEL_FILE, SUMMARY

LATEST = "latest"
WANDB = "wandb:"  # prefix of models to download
SUFFIXES = (".safetensors", ".ckpt")
EXPECTED = "a run folder, a model file, a pattern of these, or latest"
SINGLE_MODEL_COMMANDS = {  # commands that take one model, and advice for several
    "explain": "explain takes one model: choose one of them, or score the ensemble with satseg.evaluate",
    "export": "export takes one model: export each separately, and average the softmax of their outputs",
}


def find_complete(reference: str | Path, runs_dir: Path, *, verbose: bool = True) -> Path:
    """Return a path unchanged, or for `latest` the newest complete run below `runs_dir`.

    Args:
        reference: A path, or `latest`.
        runs_dir: Folder to search.
        verbose: Whether to print the run that `latest` stands for to stderr.

    Raises:
        RunError: If there is no complete run.
    """
    return _find(reference, runs_dir, lambda folder: (folder / SUMMARY).is_file(), "complete", verbose)


def find_checkpoint(reference: str | Path, runs_dir: Path, *, verbose: bool = True) -> Path:
    """Return the path of a run folder or model file; for `latest` the newest complete run.

    Args:
        reference: A path, or `latest`.
        runs_dir: Folder to search.
        verbose: As for `find_complete`.

    Raises:
        RunError: If there is no complete run.
        CheckpointError: If the path does not exist.
    """
    path = find_complete(reference, runs_dir, verbose=verbose)
    if not path.exists():
        raise CheckpointError(f"checkpoint={path} does not exist; give a run folder, a model file, or latest.")
    return path


def find_unfinished(reference: str | Path, runs_dir: Path, *, verbose: bool = True) -> Path:
    """Return a run folder that can be resumed; for `latest` the newest that no process uses.

    Args:
        reference: A path, or `latest`.
        runs_dir: Folder to search.
        verbose: As for `find_complete`.

    Raises:
        RunError: If there is none, or the given one is complete or has no checkpoint yet.
    """
    path = _find(reference, runs_dir, partial(_unfinished, verbose=verbose), "unfinished", verbose)
    if not (path / LAST_CHECKPOINT).is_file():
        raise RunError(f"resume_from={path}: it has no checkpoints/last.ckpt to resume from.")
    if (path / SUMMARY).exists():
        raise RunError(
            f"resume_from={path}: this run is complete; start a new run from its weights with init_from={path}."
        )
    return path


def find_paths(pattern: str) -> list[Path]:
    """Return the paths that match a pattern; an existing path is taken literally.

    Raises:
        RunError: If none matches.
    """
    places = [Path(pattern)] if Path(pattern).exists() else [Path(p) for p in glob.glob(pattern)]  # noqa: PTH207
    if not places:
        raise RunError(f"runs={pattern} matches no folder.")
    return places


def _find(reference: str | Path, runs_dir: Path, wanted: Callable[[Path], bool], kind: str, verbose: bool) -> Path:
    if str(reference) != LATEST:
        return Path(reference)
    folders = [config.parent for config in runs_dir.rglob("config.yaml") if wanted(config.parent)]
    if not folders:
        advice = "train one with python -m satseg.train experiment=demo"
        if kind == "complete" and any(
            (config.parent / LAST_CHECKPOINT).exists() for config in runs_dir.rglob("config.yaml")
        ):
            advice = "resume a stopped run: python -m satseg.train resume_from=latest"
        raise RunError(f"There is no {kind} run in {runs_dir.resolve()}: {advice}, or give a folder instead of latest.")
    newest = max(folders, key=lambda folder: (folder / "config.yaml").stat().st_mtime_ns)
    if verbose:
        print(f"latest: {newest}", file=sys.stderr)
    return newest


def _unfinished(folder: Path, verbose: bool) -> bool:
    """Return True if a run can be resumed; print a note if it is only in use."""
    if (folder / SUMMARY).exists() or not (folder / LAST_CHECKPOINT).is_file():
        return False
    is_free = locks.is_free(folder / locks.LOCK_FILE)
    if not is_free and verbose:
        print(f"latest: {folder} is in use, and is skipped", file=sys.stderr)
    return is_free


def model_path(path: Path) -> Path:
    """Return the model file of a run folder; a file is returned unchanged.

    Raises:
        CheckpointError: If it does not exist.
    """
    path = path / MODEL_FILE if path.is_dir() else path
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist; give a run folder, a model file, or latest.")
    return path


def run_folder(path: Path) -> Path:
    """Return the run folder that contains a file or folder, or is one itself.

    Raises:
        RunError: If it is in none.
    """
    for folder in (path, *path.resolve().parents):
        if (folder / "config.yaml").is_file():
            return folder
    raise RunError(f"{path} is not in a run folder: give dataset= and output= as well.")


def named_models(checkpoint: Any, runs_dir: Path, *, verbose: bool = True) -> list[str]:
    """Return the models that an option lists, with patterns expanded; no model is opened.

    Args:
        checkpoint: Value of the option: a string, or a list of strings.
        runs_dir: Folder to search for `latest`.
        verbose: Whether to print unfinished runs that patterns skip to stderr.

    Raises:
        ConfigError: If the list is empty or holds other types.
        CheckpointError: If a model does not exist, or a pattern matches none; models to download are not checked.
        RunError: If there is no complete run for `latest`.
    """
    entries = list(checkpoint) if OmegaConf.is_list(checkpoint) else [checkpoint]
    if not entries:
        raise ConfigError(f"checkpoint=[]: give {EXPECTED}.")
    found = []
    for entry in entries:
        if isinstance(entry, bool) or not isinstance(entry, str | int | float) or not str(entry).strip():
            raise ConfigError(f"checkpoint={'null' if entry is None else entry}: expected {EXPECTED}.")
        for name in _expanded(str(entry), verbose):
            if not name.startswith(WANDB):
                model_path(find_checkpoint(name, runs_dir, verbose=False))
            found.append(name)
    return found


def check_named(checkpoint: Any, runs_dir: Path, command: str) -> None:
    """Check that models exist, and that a command does not get more than it takes.

    Raises:
        SatsegError: As for `named_models`, or if the command takes one model.
    """
    found = named_models(checkpoint, runs_dir, verbose=False)
    if command in SINGLE_MODEL_COMMANDS and len(found) > 1:
        raise ConfigError(f"checkpoint=[{', '.join(found)}]: {SINGLE_MODEL_COMMANDS[command]}.")


def _expanded(name: str, verbose: bool) -> Iterator[str]:
    """Yield a name, or the complete runs and model files that match it if it is a pattern."""
    if name.startswith(WANDB) or not glob.has_magic(name) or Path(name).exists():
        yield name
        return
    places = [Path(place) for place in sorted(glob.glob(name))]  # noqa: PTH207 (absolute patterns as well)
    models = [place for place in places if (place / MODEL_FILE).is_file() or place.suffix in SUFFIXES]
    complete = [place for place in models if place.is_file() or (place / SUMMARY).is_file()]
    if not complete:
        raise CheckpointError(f"checkpoint={name} matches no complete run and no model file: give {EXPECTED}.")
    if verbose and (unfinished := [str(place) for place in models if place not in complete]):
        print(f"checkpoint={name}: not complete, and skipped: {', '.join(unfinished)}", file=sys.stderr)
    yield from map(str, complete)
