"""Checks that a scene resembles the training data, before hours are spent on segmenting it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from omegaconf import DictConfig
from rasterio.crs import CRS

from satseg.data.rasters.bands import bands_by_name
from satseg.data.rasters.header import RasterInfo, Window, default_band_name
from satseg.data.rasters.opening import redacted
from satseg.data.rasters.pixel_size import size_text
from satseg.errors import BandError, ConfigError, PreflightError
from satseg.inference.reading import SceneReader, SceneSource, scene_header
from satseg.inference.value_checks import MIN_PIXELS, Findings, check_values
from satseg.spec import InputSpec

GSD_RATIO = 1.5


def choose_bands(
    info: RasterInfo, source: InputSpec, wanted: Sequence[int] | None, recorded: Sequence[int] | None = None
) -> tuple[int, ...]:
    """Return the one-based numbers of the scene's bands in the model's order.

    The user's choice takes precedence, then bands whose names are the model's, then the bands that training read, then
    all bands.

    Args:
        info: The scene's header.
        source: The model's input.
        wanted: The user's choice.
        recorded: The bands recorded by the training run.

    Raises:
        BandError: If the file does not have the bands that the model needs.
    """
    names = info.band_names
    if info.dtype.startswith("complex"):
        raise BandError(f"{redacted(info.path)} holds complex numbers, which no model takes; use their amplitudes.")
    if wanted is not None:
        missing = [number for number in wanted if not 1 <= number <= len(names)]
        if missing or len(wanted) != len(source.bands):
            raise BandError(_needs(info, source, f"bands={list(wanted)} does not select them"))
        return tuple(wanted)
    if (named := bands_by_name(info, source.bands)) is not None:
        return named
    if recorded is not None and max(recorded) <= len(names):
        return tuple(recorded)
    if info.count != len(source.bands):
        raise BandError(_needs(info, source, "set bands=[…] to their numbers"))
    return info.bands


def scene_source(
    cfg: DictConfig, info: RasterInfo, source: InputSpec, recorded: Sequence[int] | None, area: Window | None = None
) -> SceneSource:
    """Return a scene with a command's options for reading it.

    Args:
        cfg: Config with `bands`, `nodata`, `scale`, `offset` and `gsd_m`.
        info: The file's header.
        source: The model's input.
        recorded: As for `choose_bands`.
        area: The part of the file to use as the scene; all by default.

    Raises:
        SatsegError: As `choose_bands` and `scene_header`.
    """
    wanted = None if cfg.bands is None else list(cfg.bands)
    return SceneSource(
        info=scene_header(info, area, cfg.gsd_m),
        bands=choose_bands(info, source, wanted, recorded),
        nodata=cfg.nodata,
        default_nodata=source.nodata,
        scale=cfg.scale,
        offset=cfg.offset,
        area=area,
        resampled=cfg.gsd_m is not None,
    )


def _needs(info: RasterInfo, source: InputSpec, end: str) -> str:
    there = ", ".join(f"{number} ({name})" for number, name in enumerate(info.band_names, 1))
    return (
        f"{redacted(info.path)} has the bands {there}, but the model "
        f"takes {len(source.bands)}, {', '.join(source.bands)}: {end}."
    )


def inspect(scene: SceneSource, source: InputSpec) -> Findings:
    """Compare a scene's names, values and pixel size with the model's training.

    Args:
        scene: The scene to segment.
        source: The model's input, with statistics of the training split if known.
    """
    with scene.open() as reader:
        return inspect_open(reader, source, reader.sample())


def inspect_open(reader: SceneReader, source: InputSpec, values: np.ndarray) -> Findings:
    """Inspect a scene that is open, given a sample of its pixels (C, n); see `inspect`."""
    found, scene = Findings(), reader.scene
    _names(scene, source, found)
    _pixel_size(scene.info, source, found)
    _location(scene.info, reader.source, source, found)
    if values.shape[1] < MIN_PIXELS:
        found.warnings.append(f"{redacted(scene.info.path)} has hardly any valid pixels.")
    elif source.statistics is not None:
        check_values(values, scene, source, source.statistics, found)
    return found


def _location(info: RasterInfo, dataset: Any, source: InputSpec, found: Findings) -> None:
    if info.transform is not None:
        return
    name, there = redacted(info.path), _substitute(dataset)
    if there:
        found.warnings.append(
            f"{name} has {there} instead of a geotransform, so the map has no coordinates; warp it first (gdalwarp)."
        )
    elif source.gsd_m is not None and info.crs is None:
        found.warnings.append(
            f"{name} has no georeference, unlike the training images: the map has no coordinates, and its pixel size "
            "is unknown."
        )
    if info.turned is None:
        found.warnings.append(
            f"{name} does not say which of its rows is north: the last stored row is assumed to be; if the map is "
            "upside down, set GDAL_NETCDF_BOTTOMUP=NO in the environment."
        )
    elif info.turned:
        found.warnings.append(f"{name} is stored rotated, and read upright according to its header.")


def _substitute(dataset: Any) -> str:
    """Return the kind of georeference that a raster has instead of a geotransform."""
    return "ground control points" if dataset.gcps[0] else "rational polynomials (RPC)" if dataset.rpcs else ""


def _names(scene: SceneSource, source: InputSpec, found: Findings) -> None:
    there = [scene.info.band_names[number - 1] for number in scene.bands]
    named = {name for name, number in zip(there, scene.bands, strict=True) if name != default_band_name(number)}
    known = set(source.bands) & named
    if known and tuple(there) != source.bands:
        found.errors.append(
            f"{redacted(scene.info.path)}: the bands in use are {', '.join(there)}, but the model takes "
            f"{', '.join(source.bands)}; set bands=[…] to their numbers in this order."
        )
    elif not named and tuple(there) != source.bands and set(source.bands) & set(there):
        found.warnings.append(
            f"{redacted(scene.info.path)}: its bands have no names; {', '.join(there)} are assumed to be "
            f"{', '.join(source.bands)} of the training."
        )


def _pixel_size(info: RasterInfo, source: InputSpec, found: Findings) -> None:
    if info.pixel_m is None or info.gsd_m is None or source.gsd_m is None:
        return
    known = source.gsd_range_m or (source.gsd_m, source.gsd_m)
    if source.gsd_range_m:
        ratio = max((_ratio_to_range(edge, known) for edge in info.pixel_m), key=_deviation)
    else:  # older model files have one number, in the units of the CRS
        ratio = min((_ratio_to_range(edge, known) for edge in (info.gsd_m, *_nominal(info))), key=_deviation)
    if _deviation(ratio) > GSD_RATIO:
        most = "" if known[0] == known[1] else f" to {known[1]:.3g} m, their median {source.gsd_m:.3g}"
        found.warnings.append(
            f"{redacted(info.path)} has pixels of {size_text(info.pixel_m)} m on the ground, {ratio:.2g} times those "
            f"of the training ({known[0]:.3g}{most} m), so objects look smaller or larger than in training; set "
            f"gsd_m={source.gsd_m:g} to have it resampled on reading."
        )


def _deviation(ratio: float) -> float:
    return max(ratio, 1 / ratio)


def _nominal(info: RasterInfo) -> tuple[float, ...]:
    """Return the pixel width in the units of the CRS, in metres, if it is projected."""
    crs = CRS.from_wkt(info.crs) if info.crs else None
    if crs is None or info.transform is None or not crs.is_projected:
        return ()
    return (math.hypot(info.transform[0], info.transform[3]) * crs.linear_units_factor[1],)


def _ratio_to_range(edge: float, known: tuple[float, float]) -> float:
    """Return the ratio of an edge to the nearest edge in a range; 1 inside the range."""
    return edge / min(max(edge, known[0]), known[1])


def resolve_findings(findings: Findings, mode: str) -> list[str]:
    """Return the warnings to print.

    Args:
        findings: Findings of a scene.
        mode: `stop` at errors, or only `warn`.

    Raises:
        PreflightError: With the first error, in mode `stop`.
        ConfigError: If there is no such mode.
    """
    if mode not in ("stop", "warn"):
        raise ConfigError(f"preflight={mode}: choose stop or warn.")
    if findings.errors and mode == "stop":
        message = f"{findings.errors[0].removesuffix('.')}, or preflight=warn to go on as it is."
        raise PreflightError(message, findings.errors)
    return [*findings.errors, *findings.warnings]
