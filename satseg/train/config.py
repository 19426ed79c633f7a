"""Preparing the composed configuration: checked, with absolute paths, or taken from an earlier run."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from satseg.data.layouts.recognition import recognise_options
from satseg.errors import ConfigError, ModelError, RecordError
from satseg.models.catalogue import BACKBONES, MODELS
from satseg.models.encoders import PREFIX, is_known, unknown_backbone_message, with_prefix
from satseg.ranks import broadcast_result, is_rank_zero
from satseg.records.config import check_classes, read_config
from satseg.records.slots import USER_KEYS
from satseg.runs import find_complete, find_unfinished
from satseg.runs.renamed import read_record
from satseg.train.loss_config import imply_partial

NAME = re.compile(r"\w{1,40}")  # loggers and options that are safe to print
ENCODER_KEYS = ("backbone.encoder_name", "model.encoder_name")
# Options of a model, and the options of the backbone that they come from.
BACKBONE_OPTIONS = {"encoder_name": "encoder_name", "encoder_weights": "weights", "encoder_adapt": "adapt"}
DATA_PATHS = ("dataset.root", "backbone.weights", "init_from")


def prepare_config(cfg: DictConfig) -> DictConfig:
    """Return the configuration of the run, with absolute paths.

    With `resume_from` or `from_run` it is that run's record; further options replace single values.
    """
    if cfg.resume_sweep is not None and HydraConfig.get().mode != RunMode.MULTIRUN:
        raise ConfigError("resume_sweep= resumes a sweep: add -m and the options that it was started with.")
    if cfg.resume_from is not None and cfg.from_run is not None:
        raise ConfigError("resume_from= resumes a run and from_run= repeats one: give one of them.")
    if cfg.resume_from is not None:
        # All ranks must know the run before rank zero locks it.
        path = broadcast_result(lambda: find_unfinished(cfg.resume_from, Path(cfg.runs_dir)))
        cfg = _recorded(cfg, path, "while resuming", "To start a new run from its weights, use init_from= instead.")
        cfg.resume_from = str(path)
    elif cfg.from_run is not None:
        path, folder = find_complete(cfg.from_run, Path(cfg.runs_dir)), cfg.run_dir
        cfg = _recorded(cfg, path, "while repeating", "To change more, start a new run.")
        cfg.from_run, cfg.run_dir, cfg.resume_from = str(path.resolve()), folder, None
    _resolve_encoder_name(cfg)
    imply_partial(cfg.loss)
    for key in DATA_PATHS:
        value = OmegaConf.select(cfg, key)
        if isinstance(value, str) and Path(value).exists():
            OmegaConf.update(cfg, key, str(Path(value).resolve()))
    return cfg


def recognise_data(cfg: DictConfig) -> list[str]:
    """Fill in the dataset options that are recognised from its folder; changes the configuration in place.

    Returns:
        A sentence for each recognised option; none if all are given.

    Raises:
        SatsegError: If no layout is recognised, or two fit equally well.
    """
    options, sentences = recognise_options(cast(dict[str, Any], OmegaConf.to_container(cfg.dataset, resolve=True)))
    for name, value in options.items():
        OmegaConf.update(cfg.dataset, name, value, merge=False, force_add=True)
    return sentences


def _is_given(*keys: str) -> bool:
    """Return True if the command line sets one of the options."""
    overrides = OverridesParser.create().parse_overrides(list(HydraConfig.get().overrides.task))
    return any(override.key_or_group in keys for override in overrides)


def _resolve_encoder_name(cfg: DictConfig) -> None:
    """Accept plain timm names for the backbone; recorded names are left unchanged.

    Raises:
        ModelError: If the backbone is unknown; suggests similar names.
    """
    if (cfg.resume_from is None and cfg.from_run is None) or _is_given(*ENCODER_KEYS):
        for group in ("backbone", "model"):
            node = cfg[group]
            if "encoder_name" not in node or OmegaConf.is_interpolation(node, "encoder_name"):
                continue
            if isinstance(node.encoder_name, str):
                node.encoder_name = with_prefix(node.encoder_name)
        if cfg.model.get("_target_") in MODELS.values() and not is_known(encoder := str(cfg.model.encoder_name)):
            raise ModelError(unknown_backbone_message(encoder))  # before images are read


def _link_backbone(recorded: DictConfig) -> None:
    """Restore the interpolations that link a recorded model to its backbone's options."""
    model, backbone = recorded.get("model"), recorded.get("backbone")
    if not (OmegaConf.is_dict(model) and OmegaConf.is_dict(backbone)):
        return
    for name, source in BACKBONE_OPTIONS.items():
        if name in model and source in backbone and model[name] == backbone[source]:
            model[name] = f"${{backbone.{source}}}"


