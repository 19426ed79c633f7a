"""Reading of run records for comparison."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from satseg.errors import RecordError, RunError
from satseg.evaluate.files import MATRICES, TIMING, read_matrices
from satseg.files import is_temporary_folder
from satseg.runs import CHOICES, FAILURE, SUMMARY, find_paths, read_failure, read_summary
from satseg.runs.documents import MAX_LISTING_BYTES, read_fields, read_json
from satseg.runs.next_steps import SPLITS, usual_split
from satseg.runs.renamed import read_record

# Paths, how a run was started, and options that only affect speed are not compared.
SKIPPED_SECTIONS = (
    *("run_dir", "runs_dir", "resume_from", "resume_sweep", "from_run"),
    *("logger", "callbacks", "trusted_modules"),
)
RECORDS = ("config.yaml", FAILURE)  # a run that failed early has only the second
SKIPPED_KEYS = (
    *("dataset.root", "dataset.num_workers", "dataset.cache_gb", "trainer.enable_progress_bar"),
    "log_every_epochs",
)


@dataclass(frozen=True)
class RunRecord:
    """One scored run.

    Attributes:
        choices: Its configuration, flattened: `optimizer.lr`, `model._target_` and so on.
        named: Choice in each config group: `loss` is `dice`.
        protocol: Properties that must be equal for scores to be comparable, by name.
        groups: The tile or scene of each scored image.
        matrices: Confusion matrices (N, K, K) of the images, in the order of `groups`.
        parameters: Number of parameters of the network.
        minutes: Training time.
        speed: Megapixels per second while scoring.
    """

    path: Path
    choices: Mapping[str, Any]
    named: Mapping[str, str]
    seed: int
    class_names: tuple[str, ...]
    scores: Mapping[str, float]
    protocol: Mapping[str, str]
    groups: tuple[str, ...]
    matrices: np.ndarray
    parameters: int | None
    minutes: float | None
    speed: float | None

    @property
    def identity(self) -> str:
        """Key that is the same for repetitions of a run."""
        return repr(
            (self.seed, sorted(self.choices.items()), sorted(self.named.items()), sorted(self.protocol.items()))
        )


def find_runs(patterns: Sequence[str], evaluation: str) -> tuple[list[RunRecord], dict[str, str]]:
    """Read all complete runs in the folders that match the patterns, recursively.

    Args:
        patterns: Paths with wildcards: run folders, sweeps, or folders of these.
        evaluation: The folder in each run's `evaluation/` whose scores are compared, such as `test` or `test_d4`.

    Returns:
        The runs, sorted by path, and the reasons why others were left out.

    Raises:
        RunError: If a pattern matches nothing, or no run can be compared.
    """
    records: list[RunRecord] = []
    left_out: dict[str, str] = {}
    known: dict[str, Path] = {}
    for folder in _folders(patterns):
        record = None
        try:
            reason = _exclusion_reason(folder, evaluation)
            record = None if reason else read_run(folder, evaluation)
        except RunError as error:
            reason = str(error)
        if record is not None:
            same = known.setdefault(record.identity, folder)
            reason = None if same == folder else f"the same configuration and seed as {same}"
        if reason:
            left_out[str(folder)] = reason
        elif record is not None:
            records.append(record)
    if not records:
        why = "; ".join(sorted(set(left_out.values()))) or "there is no run"
        raise RunError(f"runs={','.join(patterns)}: no run can be compared ({why}).")
    return records, left_out


def default_evaluation(patterns: Sequence[str]) -> str:
    """Return the default evaluation to compare: `test`, or `val` if no run has scores on `test`.

    Raises:
        RunError: If a pattern matches nothing.
    """
    folders = _folders(patterns)
    return usual_split([s for s in SPLITS if any((f / "evaluation" / s / MATRICES).is_file() for f in folders)])


def _folders(patterns: Sequence[str]) -> list[Path]:
    found: set[Path] = set()
    for pattern in patterns:
        found |= {p.parent.resolve() for place in find_paths(pattern) for name in RECORDS for p in place.rglob(name)}
    return sorted(folder for folder in found if not is_temporary_folder(folder))


def _exclusion_reason(folder: Path, evaluation: str) -> str | None:
    if not (folder / SUMMARY).is_file():
        failed = (folder / FAILURE).is_file()
        return f"failed: {read_failure(folder)['message']}" if failed else "not complete"
    if not (folder / "evaluation" / evaluation / MATRICES).is_file():
        split = evaluation.partition("_")[0]
        command = f"python -m satseg.evaluate checkpoint={shlex.quote(str(folder))} split={split}"
        return f"it has no evaluation/{evaluation}: score it with {command}"
    return None


def read_run(folder: Path, evaluation: str) -> RunRecord:
    """Read the record of a run.

    Raises:
        RunError: If a part of it is missing or corrupt.
    """
    try:
        return _read_run(folder, evaluation)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise RecordError(f"{folder} is not a valid run record ({type(error).__name__}: {error})") from error


def _read_run(folder: Path, evaluation: str) -> RunRecord:
    scores_dir = folder / "evaluation" / evaluation
    config = read_record(folder / "config.yaml")
    summary, data = read_summary(folder), read_fields(folder / "data.json", {"class_pixels": dict}, MAX_LISTING_BYTES)
    scored = read_fields(scores_dir / "scores.json", {"split": str, "scores": dict, "protocol": dict})
    names, groups, matrices = read_matrices(scores_dir / MATRICES)
    class_names = tuple(data["class_pixels"])
    seconds = summary.get("training_seconds")
    flat = dict(_flat(config))
    seed = int(flat.pop("seed"))
    return RunRecord(
        path=folder,
        choices={
            k: v for k, v in flat.items() if k.partition(".")[0] not in SKIPPED_SECTIONS and k not in SKIPPED_KEYS
        },
        named=read_json(folder / CHOICES) if (folder / CHOICES).is_file() else {},
        seed=seed,
        class_names=class_names,
        scores={k: float("nan") if v is None else float(v) for k, v in scored["scores"].items()},
        protocol=_protocol(scored, class_names, names, groups, matrices),
        groups=tuple(groups),
        matrices=matrices,
        parameters=summary.get("parameters"),
        minutes=None if seconds is None else seconds / 60,
        speed=read_json(scores_dir / TIMING).get("megapixels_per_second"),
    )


def _protocol(
    scored: Mapping[str, Any],
    class_names: Sequence[str],
    names: Sequence[str],
    groups: Sequence[str],
    matrices: np.ndarray,
) -> dict[str, str]:
    """Return the properties that must be equal: scoring options, and a hash of the images and their true classes."""
    options = {k: str(scored["protocol"].get(k, "none")) for k in ("tta", "ignore_edges", "windows")}
    truth = np.ascontiguousarray(matrices.sum(2)).tobytes()
    images = hashlib.sha256("\0".join([*names, *groups]).encode() + truth).hexdigest()[:12]
    return {
        "classes": ", ".join(class_names),
        "images": f"{len(names)} of split {scored['split']} ({images})",
        **options,
    }


def _flat(config: Any, prefix: str = "") -> Iterable[tuple[str, Any]]:
    if not isinstance(config, dict) or not config:
        yield prefix, tuple(config) if isinstance(config, list) else str(config) if config == {} else config
        return
    for key, value in config.items():
        yield from _flat(value, f"{prefix}.{key}" if prefix else str(key))
