"""Which models `checkpoint=` names: one, a list, or all that a pattern fits."""

from __future__ import annotations

import glob
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from satseg.errors import CheckpointError, ConfigError
from satseg.runs import MODEL_FILE, SUMMARY, find_checkpoint, model_path

WANDB = "wandb:"  # a model that is downloaded
SUFFIXES = (".safetensors", ".ckpt")
EXPECTED = "a run folder, a model file, a pattern of these, or latest"
ONE = {  # what a command does with one model, and what to do instead with several
    "explain": "explain looks into one model: name one of them, or score all together with satseg.evaluate",
    "export": "export writes one model: export each by itself, and average the softmax of what they compute",
}


def named_models(checkpoint: Any, runs_dir: Path, *, tell: bool = True) -> list[str]:
    """Return the models that an option names, patterns replaced by what they fit; none is opened.

    Args:
        checkpoint: The option's value: a text, or a list of texts.
        runs_dir: Where `latest` is looked for.
        tell: Whether to say on stderr what patterns leave out.

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
        for name in _expanded(str(entry), tell):
            if not name.startswith(WANDB):
                model_path(find_checkpoint(name, runs_dir, tell=False))
            found.append(name)
    return found


def check_named(checkpoint: Any, runs_dir: Path, command: str) -> None:
    """Refuse models that are not there, and several where a command takes one.

    Raises:
        SatsegError: As `named_models` says.
    """
    found = named_models(checkpoint, runs_dir, tell=False)
    if command in ONE and len(found) > 1:
        raise ConfigError(f"checkpoint=[{', '.join(found)}]: {ONE[command]}.")


def _expanded(name: str, tell: bool) -> Iterator[str]:
    """Yield a name, or the complete runs and model files that it fits where it is a pattern."""
    if name.startswith(WANDB) or not glob.has_magic(name) or Path(name).exists():
        yield name
        return
    places = [Path(place) for place in sorted(glob.glob(name))]  # noqa: PTH207 (absolute patterns, too)
    models = [place for place in places if (place / MODEL_FILE).is_file() or place.suffix in SUFFIXES]
    complete = [place for place in models if place.is_file() or (place / SUMMARY).is_file()]
    if not complete:
        raise CheckpointError(f"checkpoint={name} fits no complete run and no model file: name {EXPECTED}.")
    if tell and (unfinished := [str(place) for place in models if place not in complete]):
        print(f"checkpoint={name}: not complete, and left out: {', '.join(unfinished)}", file=sys.stderr)
    yield from map(str, complete)
