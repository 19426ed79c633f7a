"""Prediction of all scenes of `input=`, skipping those that fail."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from satseg.data.rasters.inputs import find_inputs
from satseg.predict.assemble import coding_for, products_for
from satseg.predict.models import Models
from satseg.predict.one_scene import predict_one, predict_or_report
from satseg.predict.outcomes import Outcome, print_warnings
from satseg.predict.outputs import check_paths, map_paths


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
