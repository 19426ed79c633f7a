"""One scene from its file to its map, and what else is made of it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import rasterio
from omegaconf import DictConfig
from tqdm import tqdm

from satseg import signals
from satseg.data.rasters.inputs import source_name
from satseg.data.rasters.opening import CACHE_BYTES
from satseg.devices import out_of_memory_advice
from satseg.inference.pipeline import Stopwatch
from satseg.inference.preflight import resolve_findings
from satseg.inference.reading import SceneSource
from satseg.inference.scene import MakeStrips, predict_scene
from satseg.locks import output_lock
from satseg.mapping import ClassArea, class_areas, write_areas, write_vectors
from satseg.predict.assemble import source_of, task_of
from satseg.predict.models import Models
from satseg.predict.outcomes import Outcome, tell
from satseg.predict.outputs import extra_paths
from satseg.progress import Progress

ADVICE = "Set a smaller window_size or batch_size, or device=cpu."


def predict_or_tell(cfg: DictConfig, models: Models, scene: str | Path, output: Path) -> Outcome:
    """Segment a scene; what is wrong with it is told, and part of the outcome: the others go on."""
    try:
        return _predict(cfg, models, scene, output)
    except Exception as error:
        signals.check()  # which it may come from
        message = f"{type(error).__name__}: {' '.join(str(error).split())}"
        print(message, file=sys.stderr)
        return Outcome(source_name(scene), (), 0, Stopwatch(), error=message)


def _predict(
    cfg: DictConfig, models: Models, scene: str | Path, output: Path, strips: MakeStrips | None = None
) -> Outcome:
    source = source_of(cfg, models, scene)
    warnings = resolve_findings(models.inspect(source), cfg.preflight)
    tell(warnings)
    if cfg.progress:  # the engine, which is opened or chosen first, may take a minute
        print(f"Mapping {source_name(scene)}: {source.info.width} x {source.info.height} pixels", file=sys.stderr)
    task = task_of(cfg, models, source, output)
    watch, start = Stopwatch(), time.perf_counter()
    pixels = source.info.height * source.info.width
    late: list[str] = []
    with output_lock(output):
        with _bar(cfg.progress, source_name(scene), pixels) as progress, out_of_memory_advice(ADVICE):
            files = predict_scene(task, progress, watch, strips)
        areas = _extras(cfg, models, source, output, late)
    extras = extra_paths(cfg, output)
    tell(late)
    watch.seconds["all"] = time.perf_counter() - start
    files += extras.values()
    return Outcome(source_name(scene), files, pixels, watch, [*warnings, *late], "", areas, extras.get("vectors"))


def _extras(cfg: DictConfig, models: Models, source: SceneSource, output: Path, warnings: list[str]) -> list[ClassArea]:
    """Write what is made of a finished map: a picture, areas, polygons; what is to be said of it joins the warnings.

    Returns:
        The areas, where they are asked for.
    """
    paths, spec, areas = extra_paths(cfg, output), models.spec, list[ClassArea]()
    with rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES):
        if "preview" in paths:
            from satseg.predict.preview import write_preview  # it brings what draws, and what scores

            write_preview(source_name(source.info.path), source, output, spec, paths["preview"])
        if "areas" in paths:
            areas = class_areas(output, spec.class_names)
            write_areas(areas, paths["areas"])
        if "vectors" in paths:
            limits = {"min_area_m2": cfg.min_area_m2, "simplify_m": cfg.simplify_m}
            with output_lock(paths["vectors"]):  # which may lie elsewhere, and be another map's, too
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
