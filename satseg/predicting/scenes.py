"""Segmenting the scenes that `input=` names, one by one, past those that are broken."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path

import rasterio
from omegaconf import DictConfig, OmegaConf
from tqdm import tqdm

from satseg import ending
from satseg.data.inputs import find_inputs, name_of
from satseg.data.opening import CACHE_BYTES
from satseg.data.raster import parse_window, read_info
from satseg.devices import enough_memory
from satseg.inference.coding import Coding, class_numbers, mask_numbers
from satseg.inference.identity import scene_identity
from satseg.inference.pipeline import Stopwatch
from satseg.inference.plans import ScenePlan, plan_scene
from satseg.inference.preflight import settle, source_in
from satseg.inference.products import Product, products_of
from satseg.inference.reading import SceneSource
from satseg.inference.scene import MakeStrips, SceneTask, predict_scene
from satseg.inference.strips import StripMaker
from satseg.locks import alone_at
from satseg.mapping import ClassArea, class_areas, write_areas, write_vectors
from satseg.predicting.models import Models
from satseg.predicting.outcomes import Outcome, tell
from satseg.predicting.outputs import check_paths, extra_paths, map_paths
from satseg.progress import Progress
from satseg.runconfig import recorded_bands

ADVICE = "Set a smaller window_size or batch_size, or device=cpu."
WINDOW = {False: 1536, True: 1024}  # pixels of a side: larger ones see less twice, but on a GPU several go at a time


def predict_scenes(cfg: DictConfig, models: Models) -> list[Outcome]:
    """Segment every scene of `input=`.

    Args:
        cfg: The composed configuration of `satseg.predict`.
        models: Loaded.

    Returns:
        An outcome a scene, failed ones too; an error of a single scene is raised instead.

    Raises:
        ConfigError: If an option cannot be used.
    """
    named = OmegaConf.to_container(cfg.input, resolve=True) if OmegaConf.is_config(cfg.input) else cfg.input
    scenes = find_inputs(named, cfg.nodata, models.spec.inputs[0].nodata)
    folder = Path(cfg.output) if cfg.output else models.folder(Path(cfg.runs_dir)) / "predictions"
    outputs = map_paths(folder, scenes)
    check_paths(cfg, scenes, outputs, products_for(cfg, models))
    tell(coding_for(cfg, models).remarks)
    if cfg.executor == "local":
        if len(scenes) == 1:
            return [_predict(cfg, models, scenes[0], outputs[0])]
        return [predict_or_tell(cfg, models, *job) for job in zip(scenes, outputs, strict=True)]
    from satseg.predicting.cluster import cluster

    with cluster(cfg, models) as workers:
        if len(scenes) == 1:
            return [_predict(cfg, models, scenes[0], outputs[0], partial(workers.strips, scenes[0]))]
        return list(workers.scenes(scenes, outputs))


def predict_or_tell(cfg: DictConfig, models: Models, scene: str | Path, output: Path) -> Outcome:
    """Segment a scene; what is wrong with it is told, and part of the outcome: the others go on."""
    try:
        return _predict(cfg, models, scene, output)
    except Exception as error:
        ending.check()  # which it may come from
        message = f"{type(error).__name__}: {' '.join(str(error).split())}"
        print(message, file=sys.stderr)
        return Outcome(name_of(scene), (), 0, Stopwatch(), error=message)


def _predict(
    cfg: DictConfig, models: Models, scene: str | Path, output: Path, strips: MakeStrips | None = None
) -> Outcome:
    source = source_of(cfg, models, scene)
    warnings = settle(models.inspect(source), cfg.preflight)
    tell(warnings)
    if cfg.progress:  # the engine, which is opened or chosen first, may take a minute
        print(f"Mapping {name_of(scene)}: {source.info.width} x {source.info.height} pixels", file=sys.stderr)
    task = task_of(cfg, models, source, output)
    watch, start = Stopwatch(), time.perf_counter()
    pixels = source.info.height * source.info.width
    late: list[str] = []
    with alone_at(output):
        with _bar(cfg.progress, name_of(scene), pixels) as progress, enough_memory(ADVICE):
            files = predict_scene(task, progress, watch, strips)
        areas = _extras(cfg, models, source, output, late)
    extras = extra_paths(cfg, output)
    tell(late)
    watch.seconds["all"] = time.perf_counter() - start
    files += extras.values()
    return Outcome(name_of(scene), files, pixels, watch, [*warnings, *late], "", areas, extras.get("vectors"))


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
    return products_of(models.spec, coding=coding_for(cfg, models), **choices)


def coding_for(cfg: DictConfig, models: Models) -> Coding:
    """Return which number of the map stands for which class."""
    if cfg.map_values == "class":
        return class_numbers(models.spec)
    return mask_numbers([network.spec for network in models.networks], [str(path) for path in models.checkpoints])


def source_of(cfg: DictConfig, models: Models, scene: str | Path, driver: str | None = None) -> SceneSource:
    """Return a scene as the options say that it is read; `driver` as for `open_raster`."""
    recorded = _recorded_bands(models.checkpoints[0], tuple(cfg.trusted_modules))
    return source_in(cfg, read_info(scene, driver), models.spec.inputs[0], recorded, parse_window(cfg.window))


@lru_cache
def _recorded_bands(checkpoint: Path, trusted_modules: tuple[str, ...]) -> list[int] | None:
    """Return what a run's record says; it is read once, as a server asks for every image."""
    return recorded_bands(checkpoint, trusted_modules)


def _extras(cfg: DictConfig, models: Models, source: SceneSource, output: Path, warnings: list[str]) -> list[ClassArea]:
    """Write what is made of a finished map: a picture, areas, polygons; what is to be said of it joins the warnings.

    Returns:
        The areas, where they are asked for.
    """
    paths, spec, areas = extra_paths(cfg, output), models.spec, list[ClassArea]()
    with rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES):
        if "preview" in paths:
            from satseg.predicting.preview import write_preview  # it brings what draws, and what scores

            write_preview(name_of(source.info.path), source, output, spec, paths["preview"])
        if "areas" in paths:
            areas = class_areas(output, spec.class_names)
            write_areas(areas, paths["areas"])
        if "vectors" in paths:
            limits = {"min_area_m2": cfg.min_area_m2, "simplify_m": cfg.simplify_m}
            with alone_at(paths["vectors"]):  # which may lie elsewhere, and be another map's, too
                write_vectors(output, paths["vectors"], spec.class_names, **limits, warn=warnings.append)
    return areas


@contextmanager
def _bar(wanted: bool, name: str, pixels: int) -> Iterator[Callable[[int], None]]:
    """Show megapixels a second and the time that is left: a bar, or a line a minute where there is no terminal."""
    if wanted and not sys.stderr.isatty():
        lines = Progress(name, pixels / 1e6, "Mpx")
        yield lambda finished: lines.add(finished / 1e6)
        return
    form = "{desc}: {percentage:3.0f} % of {total:.4g} Mpx, {rate_noinv_fmt}, {remaining} left"
    with tqdm(total=pixels / 1e6, desc=name, unit="Mpx", bar_format=form, disable=not wanted) as bar:

        def finished(pixels: int) -> None:
            bar.update(pixels / 1e6)

        yield finished
