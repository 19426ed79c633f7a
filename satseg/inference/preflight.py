"""Comparing a scene with what the model was trained on, before hours are spent on numbers that mean something else."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from satseg.data.inputs import bands_by_name
from satseg.data.opening import shown
from satseg.data.pixel_size import size_text
from satseg.data.raster import RasterInfo
from satseg.data.shifts import NARROW, UNLIKE, find_factor, find_shift, levels, levels_of, share_unlike, usual_shift
from satseg.errors import BandError, ConfigError
from satseg.inference.reading import SceneReader, SceneSource
from satseg.spec import BandStatistics, InputSpec

FACTOR = 15.0  # values this many times too large or small are in another unit, whatever else is true of them
FACTOR_ALONE = 50.0  # the same of one band with negative values: an index is 40 times as flat over snow or clouds
SEVERAL = 4  # bands, from near infrared on mostly: in three colours, clouds and snow are all alike, too
FEW_PIXELS = 50
GSD_RATIO = 1.5
UNITS = (10.0, 100.0, 255.0, 257.0, 1000.0, 10_000.0, 65_535.0)


@dataclass
class Findings:
    """What speaks against a scene.

    Attributes:
        errors: What makes the result worthless.
        warnings: What may.
    """

    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def choose_bands(
    info: RasterInfo, source: InputSpec, wanted: Sequence[int] | None, recorded: Sequence[int] | None = None
) -> tuple[int, ...]:
    """Return the one-based numbers of the scene's bands in the model's order.

    They are those asked for; else, where the file names its bands as the model does, those of these names; else those
    that training read; else all.

    Args:
        info: The scene's header.
        source: The model's input.
        wanted: What the user says.
        recorded: What the training's record says.

    Raises:
        BandError: If the file has not as many, or other ones.
    """
    names = info.band_names
    if info.dtype.startswith("complex"):
        raise BandError(f"{shown(info.path)} holds complex numbers, which no model takes; take their amplitudes.")
    if wanted is not None:
        missing = [number for number in wanted if not 1 <= number <= len(names)]
        if missing or len(wanted) != len(source.bands):
            raise BandError(_needs(info, source, f"bands={list(wanted)} does not give them"))
        return tuple(wanted)
    if (named := bands_by_name(info, source.bands)) is not None:
        return named
    if recorded is not None and max(recorded) <= len(names):
        return tuple(recorded)
    if info.count != len(source.bands):
        raise BandError(_needs(info, source, "set bands=[…] to their numbers"))
    return info.bands


def _needs(info: RasterInfo, source: InputSpec, end: str) -> str:
    there = ", ".join(f"{number} ({name})" for number, name in enumerate(info.band_names, 1))
    return (
        f"{shown(info.path)} has the bands {there}, but the model "
        f"takes {len(source.bands)}, {', '.join(source.bands)}: {end}."
    )


def inspect(scene: SceneSource, source: InputSpec) -> Findings:
    """Compare a scene's names, values and pixel size with the model's training.

    Args:
        scene: To be segmented.
        source: The model's input, with the training split's statistics where they are known.
    """
    with scene.open() as reader:
        return inspect_open(reader, source, reader.sample())


def inspect_open(reader: SceneReader, source: InputSpec, values: np.ndarray) -> Findings:
    """Do as `inspect` with a scene that is open, and its sample (C, n)."""
    found, scene = Findings(), reader.scene
    _names(scene, source, found)
    _pixel_size(scene.info, source, found)
    _place(scene.info, reader.source, source, found)
    if values.shape[1] < FEW_PIXELS:
        found.warnings.append(f"{shown(scene.info.path)} has hardly a valid pixel.")
    elif source.statistics is not None:
        _values(values, scene, source, source.statistics, found)
    return found


def _place(info: RasterInfo, dataset: Any, source: InputSpec, found: Findings) -> None:
    if info.transform is not None:
        return
    name, there = shown(info.path), _substitute(dataset)
    if there:
        found.warnings.append(
            f"{name} has {there} instead of a geotransform, so the map has no coordinates; warp it first (gdalwarp)."
        )
    elif source.gsd_m is not None and info.crs is None:
        found.warnings.append(
            f"{name} does not say where it lies, as the images of the training did: the map has no coordinates, and "
            "the size of its pixels is not known."
        )
    if info.turned is None:
        found.warnings.append(
            f"{name} does not say which of its rows is north: the last that is stored is taken for it; if the map is "
            "upside down, set GDAL_NETCDF_BOTTOMUP=NO in the environment."
        )
    elif info.turned:
        found.warnings.append(f"{name} is stored turned, and read upright as its header says.")


def _substitute(dataset: Any) -> str:
    """Return what a raster has instead of a geotransform."""
    return "ground control points" if dataset.gcps[0] else "rational polynomials (RPC)" if dataset.rpcs else ""


def _names(scene: SceneSource, source: InputSpec, found: Findings) -> None:
    there = [scene.info.band_names[number - 1] for number in scene.bands]
    known = set(source.bands) & set(there)
    if known and tuple(there) != source.bands:
        found.errors.append(
            f"{shown(scene.info.path)}: the bands in use are {', '.join(there)}, but the model takes "
            f"{', '.join(source.bands)}; set bands=[…] to their numbers in this order."
        )


def _pixel_size(info: RasterInfo, source: InputSpec, found: Findings) -> None:
    if info.pixel_m is None or info.gsd_m is None or source.gsd_m is None:
        return
    known = source.gsd_range_m or (source.gsd_m, source.gsd_m)
    edges = info.pixel_m if source.gsd_range_m else (info.gsd_m,)  # older model files have one number for both
    ratio = max((_beyond(edge, known) for edge in edges), key=lambda ratio: max(ratio, 1 / ratio))
    if max(ratio, 1 / ratio) > GSD_RATIO:
        most = "" if known[0] == known[1] else f" to {known[1]:.3g} m, most of them {source.gsd_m:.3g}"
        found.warnings.append(
            f"{shown(info.path)} has pixels of {size_text(info.pixel_m)} m on the ground, {ratio:.2g} times those of "
            f"the training ({known[0]:.3g}{most} m), so things look smaller or larger than the model knows; set "
            f"gsd_m={source.gsd_m:g} to have it resampled on reading."
        )


def _beyond(edge: float, known: tuple[float, float]) -> float:
    """Return how many times an edge is longer than the longest, or shorter than the shortest; 1 between them."""
    return edge / min(max(edge, known[0]), known[1])


def _values(values: np.ndarray, scene: SceneSource, source: InputSpec, known: BandStatistics, found: Findings) -> None:
    there, trained = levels(values), levels_of(known)
    name = shown(scene.info.path)
    constant = [band_name for band_name, band in zip(source.bands, values, strict=True) if band.min() == band.max()]
    if constant:
        found.warnings.append(f"{name}: the same value everywhere in {', '.join(constant)}; is it missing?")
    factors = _factors(there, trained)
    unit, shift = _change(there, trained, factors, scene, source)
    grave = found.errors if len(source.bands) >= SEVERAL else found.warnings
    if unit != 1:
        (found.errors if max(unit, 1 / unit) > FACTOR else grave).append(
            f"{name}: values reach {np.median(there[:, 2]):.3g}, in training {np.median(trained[:, 2]):.3g} (98th "
            f"percentiles), so they are in another unit; {_advice(scene, there, trained, unit, shift)}."
        )
        return
    if shift:
        grave.append(
            f"{name}: values are about {abs(shift):g} {'higher' if shift > 0 else 'lower'} than in training, in all "
            "bands alike, as the offset of a product's version makes them; "
            f"{_advice(scene, there, trained, unit, shift)}."
        )
        return
    odd = [b for b, f in zip(source.bands, factors, strict=True) if max(f, 1 / f) > FACTOR and b not in constant]
    if odd and len(source.bands) > 1:
        found.warnings.append(f"{name}: the values of {', '.join(odd)} are far from those of the training.")
    elif float(np.median(unlike := share_unlike(values, trained))) > UNLIKE:
        found.warnings.append(
            f"{name}: {100 * np.median(unlike):.0f} % of the values lie far outside those of the training "
            f"({_range(trained)}, 2nd to 98th percentile; here {_range(there)}), so the map may mean nothing."
        )
    elif len(source.bands) > 1 and not constant:
        _order(values, scene, source, known, found)


def _range(bands: np.ndarray) -> str:
    low, _, high = np.median(bands, axis=0)
    return f"{low:.3g} to {high:.3g}"


def _change(
    there: np.ndarray, trained: np.ndarray, factors: np.ndarray, scene: SceneSource, source: InputSpec
) -> tuple[float, float]:
    """Return what the values must be multiplied by, and by how much they then are too high: 1 and 0 where nothing is.

    Pictures of 8 bits have no other unit and no offset: where they are a little brighter or darker, the light is.
    """
    factor = float(np.median(factors))
    is_picture = scene.info.dtype == source.dtype == "uint8" and (scene.scale, scene.offset) == (1.0, 0.0)
    is_index = len(there) == 1 and min(there[0, 0], trained[0, 0]) < 0
    if max(factor, 1 / factor) <= (FACTOR_ALONE if is_index else FACTOR):
        factor = 1.0 if is_picture else 1 / find_factor(there, trained)
    unit = _unit(factor)
    shift = 0.0 if is_picture else find_shift(there * unit, trained)
    return unit, usual_shift(shift) if shift else 0.0


def _advice(scene: SceneSource, there: np.ndarray, trained: np.ndarray, unit: float, shift: float) -> str:
    """Return the options that make a scene's values those of the training: by the file's own tags, where these do."""
    tags = scene.info.tags_of(scene.bands)
    if len(tags) > 1:
        return "its bands have different scale and offset tags: apply them (gdal_translate -unscale -ot Float32)"
    measured = f"set {_options(scene, scene.scale * unit, scene.offset * unit - shift)}"
    ((scale, offset),) = tags
    if (scale, offset) == (1.0, 0.0):
        return measured
    told = f"scale={scale:g} offset={offset:g}"
    applied = (there - scene.offset) / scene.scale * scale + offset
    factor = float(np.median(_factors(applied, trained)))
    unit = _unit(factor) if max(factor, 1 / factor) > FACTOR else _unit(1 / find_factor(applied, trained))
    if find_shift(applied * unit, trained):
        return f"{measured} (its own tags, {told}, do not fit)"
    if unit == 1:
        return f"set {told}, as its own tags say"
    return f"set {_options(scene, scale * unit, offset * unit)}, as its own tags say ({told}) in the training's unit"


def _options(scene: SceneSource, scale: float, offset: float) -> str:
    """Return the options that differ from the defaults, or that the user has given already."""
    named = {"scale": (scale, 1.0, scene.scale), "offset": (offset + 0.0, 0.0, scene.offset)}
    wanted = {n: v for n, (v, usual, given) in named.items() if not math.isclose(v, usual) or given != usual}
    return " ".join(f"{name}={value:g}" for name, value in wanted.items())


def _factors(there: np.ndarray, trained: np.ndarray) -> np.ndarray:
    """Return by which factor each band's values are smaller than in training.

    It is that of the highest values, or that of the spread where values are negative, as decibels are.
    """
    low, _, high = there.T
    trained_low, _, trained_high = trained.T
    positive = (high > 0) & (trained_high > 0) & (low >= 0) & (trained_low >= 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        factors = np.where(positive, trained_high / high, (trained_high - trained_low) / (high - low))
    return np.where(np.isfinite(factors) & (factors > 0), factors, 1.0)


def _unit(factor: float) -> float:
    """Return the usual factor between two units that is nearest to what was measured; 1 where they are one."""
    candidates = [1.0, *UNITS, *(1 / unit for unit in UNITS)]
    return min(candidates, key=lambda unit: abs(math.log(unit / factor)))


def _order(values: np.ndarray, scene: SceneSource, source: InputSpec, known: BandStatistics, found: Findings) -> None:
    """Warn where another order of the bands fits the training far better than the one in use."""
    mean, trained = values.mean(1), np.array(known.mean)
    spread = np.maximum(known.std, max(NARROW * float(np.median(known.std)), 1e-9))  # a faint band shows all noise
    level = np.median(mean - trained)  # the scene may be brighter or darker as a whole
    cost = np.abs((mean[:, None] - level - trained[None]) / spread[None])
    scene_order, model_order = linear_sum_assignment(cost)
    best, given = cost[scene_order, model_order].mean(), np.diag(cost).mean()
    if given > 1.0 and best < given / 4:
        numbers = [scene.bands[i] for i in np.argsort(model_order)]
        found.warnings.append(
            f"{shown(scene.info.path)}: the bands look swapped: in the order {numbers} their means fit the training "
            f"far better; if so, set bands={numbers}."
        )


def settle(findings: Findings, mode: str) -> list[str]:
    """Return what to warn of.

    Args:
        findings: Of a scene.
        mode: `stop` at errors, or only `warn`.

    Raises:
        ConfigError: With the first error, in mode `stop`; or if there is no such mode.
    """
    if mode not in ("stop", "warn"):
        raise ConfigError(f"preflight={mode}: choose stop or warn.")
    if findings.errors and mode == "stop":
        raise ConfigError(f"{findings.errors[0].removesuffix('.')}, or preflight=warn to go on as it is.")
    return [*findings.errors, *findings.warnings]
