"""Checks of a command's options before heavy imports: choices, numbers and missing files.

An option means the same in every command, so rules depend only on its name.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from satseg.data.loading_options import FOLDER
from satseg.errors import BackboneWeightsError, ConfigError, RunError
from satseg.ranks import world_size
from satseg.runs import AUTO, find_complete, find_paths, find_unfinished, model_path
from satseg.runs.finding import check_named

CHOICES = {
    "dataset.channels": ("rgb", "multispectral"),
    "dataset.unpaired": ("refuse", "leave_out"),
    "engine": ("auto", "torch", "onnx", "openvino", "openvino_int8"),
    "executor": ("local", "ray"),
    "format": ("onnx", "torchscript", "openvino", "safetensors", "pth"),
    "method": (None, "gradcam", "hirescam", "integrated_gradients", "occlusion"),
    "map_values": ("class", "mask"),
    "overviews": ("nearest", "mode"),
    "preflight": ("stop", "warn"),
    "probabilities": ("none", "top", "all"),
    "probability_dtype": ("uint8", "float32"),
    "scale_lr": ("none", "linear", "sqrt"),
    "scenes": ("auto", "together", "single"),
    "split": (None, "train", "val", "test"),
    "tta": ("none", "flips", "d4"),
}
MISSING_HINTS = {  # appended to the error about an option without a value
    "dataset.split.pattern": (
        "; it is a regular expression searched in the samples' names, and what its parentheses match is the group, "
        "such as north in north_12 by 'dataset.split.pattern=\"([a-z]+)_\"'"
    )
}
VECTOR_SUFFIXES = (".gpkg", ".geojson", ".fgb")
SIZES = ("patch_size", "batch_size", "patches_per_epoch", "num_workers")  # options of all datasets in satseg
SYNTHETIC = "satseg.data.synthetic.datamodule.SyntheticDataModule"


@dataclass(frozen=True)
class NumberRule:
    """Rule for a numeric option.

    Attributes:
        expected: Description of allowed values.
        fits: Returns True for allowed numbers.
        none: Whether null is allowed.
        finite: Whether infinity and NaN are rejected.
    """

    expected: str
    fits: Callable[[float], bool] = lambda number: True
    none: bool = False
    finite: bool = True


def _whole(number: float) -> bool:
    return isinstance(number, int) and number >= 1


NUMBERS = {
    "batch_size": NumberRule("a whole number of 1 or more", _whole, none=True),
    "gsd_m": NumberRule("metres above 0", lambda number: number > 0, none=True),
    "log_every_epochs": NumberRule("a whole number of 1 or more", _whole),
    "max_ram_gb": NumberRule("a number above 0", lambda number: number > 0),
    "min_area_m2": NumberRule("a number of 0 or more", lambda number: number >= 0),
    "nodata": NumberRule("a number", none=True, finite=False),
    "offset": NumberRule("a number"),
    "scale": NumberRule("a number other than 0", lambda number: number != 0),
    "seed": NumberRule(f"a whole number from 0 to {2**32 - 1}", lambda number: number in range(2**32)),
    "simplify_m": NumberRule("a number of 0 or more", lambda number: number >= 0),
    "workers": NumberRule("a whole number of 1 or more", _whole, none=True),
}


def check(cfg: DictConfig, command: str) -> None:
    """Check the options of a command.

    Args:
        cfg: The composed configuration.
        command: Name of the command.

    Raises:
        SatsegError: If an option is invalid or a file is missing; names the option and what was expected.
    """
    check_missing(cfg)
    check_values(cfg)
    check_dataset(cfg)
    check_runs(cfg, command)
    check_input(cfg)


def check_missing(cfg: DictConfig) -> None:
    """Check that all options without a default are set.

    Raises:
        ConfigError: If one is not; names it.
    """
    missing = sorted(OmegaConf.missing_keys(cfg))
    if missing:
        raise ConfigError(
            f"{missing[0]}= has no default: give it on the command line{MISSING_HINTS.get(missing[0], '')}."
        )


def check_values(cfg: DictConfig) -> None:
    """Check choices and ranges of numbers, for the options that the command has.

    Raises:
        ConfigError: If one is invalid; names the option, its value and what was expected.
    """
    for key, choices in CHOICES.items():
        value = OmegaConf.select(cfg, key, default=choices[0])
        if value not in choices and not (key.startswith("dataset.") and _is_custom_dataset(cfg)):
            raise ConfigError(f"{key}={value}: choose {_joined([str(c) for c in choices if c is not None])}.")
    for key, rule in NUMBERS.items():
        if key in cfg and not _is_allowed(cfg[key], rule):
            raise ConfigError(f"{key}={cfg[key]}: expected {rule.expected}.")
    bands = cfg.get("bands")
    if bands is not None and not (
        OmegaConf.is_list(bands) and bands and all(type(number) is int and number >= 1 for number in bands)
    ):
        raise ConfigError(f"bands={bands}: expected one-based numbers, such as [3,2,1].")
    if cfg.get("window") is not None:
        from satseg.data.rasters.header import parse_window

        parse_window(cfg.window)
    check_vectors(cfg.get("vectors"))


def check_vectors(vectors: Any) -> None:
    """Check the format of polygon files.

    Raises:
        ConfigError: If it is not supported; lists those that are.
    """
    if (
        vectors is not None
        and not is_vector_format(vectors)
        and Path(str(vectors)).suffix.lower() not in VECTOR_SUFFIXES
    ):
        known = ", ".join(suffix.removeprefix(".") for suffix in VECTOR_SUFFIXES)
        raise ConfigError(f"vectors={vectors}: choose {known}, or a path that ends in one of them.")


def is_vector_format(vectors: Any) -> bool:
    """Return True if polygons go to a file of this format beside each map, False for a path."""
    return f".{vectors}" in VECTOR_SUFFIXES


def _is_custom_dataset(cfg: DictConfig) -> bool:
    """Return True if the dataset is of the user's own class, with its own options."""
    return OmegaConf.select(cfg, "dataset._target_") not in (FOLDER, SYNTHETIC)