def backbone_name(cfg: DictConfig) -> str:
    """Return the backbone's name in timm, or in SMP."""
    encoder = OmegaConf.select(cfg, "model.encoder_name") or cfg.backbone.encoder_name
    return str(encoder).removeprefix(PREFIX)


def _recorded(cfg: DictConfig, path: Path, doing: str, advice: str) -> DictConfig:
    """Return a run's recorded configuration, with single values replaced by those of the command line."""
    recorded = read_config(path, cfg.trusted_modules)
    for group in ("dataset", "augmentation", "loss", "trainer", "callbacks"):
        check_classes(recorded.get(group), group, path / "config.yaml")
    for key, value in cfg.items():  # options that only users may set, or that earlier versions did not record
        if key not in recorded and OmegaConf.is_dict(value) and key != "logger":
            raise RecordError(f"{path / 'config.yaml'} has no {key!s}: it is not the record of a run.")
        recorded.setdefault(key, value)
    _link_backbone(recorded)
    for override in OverridesParser.create().parse_overrides(list(HydraConfig.get().overrides.task)):
        key = override.key_or_group
        if key.partition(".")[0] in (*USER_KEYS, "from_run"):
            continue
        parent, _, name = key.rpartition(".")
        section = OmegaConf.select(recorded, parent) if parent else recorded
        if section is None or name not in section or OmegaConf.is_config(section[name]):
            raise ConfigError(
                f"{key}= cannot be changed {doing} {path}; only single values such as trainer.max_epochs can. {advice}"
            )
        OmegaConf.update(recorded, key, override.value())
    _print_dropped_options(recorded, path)
    return recorded


def _print_dropped_options(recorded: DictConfig, path: Path) -> None:
    """Print which recorded loggers and trainer options are dropped, because only the user may choose them."""
    if not is_rank_zero():
        return
    before = read_record(path / "config.yaml")
    loggers, options = (before[key] if isinstance(before.get(key), dict) else {} for key in ("logger", "trainer"))
    names = [str(name) for name in loggers if NAME.fullmatch(str(name)) and name not in (recorded.logger or {})]
    if names:
        wanted = names[0] if len(names) == 1 else f"'[{','.join(names)}]'"
        print(f"{path} logged to {', '.join(names)}; to continue logging, add logger={wanted}.", file=sys.stderr)
    left_out = [str(name) for name in options if NAME.fullmatch(str(name)) and name not in recorded.trainer]
    if left_out:
        print(
            f"{path}: trainer.{', trainer.'.join(left_out)} ignored, because a record may not set it.", file=sys.stderr
        )


def run_name(choices: Mapping[str, str]) -> str:
    """Return a short name for the run folder: the experiment, or dataset, model and backbone."""
    experiment = HydraConfig.get().runtime.choices.get("experiment")
    if experiment and experiment != "null":
        return str(experiment)
    return "_".join(choices.get(group, group) for group in ("dataset", "model", "backbone"))


def with_backbone(choices: Mapping[str, str], cfg: DictConfig) -> dict[str, str]:
    """Return the choices with the name of the backbone in use, where it is not that of the chosen file."""
    chosen, name = choices.get("backbone", ""), backbone_name(cfg)
    is_another = chosen in BACKBONES and name != chosen  # satseg's backbone files are named after their backbones
    return {**choices, "backbone": name if is_another or _is_given(*ENCODER_KEYS) else chosen}


def config_choices() -> dict[str, str]:
    """Return the chosen file of each config group that describes the model and its data."""
    choices = HydraConfig.get().runtime.choices
    excluded = ("hydra/", "experiment", "sweep", "trainer", "logger", "callbacks")
    return {str(k): str(v) for k, v in choices.items() if not str(k).startswith(excluded)}
