"""Prediction of one scene: its map and the extra files."""

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
from satseg.predict.outcomes import Outcome, print_warnings
from satseg.predict.output_paths import extra_paths
from satseg.progress import Progress

ADVICE = "Set a smaller window_size or batch_size, or device=cpu."


def predict_or_report(cfg: DictConfig, models: Models, scene: str | Path, output: Path) -> Outcome:
    """Segment a scene; errors are printed and part of the outcome, so that other scenes continue."""
    try:
        return predict_one(cfg, models, scene, output)
    except Exception as error:
        signals.check()  # the error may come from a signal
        message = f"{type(error).__name__}: {' '.join(str(error).split())}"
        print(message, file=sys.stderr)
        return Outcome(source_name(scene), (), 0, Stopwatch(), error=message)


def predict_one(
    cfg: DictConfig, models: Models, scene: str | Path, output: Path, strips: MakeStrips | None = None
) -> Outcome:
    """Segment a scene and write its files; errors are raised.

    Args:
        cfg: The configuration of `satseg.predict`.
        models: Loaded models.
        scene: File or URL.
        output: The map.
        strips: Computes the strips elsewhere, such as on a cluster.
    """
    source = source_of(cfg, models, scene)
    warnings = resolve_findings(models.inspect(source), cfg.preflight)
    print_warnings(warnings)
    if cfg.progress:  # opening or choosing the engine may take a minute
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
    print_warnings(late)
    watch.seconds["all"] = time.perf_counter() - start
    files += extras.values()
    return Outcome(source_name(scene), files, pixels, watch, [*warnings, *late], "", areas, extras.get("vectors"))


def _extras(cfg: DictConfig, models: Models, source: SceneSource, output: Path, warnings: list[str]) -> list[ClassArea]:
    """Write the extra files of a finished map: preview, areas, polygons; append to the warnings.

    Returns:
        The areas, if requested.
    """
    paths, spec, areas = extra_paths(cfg, output), models.spec, list[ClassArea]()
    with rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES):
        if "preview" in paths:
            from satseg.predict.preview import write_preview  # imports matplotlib

            write_preview(source_name(source.info.path), source, output, spec, paths["preview"])
        if "areas" in paths:
            areas = class_areas(output, spec.class_names)
            write_areas(areas, paths["areas"])
        if "vectors" in paths:
            limits = {"min_area_m2": cfg.min_area_m2, "simplify_m": cfg.simplify_m}
            with output_lock(paths["vectors"]):  # may be in another folder, shared with other maps
                write_vectors(output, paths["vectors"], spec.class_names, **limits, warn=warnings.append)
    return areas


@contextmanager
def _bar(show: bool, name: str, pixels: int) -> Iterator[Callable[[int], None]]:
    """Show megapixels per second and the time left: a bar, or a line per minute if there is no terminal."""
    if show and not sys.stderr.isatty():
        lines = Progress(name, pixels / 1e6, "Mpx")
        yield lambda finished: lines.add(finished / 1e6)
        return
    form = "{desc}: {percentage:3.0f} % of {total:.4g} Mpx, {rate_noinv_fmt}, {remaining} left"
    with tqdm(total=pixels / 1e6, desc=name, unit="Mpx", bar_format=form, disable=not show) as bar:

        def finished(pixels: int) -> None:
            bar.update(pixels / 1e6)

        yield finished