def _joined(choices: list[str]) -> str:
    return " or ".join(choices) if len(choices) == 2 else ", ".join(choices)


def _is_allowed(value: Any, rule: NumberRule) -> bool:
    if value is None:
        return rule.none
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and (math.isfinite(value) or not rule.finite) and rule.fits(value)


def check_dataset(cfg: DictConfig) -> None:
    """Check the folder of a dataset, and its loading options.

    Raises:
        ConfigError: If no folder is given, or an option is invalid.
        DataError: If the folder does not exist.
    """
    dataset = cfg.get("dataset")
    is_recorded = any(cfg.get(key) is not None for key in ("resume_from", "from_run"))
    if not isinstance(dataset, DictConfig) or is_recorded:
        return
    from satseg.data.loading_options import check_numbers, check_options, check_root

    if "_target_" not in dataset and HydraConfig.get().runtime.choices.get("dataset") not in (None, "null"):
        # without a choice, its values override those of the recorded dataset
        raise ConfigError("dataset._target_ is missing: the file of a dataset names its class; see docs/extend.md.")
    target, root = dataset.get("_target_", FOLDER), dataset.get("root")
    if target == FOLDER and not (root is None and "_target_" not in dataset):  # else the recorded root is used
        check_root(root)
    if target in (FOLDER, SYNTHETIC) and "checkpoint" not in cfg:  # with a checkpoint, null is the recorded value
        options: dict[str, Any] = dict.fromkeys((*SIZES, "scale", "offset", "normalisation"), AUTO)
        options |= {"bands": None, "nodata": None}
        options |= cast(dict[str, Any], OmegaConf.to_container(dataset, resolve=True))
        check_options(*(options[key] for key in SIZES))
        check_numbers(*(options[key] for key in ("bands", "nodata", "scale", "offset", "normalisation")))


def check_runs(cfg: DictConfig, command: str) -> None:
    """Check that models, runs and weights exist; models to download are not checked.

    Raises:
        CheckpointError: If a model does not exist.
        ConfigError: If no model is given, or several to a command that takes one.
        RunError: If a run does not exist.
        BackboneWeightsError: If the weights of a backbone do not exist.
    """
    runs_dir = Path(cfg.get("runs_dir") or "runs")
    if "checkpoint" in cfg:
        check_named(cfg.checkpoint, runs_dir, command)
    if cfg.get("init_from") is not None:
        model_path(find_complete(cfg.init_from, runs_dir, verbose=False))
    if cfg.get("resume_from") is not None and world_size() == 1:  # with several processes rank zero decides
        try:
            find_unfinished(cfg.resume_from, runs_dir, verbose=False)
        except RunError:
            find_unfinished(cfg.resume_from, runs_dir)  # now prints which runs are in use
    if cfg.get("from_run") is not None and not (find_complete(cfg.from_run, runs_dir, verbose=False)).is_dir():
        raise RunError(f"{cfg.from_run} is not a run folder: it has no config.yaml.")
    weights = OmegaConf.select(cfg, "backbone.weights", default="none")
    if isinstance(weights, str) and weights not in ("hub", "none") and not Path(weights).is_file():
        raise BackboneWeightsError(
            f"backbone.weights={weights} does not exist; choose hub, none, or the path of a file."
        )
    for pattern in [cfg.runs] if isinstance(cfg.get("runs"), str) else list(cfg.get("runs") or ()):
        find_paths(pattern)
    if cfg.get("map_areas") is not None and not Path(cfg.map_areas).is_file():
        raise ConfigError(
            f"map_areas={cfg.map_areas} does not exist: give a file written by satseg.predict areas=true."
        )


def check_input(cfg: DictConfig) -> None:
    """Check that input images exist; URLs and rasters in containers are checked when they are opened.

    Raises:
        ConfigError: If neither an image nor a split is given, or both are.
        DataError: If an image does not exist.
    """
    if "input" not in cfg:
        return
    if cfg.get("report"):
        check_report(cfg)
    elif "split" in cfg and (cfg.input is None) == (cfg.split is None):
        raise ConfigError("Give input= (a file, a folder or a pattern) or split= (train, val or test), and not both.")
    if "split" in cfg and cfg.split is not None:
        return
    from satseg.data.rasters.inputs import check_inputs

    check_inputs(OmegaConf.to_container(cfg.input, resolve=True) if OmegaConf.is_config(cfg.input) else cfg.input)


def check_report(cfg: DictConfig) -> None:
    """Check the options of a diagnosis report.

    Raises:
        ConfigError: If no split is given, or an option of single images is.
    """
    if cfg.split is None:
        raise ConfigError("report=true needs labels: give a split, split=train, val or test.")
    for key in ("input", "window", "target", "contrast"):
        if cfg[key] is not None:
            raise ConfigError(f"report=true covers a whole split and all its classes: leave out {key}=.")
    for key, value in (("method", None), ("layer", None), ("region", "predicted")):
        if cfg[key] != value:
            raise ConfigError(f"report=true chooses its own regions and maps: leave out {key}=.")
