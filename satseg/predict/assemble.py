"""Building the parts of a prediction from the options: source, windows, products and engines."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from omegaconf import DictConfig

from satseg.data.rasters.header import parse_window, read_info
from satseg.inference.map_values import MapValues, class_indices, training_mask_values
from satseg.inference.preflight import scene_source
from satseg.inference.products import Product, products_of
from satseg.inference.reading import SceneSource
from satseg.inference.scene import SceneTask, scene_identity
from satseg.inference.strips import StripMaker
from satseg.inference.windows import ScenePlan, plan_scene
from satseg.predict.models import Models
from satseg.records.dataset import recorded_bands

# Side in pixels, by is_gpu: larger windows overlap less, but a GPU takes several at a time.
WINDOW = {False: 1536, True: 1024}


def task_of(cfg: DictConfig, models: Models, source: SceneSource, output: Path) -> SceneTask:
    """Return the task that predicts a scene."""
    maker = maker_of(cfg, models, source)  # first, as it opens the engines, which are part of the models' identity
    return SceneTask(maker, output, cfg.overviews, models.identity() | scene_identity(source))


def maker_of(cfg: DictConfig, models: Models, source: SceneSource) -> StripMaker:
    """Return the strip maker of a scene."""
    plan = plan_of(cfg, models, source)
    return StripMaker(models.open(plan.window), source, plan, products_for(cfg, models), int(cfg.max_ram_gb * 1e9))


def plan_of(cfg: DictConfig, models: Models, source: SceneSource) -> ScenePlan:
    """Return the window plan of a scene."""
    window = WINDOW[models.device.type == "cuda"] if cfg.window_size == "auto" else cfg.window_size
    return plan_scene(source.info.height, source.info.width, window=window, overlap=cfg.overlap, blend=cfg.blend)


def products_for(cfg: DictConfig, models: Models) -> tuple[Product, ...]:
    """Return the output rasters of a scene, the map first."""
    choices = {"probabilities": cfg.probabilities, "dtype": cfg.probability_dtype, "entropy": cfg.entropy}
    return products_of(models.spec, map_values=coding_for(cfg, models), **choices)


def coding_for(cfg: DictConfig, models: Models) -> MapValues:
    """Return the mapping between classes and pixel values of the map."""
    if cfg.map_values == "class":
        return class_indices(models.spec)
    return training_mask_values(
        [network.spec for network in models.networks], [str(path) for path in models.checkpoints]
    )


def source_of(cfg: DictConfig, models: Models, scene: str | Path, driver: str | None = None) -> SceneSource:
    """Return a scene with its reading options; `driver` as in `open_raster`."""
    recorded = _recorded_bands(models.checkpoints[0])
    return scene_source(cfg, read_info(scene, driver), models.spec.inputs[0], recorded, parse_window(cfg.window))


@lru_cache
def _recorded_bands(checkpoint: Path) -> list[int] | None:
    """Return the bands in a run's record; cached, as a server needs them for every image."""
    return recorded_bands(checkpoint)
