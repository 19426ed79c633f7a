"""Records of what a run depends on, configuration, environment and data, and their differences between runs."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from omegaconf import DictConfig, OmegaConf

from satseg.data import SegmentationDataModule
from satseg.environment import environment
from satseg.errors import (
    ConfigError,
)
from satseg.files import write_json, write_text
from satseg.records.facts import read_data, read_environment
from satseg.runs import DATA, Run, clear_first_epoch
from satseg.train import dashboards
from satseg.train.assessment import write_findings
from satseg.train.task import SegmentationTask
from satseg.validate.findings import Finding

logger = logging.getLogger(__name__)

HARDWARE = ("python", "platform", "processor", "cores", "threads", "gpus")
MAX_FILES = 5  # listed by name
MAX_CHARACTERS = 100  # shown of a value


def check_same_data(run: Run, datamodule: SegmentationDataModule) -> None:
    """Raise ConfigError if images or masks differ from those that the run began with."""
    now = {"fingerprint": datamodule.fingerprint, "digests": datamodule.digests()}
    if found := data_differences(read_data(run.path), now):
        raise ConfigError(
            f"resume_from={run.path}: the data has changed since the run began ({'; '.join(found)}). Restore it, "
            f"or start a new run from its weights with init_from={run.path}."
        )


def record_run(
    cfg: DictConfig,
    run: Run,
    datamodule: SegmentationDataModule,
    trainer: pl.Trainer,
    task: SegmentationTask,
    findings: Sequence[Finding],
) -> None:
    """Record the run's inputs; when resuming, only once the callbacks have accepted the new options."""

    @cache
    def record() -> None:
        _write_record(cfg, run, datamodule, trainer, task)
        write_findings(run.path, findings)

    if run.resume_path is None:
        clear_first_epoch(run)
        record()
        return
    accepted = pl.callbacks.LambdaCallback(
        on_train_start=lambda *_: record(),
        on_fit_end=lambda *_: record(),  # if nothing was left to train
    )
    trainer.callbacks.append(accepted)  # type: ignore[attr-defined]


def _write_record(
    cfg: DictConfig, run: Run, datamodule: SegmentationDataModule, trainer: pl.Trainer, task: SegmentationTask
) -> None:
    write_text(run.path / "config.yaml", OmegaConf.to_yaml(cfg, resolve=True))
    device = {"device": trainer.strategy.root_device.type, "num_devices": trainer.world_size}
    write_json(run.path / "environment.json", environment() | device)
    data: dict[str, Any] = {"fingerprint": datamodule.fingerprint, "assumptions": datamodule.assumptions}
    data["class_pixels"] = dict(zip(datamodule.spec.class_names, datamodule.class_counts.tolist(), strict=True))
    write_json(
        run.path / DATA,
        data | datamodule.manifest() | {"digests": datamodule.digests(), "spec": datamodule.spec.to_dict()},
    )
    if cfg.from_run is not None:
        for line in differences(Path(cfg.from_run), run.path):
            logger.warning("Differs from %s: %s", Path(cfg.from_run).name, line)
    dashboards.publish_settings(trainer.loggers, cfg, run, task.network)


def differences(earlier: Path, now: Path) -> list[str]:
    """Compare the records of two runs; return a line per difference in data, code, versions and hardware."""
    data = data_differences(read_data(earlier), read_data(now))
    return [f"data: {line}" for line in data] + _environment(read_environment(earlier), read_environment(now))


def data_differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Compare the records of two datasets; return a line per kind of difference in images or masks."""
    if old["fingerprint"] == new["fingerprint"]:
        return []
    if "digests" not in old:
        return ["the files are not the same"]
    lines = _files("changed", [n for n, d in new["digests"].items() if old["digests"].get(n, d) != d])
    lines += _files("gone", sorted(old["digests"].keys() - new["digests"].keys()))
    lines += _files("new", sorted(new["digests"].keys() - old["digests"].keys()))
    return lines or ["the splits contain other images"]


def _files(change: str, names: Sequence[str]) -> list[str]:
    if not names:
        return []
    more = f" and {len(names) - MAX_FILES} more" if len(names) > MAX_FILES else ""
    return [f"{change}: {', '.join(map(_shown, names[:MAX_FILES]))}{more}"]


def _environment(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    lines = [f"{key}: {_shown(old.get(key))} then, {new[key]} now" for key in HARDWARE if old.get(key) != new[key]]
    versions = sorted(old["packages"].keys() | new["packages"].keys())
    lines += [
        f"{_shown(name)}: {_shown(old['packages'].get(name))} then, {new['packages'].get(name)} now"
        for name in versions
        if old["packages"].get(name) != new["packages"].get(name)
    ]
    return lines + _code(old.get("git") or {}, new.get("git") or {})


def _code(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    lines = []
    if old.get("commit") != new.get("commit"):
        lines.append(f"code: commit {_shown(old.get('commit'))} then, {new.get('commit')} now")
    if old.get("changed_files") or new.get("changed_files"):
        lines.append("code: there were uncommitted changes, then or now")
    return lines


def _shown(value: Any) -> str:
    """Return a recorded value as text for the terminal: short, without control characters."""
    return "".join(c if c.isprintable() else "?" for c in str(value)[:MAX_CHARACTERS])
