"""Prediction of all scenes of `input=`, skipping those that fail, and the files that combine them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from satseg.cli.checks import check_values
from satseg.data.rasters.inputs import find_inputs
from satseg.inference.averaging import views
from satseg.inference.windows import check_windows
from satseg.locks import output_lock
from satseg.mapping import join_layers, write_all_areas
from satseg.predict.assemble import coding_for, products_for
from satseg.predict.models import Models
from satseg.predict.one_scene import predict_one, predict_or_report
from satseg.predict.outcomes import Outcome, print_warnings
from satseg.predict.output_paths import check_paths, combined_paths, map_paths


def check_options(cfg: DictConfig) -> None:
    """Check the options that do not depend on a scene.

    Raises:
        ConfigError: If an option is invalid; names its value and the expected ones.
    """
    check_values(cfg)
    views(cfg.tta)
    check_windows(1536 if cfg.window_size == "auto" else cfg.window_size, cfg.overlap)


def predict_scenes(cfg: DictConfig, models: Models) -> list[Outcome]:
    """Segment every scene of `input=`.

    Args:
        cfg: The composed configuration of `satseg.predict`.
        models: Loaded models.

    Returns:
        An outcome per scene, also for failures; with a single scene, its error is raised instead.

    Raises:
        ConfigError: If an option is invalid.
    """
    named = OmegaConf.to_container(cfg.input, resolve=True) if OmegaConf.is_config(cfg.input) else cfg.input
    scenes = find_inputs(named, cfg.nodata, models.spec.inputs[0].nodata)
    folder = Path(cfg.output) if cfg.output else models.folder(Path(cfg.runs_dir)) / "predictions"
    outputs = map_paths(folder, scenes)
    check_paths(cfg, scenes, outputs, products_for(cfg, models))
    print_warnings(coding_for(cfg, models).remarks)
    if cfg.executor == "local":
        if len(scenes) == 1:
            return [predict_one(cfg, models, scenes[0], outputs[0])]
        return [predict_or_report(cfg, models, *job) for job in zip(scenes, outputs, strict=True)]
    from satseg.predict.cluster import cluster

    with cluster(cfg, models) as workers:
        if len(scenes) == 1:
            return [predict_one(cfg, models, scenes[0], outputs[0], partial(workers.strips, scenes[0]))]
        return list(workers.scenes(scenes, outputs))


def write_combined(cfg: DictConfig, outcomes: Sequence[Outcome]) -> list[str]:
    """Write the combined files of all scenes.

    Args:
        cfg: The composed configuration of `satseg.predict`.
        outcomes: Outcomes of all scenes; failed ones are left out, with a warning.

    Returns:
        A line per file, for the user.

    Raises:
        ResourceError: If a file cannot be written.
        InUseError: If another process writes the same file.
    """
    made = [outcome for outcome in outcomes if not outcome.error]
    paths = combined_paths(cfg, made[0].files[0].parent, len(outcomes)) if made else {}
    lines = []
    for kind, path in paths.items():
        with output_lock(path):
            if kind == "areas":
                write_all_areas({outcome.files[0].stem: outcome.areas for outcome in made}, path)
                lines.append(f"Areas of {len(made)} scenes: {path}")
            else:
                files = {outcome.files[0].stem: (outcome.vectors, outcome.files[0]) for outcome in made}
                counts = join_layers({name: (own, map_) for name, (own, map_) in files.items() if own}, path)
                layers = "" if len(counts) == 1 else f" in {len(counts)} layers, one per CRS"
                lines.append(f"Polygons of {len(made)} scenes: {path} ({sum(counts.values())}{layers})")
        if len(made) < len(outcomes):
            print(f"Warning: {path} is missing {len(outcomes) - len(made)} of {len(outcomes)} scenes.", file=sys.stderr)
    return lines
