"""What makes a scene's map, put together from the options: source, windows, products and engines."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from omegaconf import DictConfig

from satseg.data.rasters.header import parse_window, read_info
from satseg.inference.map_values import MapValues, class_indices, training_mask_values
from satseg.inference.plans import ScenePlan, plan_scene
from satseg.inference.preflight import scene_source
from satseg.inference.products import Product, products_of
from satseg.inference.reading import SceneSource
from satseg.inference.scene import SceneTask, scene_identity
from satseg.inference.strips import StripMaker
from satseg.predict.models import Models
from satseg.records.dataset import recorded_bands

WINDOW = {False: 1536, True: 1024}  # pixels of a side: larger ones see less twice, but on a GPU several go at a time


def task_of(cfg: DictConfig, models: Models, source: SceneSource, output: Path) -> SceneTask:
    """Return the work that makes a scene's map."""
    maker = maker_of(cfg, models, source)  # first: it opens the engines, which are a part of the models' identity
    return SceneTask(maker, output, cfg.overviews, models.identity() | scene_identity(source))


def maker_of(cfg: DictConfig, models: Models, source: SceneSource) -> StripMaker:
    """Return what computes the strips of a scene."""
    plan = plan_of(cfg, models, source)
    return StripMaker(models.open(plan.window), source, plan, products_for(cfg, models), int(cfg.max_ram_gb * 1e9))


def plan_of(cfg: DictConfig, models: Models, source: SceneSource) -> ScenePlan:
    """Return a scene's windows."""
    window = WINDOW[models.device.type == "cuda"] if cfg.window_size == "auto" else cfg.window_size
    return plan_scene(source.info.height, source.info.width, window=window, overlap=cfg.overlap, blend=cfg.blend)


def products_for(cfg: DictConfig, models: Models) -> tuple[Product, ...]:
    """Return the rasters that are made of a scene, the map first."""
    choices = {"probabilities": cfg.probabilities, "dtype": cfg.probability_dtype, "entropy": cfg.entropy}
    return products_of(models.spec, map_values=coding_for(cfg, models), **choices)


def coding_for(cfg: DictConfig, models: Models) -> MapValues:
    """Return which number of the map stands for which class."""
    if cfg.map_values == "class":
        return class_indices(models.spec)
    return training_mask_values(
        [network.spec for network in models.networks], [str(path) for path in models.checkpoints]
    )


def source_of(cfg: DictConfig, models: Models, scene: str | Path, driver: str | None = None) -> SceneSource:
    """Return a scene as the options say that it is read; `driver` as for `open_raster`."""
    recorded = _recorded_bands(models.checkpoints[0])
    return scene_source(cfg, read_info(scene, driver), models.spec.inputs[0], recorded, parse_window(cfg.window))


@lru_cache
def _recorded_bands(checkpoint: Path) -> list[int] | None:
    """Return what a run's record says; it is read once, as a server asks for every image."""
    return recorded_bands(checkpoint)
