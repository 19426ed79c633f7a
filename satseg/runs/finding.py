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
WANDB = "wandb:"  # a model that is downloaded
SUFFIXES = (".safetensors", ".ckpt")
EXPECTED = "a run folder, a model file, a pattern of these, or latest"
SINGLE_MODEL_COMMANDS = {  # what a command does with one model, and what to do instead with several
    "explain": "explain looks into one model: name one of them, or score all together with satseg.evaluate",
    "export": "export writes one model: export each by itself, and average the softmax of what they compute",
}


def find_complete(reference: str | Path, runs_dir: Path, *, verbose: bool = True) -> Path:
    """Return a path as it is, or for `latest` the newest complete run below `runs_dir`.

    Args:
        reference: A path, or `latest`.
        runs_dir: Where to look.
        verbose: Whether to say on stderr which run `latest` is.

    Raises:
        RunError: If there is none.
    """
    return _find(reference, runs_dir, lambda folder: (folder / SUMMARY).is_file(), "complete", verbose)


def find_checkpoint(reference: str | Path, runs_dir: Path, *, verbose: bool = True) -> Path:
    """Return the path of a run folder or model file, that of the newest complete run for `latest`.

    Args:
        reference: A path, or `latest`.
        runs_dir: Where to look.
        verbose: As for `find_complete`.

    Raises:
        RunError: If there is no complete run.
        CheckpointError: If nothing is at the path.
    """
    path = find_complete(reference, runs_dir, verbose=verbose)
    if not path.exists():
        raise CheckpointError(f"checkpoint={path} is not there; name a run folder, a model file, or latest.")
    return path


def find_unfinished(reference: str | Path, runs_dir: Path, *, verbose: bool = True) -> Path:
    """Return a run folder that can be resumed; for `latest` the newest that no process is in.

    Args:
        reference: A path, or `latest`.
        runs_dir: Where to look.
        verbose: As for `find_complete`.

    Raises:
        RunError: If there is none, or the one named is complete or has no checkpoint yet.
    """
    path = _find(reference, runs_dir, partial(_unfinished, verbose=verbose), "unfinished", verbose)
    if not (path / LAST_CHECKPOINT).is_file():
        raise RunError(f"resume_from={path}: there is no checkpoints/last.ckpt in it to go on from.")
    if (path / SUMMARY).exists():
        raise RunError(f"resume_from={path}: this run is complete; start from its weights with init_from={path}.")
    return path


def find_paths(pattern: str) -> list[Path]:
    """Return the files and folders that a path with wildcards names; one that is there is no pattern.

    Raises:
        RunError: If there is none.
    """
    places = [Path(pattern)] if Path(pattern).exists() else [Path(p) for p in glob.glob(pattern)]  # noqa: PTH207
    if not places:
        raise RunError(f"runs={pattern} fits no folder.")
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
            advice = "go on with one that was stopped: python -m satseg.train resume_from=latest"
        raise RunError(f"There is no {kind} run in {runs_dir.resolve()}: {advice}, or name a folder instead of latest.")
    newest = max(folders, key=lambda folder: (folder / "config.yaml").stat().st_mtime_ns)
    if verbose:
        print(f"latest: {newest}", file=sys.stderr)
    return newest


def _unfinished(folder: Path, verbose: bool) -> bool:
    """Tell whether a run can be gone on with, and say where only another process that is in it speaks against."""
    if (folder / SUMMARY).exists() or not (folder / LAST_CHECKPOINT).is_file():
        return False
    is_free = locks.is_free(folder / locks.NAME)
    if not is_free and verbose:
        print(f"latest: {folder} is in use, and is left out", file=sys.stderr)
    return is_free


def model_path(path: Path) -> Path:
    """Return the model file that a run folder, or a file itself, stands for.

    Raises:
        CheckpointError: If it is not there.
    """
    path = path / MODEL_FILE if path.is_dir() else path
    if not path.is_file():
        raise CheckpointError(f"{path} is not there; name a run folder, a model file, or latest.")
    return path


def run_folder(path: Path) -> Path:
    """Return the folder of the run that a file or folder belongs to.

    Raises:
        RunError: If it lies in none.
    """
    for folder in (path, *path.resolve().parents):
        if (folder / "config.yaml").is_file():
            return folder
    raise RunError(f"{path} lies in no run folder: give dataset= and output= beside it.")


def named_models(checkpoint: Any, runs_dir: Path, *, verbose: bool = True) -> list[str]:
    """Return the models that an option names, patterns replaced by what they fit; none is opened.

    Args:
        checkpoint: The option's value: a text, or a list of texts.
        runs_dir: Where `latest` is looked for.
        verbose: Whether to say on stderr what patterns leave out.

    Raises:
        ConfigError: If nothing is named, or something that is no text.
        CheckpointError: If a model is not there, or a pattern fits none; one that is downloaded is not looked for.
        RunError: If there is no complete run that `latest` could be.
    """
    entries = list(checkpoint) if OmegaConf.is_list(checkpoint) else [checkpoint]
    if not entries:
        raise ConfigError(f"checkpoint=[]: name {EXPECTED}.")
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
    """Refuse models that are not there, and several where a command takes one.

    Raises:
        SatsegError: As `named_models` says.
    """
    found = named_models(checkpoint, runs_dir, verbose=False)
    if command in SINGLE_MODEL_COMMANDS and len(found) > 1:
        raise ConfigError(f"checkpoint=[{', '.join(found)}]: {SINGLE_MODEL_COMMANDS[command]}.")


def _expanded(name: str, verbose: bool) -> Iterator[str]:
    """Yield a name, or the complete runs and model files that it fits where it is a pattern."""
    if name.startswith(WANDB) or not glob.has_magic(name) or Path(name).exists():
        yield name
        return
    places = [Path(place) for place in sorted(glob.glob(name))]  # noqa: PTH207 (absolute patterns, too)
    models = [place for place in places if (place / MODEL_FILE).is_file() or place.suffix in SUFFIXES]
    complete = [place for place in models if place.is_file() or (place / SUMMARY).is_file()]
    if not complete:
        raise CheckpointError(f"checkpoint={name} fits no complete run and no model file: name {EXPECTED}.")
    if verbose and (unfinished := [str(place) for place in models if place not in complete]):
        print(f"checkpoint={name}: not complete, and left out: {', '.join(unfinished)}", file=sys.stderr)
    yield from map(str, complete)
