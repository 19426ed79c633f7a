"""Class schemes from the configuration, or discovered from the masks."""

from __future__ import annotations

import colorsys
import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from satseg.data.labels.scheme import LARGEST_VALUE, ClassScheme, Colour, pack
from satseg.data.rasters.header import RasterInfo, read_info
from satseg.data.rasters.opening import bounded_cache
from satseg.data.rasters.raster import read_strips
from satseg.data.rasters.validity import can_hold
from satseg.errors import ConfigError, DataError
from satseg.spec import IGNORE_INDEX

__all__ = ["LARGEST_VALUE", "ClassScheme", "default_colour", "discover_scheme", "scheme_from_config"]

MAX_DISCOVERED = 64
MAX_VALUES = 4096  # per file; discovery stops beyond
IGNORE = "ignore"
TRANSPARENT_COLOURS = ("PNG", "GIF")  # formats with transparent colours instead of nodata


def scheme_from_config(
    classes: Sequence[str] | Mapping[str, Any],
    mask_values: Mapping[Any, str] | None = None,
    ignore_values: Sequence[Any] | None = None,
    threshold: int | None = None,
) -> ClassScheme:
    """Build a scheme from the options of a dataset.

    Args:
        classes: Names in the order of their values, or a mapping from name to value, list of values, colour
            `[r, g, b]` or `"#rrggbb"`, list of colours, or `{value: …, color: [r, g, b]}`. Three numbers are a
            colour if every class could be one, so write three values of one class as `{value: [1, 2, 3]}`.
        mask_values: Further values (or colours as `"#rrggbb"`), each with the name of its class or `ignore`.
        ignore_values: Values or colours that are no class; in masks by value 255 is one, unless it is a class.
        threshold: As in `ClassScheme`.

    Raises:
        ConfigError: If a class is given twice or in an unknown form.
    """
    given = list(classes.items()) if isinstance(classes, Mapping) else [(n, i) for i, n in enumerate(classes)]
    names = tuple(str(name) for name, _ in given)
    if len(set(names)) < len(names):
        raise ConfigError(f"dataset.classes: names must differ, but they are {', '.join(names)}.")
    by_colour = bool(given) and all(_may_be_colour(value) for _, value in given)
    values: dict[int, int] = {}
    for index, (name, value) in enumerate(given):
        for key in _keys(f"dataset.classes.{name}", value, by_colour):
            _add(values, key, index, f"dataset.classes.{name}={value}")
    for raw, name in (mask_values or {}).items():
        option = f"dataset.mask_values: {raw} is mapped to {name}"
        for key in _keys("dataset.mask_values", raw, by_colour):
            _add(values, key, _index(str(name), names, option), option)
    for key in _keys("dataset.ignore_values", list(ignore_values or ()), by_colour):
        _add(values, key, IGNORE_INDEX, "dataset.ignore_values")
    if not by_colour:
        values.setdefault(IGNORE_INDEX, IGNORE_INDEX)
    if threshold is not None:
        _check_threshold_values(threshold, values.keys(), by_colour)
    palette = tuple(display_colour(str(name), value, i, by_colour) for i, (name, value) in enumerate(given))
    return ClassScheme(names, palette, values, by_colour, threshold)


def ignoring(scheme: ClassScheme, ignore_values: Sequence[Any] | None) -> ClassScheme:
    """Return a scheme that also ignores values or colours of masks.

    Args:
        scheme: The classes.
        ignore_values: As in `scheme_from_config`; those of polygons are part of their scheme already.

    Raises:
        ConfigError: If one is the value of a class, or of an unknown form.
    """
    if not ignore_values or scheme.from_polygons:
        return scheme
    values = dict(scheme.values)
    for key in _keys("dataset.ignore_values", list(ignore_values), scheme.by_colour):
        _add(values, key, IGNORE_INDEX, "dataset.ignore_values")
    return replace(scheme, values=values)


def _check_threshold_values(threshold: int, keys: Collection[int], by_colour: bool) -> None:
    """Check that a threshold lies within 8 bits, and that all class values are 0 or 255, the only ones after it."""
    if isinstance(threshold, bool) or not isinstance(threshold, int) or not 1 <= threshold <= 255:
        raise ConfigError(f"dataset.mask_threshold={threshold}: expected a whole number from 1 to 255, such as 128.")
    channels = {(k >> shift & 255) for k in keys for shift in (16, 8, 0)} if by_colour else set(keys)
    if others := sorted(channels - {0, 255}):
        example = "colours such as [255, 0, 0]" if by_colour else "values such as {ground: 0, road: 255}"
        raise ConfigError(
            f"dataset.mask_threshold={threshold} makes 0 or 255 of each number, so no mask will hold {others[0]}: give "
            f"{example} in dataset.classes, or leave the threshold out."
        )


def _add(values: dict[int, int], key: int, index: int, option: str) -> None:
    if values.setdefault(key, index) != index:
        shown = f"#{key:06x} or {key}" if key > 255 else str(key)
        raise ConfigError(f"{option}: value {shown} is given twice, for different classes; give each value once.")


def _index(name: str, names: Sequence[str], option: str) -> int:
    if name == IGNORE:
        return IGNORE_INDEX
    if name not in names:
        raise ConfigError(f"{option}, but the classes are {', '.join(names)} (or {IGNORE}).")
    return names.index(name)


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _is_colour(value: Any) -> bool:
    if isinstance(value, str):
        return re.fullmatch(r"#[0-9a-fA-F]{6}", value) is not None
    return _is_list(value) and len(value) == 3 and all(isinstance(v, int) and 0 <= v <= 255 for v in value)


def _may_be_colour(value: Any) -> bool:
    if isinstance(value, Mapping):
        return "value" not in value
    return _is_colour(value) or (_is_list(value) and len(value) > 0 and all(_is_colour(v) for v in value))


def _colour(value: Any) -> Colour:
    if isinstance(value, str):
        return int(value[1:3], 16), int(value[3:5], 16), int(value[5:7], 16)
    return int(value[0]), int(value[1]), int(value[2])


def _keys(option: str, value: Any, by_colour: bool) -> list[int]:
    """Return the raw values, or packed colours, of an option's value."""
    if isinstance(value, Mapping):
        value = value.get("color" if by_colour else "value")
    if by_colour:
        colours = [value] if _is_colour(value) else value
        if _is_list(colours) and all(_is_colour(c) for c in colours):
            return [red << 16 | green << 8 | blue for red, green, blue in map(_colour, colours)]
        raise ConfigError(f'{option}={value}: expected a colour [r, g, b] or "#rrggbb", or a list of them.')
    numbers = list(value) if _is_list(value) else [value]
    if all(isinstance(v, int) and not isinstance(v, bool) for v in numbers):
        return numbers
    raise ConfigError(
        f"{option}={value}: expected a whole number, a list of them, or {{value: …, color: [r, g, b]}}; "
        "colours only where every class has one."
    )


def display_colour(name: str, value: Any, index: int, by_colour: bool) -> Colour:
    """Return the display colour of a class."""
    shown = value.get("color") if isinstance(value, Mapping) else value if by_colour else None
    if shown is None:
        return default_colour(index)
    first = shown if _is_colour(shown) else shown[0] if _is_list(shown) and shown else None
    if not _is_colour(first):
        raise ConfigError(f'dataset.classes.{name}.color={shown}: expected [r, g, b], each 0 to 255, or "#rrggbb".')
    return _colour(first)


def default_colour(index: int) -> Colour:
    """Return a default colour for a class index, distinct from neighbouring ones."""
    red, green, blue = colorsys.hsv_to_rgb(index * 0.618034 % 1, 0.55 + 0.15 * (index % 3), 0.9 - 0.15 * (index % 2))
    return round(red * 255), round(green * 255), round(blue * 255)


def discover_scheme(paths: Iterable[Path]) -> ClassScheme:
    """Discover the classes from the masks.

    Masks are read by colour if any is RGB or if palettes differ, by value otherwise. In masks by value, negative values
    are ignored, and so is 255 if there are two other values (0 and 255 alone are two classes). Declared nodata is
    ignored.

    Raises:
        DataError: If there are too many values for class maps; if a value is beyond the range of a scheme; if one mask
            declares a value as nodata that another has as an ordinary value.
    """
    infos = [read_info(path) for path in paths]
    palettes = [info.palette for info in infos]
    same = all(p == palettes[0] for p in palettes)
    by_colour = any(i.count >= 3 for i in infos) or (not same and any(palettes))
    seen: dict[int, Path | str] = {}
    declared: dict[int, Path | str] = {}
    for info in infos:
        with bounded_cache():
            values, nodata = read_mask_values(info, by_colour)
        for value in values:
            seen.setdefault(value, info.path)
        if nodata is not None:
            declared.setdefault(nodata, info.path)
        if len(seen) > MAX_DISCOVERED:
            raise DataError(
                f"{info.path} and the masks before it hold more than {MAX_DISCOVERED} different values: they are "
                "anti-aliased, JPEG-compressed or not masks. Repair them, or give dataset.classes."
            )
    if by_colour:
        return _by_colour(seen, declared)
    return _by_value(seen, declared, (palettes[0] if palettes else None) or {})


def read_mask_values(info: RasterInfo, by_colour: bool) -> tuple[set[int], int | None]:
    """Return the values, or packed colours, in a mask, and its declared nodata value if that occurs."""
    is_rgb = by_colour and info.count >= 3
    found: set[float] = set()
    for strip in read_strips(info.path):
        found |= _distinct_values(pack(strip) if is_rgb else strip[0])
        if len(found) > MAX_VALUES:
            break  # too many for a mask; reported by the caller
    nodata = declared_nodata(info, is_rgb)
    is_there = nodata is not None and nodata in found
    found.discard(nodata if nodata is not None else math.nan)
    if fractions := sorted(v for v in found if v != int(v)):
        raise DataError(f"{info.path} holds {fractions[0]:g}, which is not a whole number: it is not a class mask.")
    if is_rgb and -1 in found:
        raise DataError(f"{info.path} holds colours that do not have 8 bits: write the mask with 8 bits per channel.")
    if far := sorted(v for v in found if abs(v) > LARGEST_VALUE):
        raise DataError(
            f"{info.path} holds {far[0]:g}, beyond ±{LARGEST_VALUE}, and does not declare it as nodata: do so if it "
            "marks unlabelled pixels (gdal_edit.py -a_nodata), or renumber the mask."
        )
    kept = is_there and nodata is not None and abs(nodata) <= LARGEST_VALUE  # larger ones are always ignored
    if by_colour and not is_rgb:
        expanded = [_expanded(v, info) for v in found]
        return set(expanded), _expanded(nodata, info) if kept and nodata is not None else None
    return {int(v) for v in found}, int(nodata) if kept and nodata is not None else None


def _expanded(value: float, info: RasterInfo) -> int:
    """Return the packed colour of a palette index or grey value."""
    red, green, blue = (info.palette or {}).get(int(value), (int(value),) * 3)
    return red << 16 | green << 8 | blue


def declared_nodata(info: RasterInfo, is_rgb: bool = False) -> float | None:
    """Return the value that a mask declares as nodata, as stored in its pixels; None if there is none.

    Transparent colours, which GDAL reports as nodata too, do not count: they are often a background class.

    Args:
        info: The mask's header.
        is_rgb: Whether pixels are packed colours of several bands.
    """
    if info.format in TRANSPARENT_COLOURS:
        return None
    bands = info.bands[: 3 if is_rgb else 1]
    values = [(info.validity.nodata[n - 1], info.validity.dtypes[n - 1]) for n in bands]
    held = [np.array(v, dtype) for v, dtype in values if v is not None and can_hold(dtype, v)]
    if len(held) < len(bands):
        return None
    return float(pack(np.stack(held)[:, None, None])[0, 0] if is_rgb else held[0])


def _distinct_values(keys: np.ndarray) -> set[float]:
    """Return the distinct finite values of an array; only pixels unlike their left neighbour are sorted."""
    if np.issubdtype(keys.dtype, np.floating):
        keys = keys[np.isfinite(keys)][None]
    firsts = keys[:, 1:][keys[:, 1:] != keys[:, :-1]]
    return set(np.unique(np.concatenate([keys[:, :1].ravel(), firsts])).tolist())


def _by_colour(seen: Mapping[int, Path | str], declared: Mapping[int, Path | str]) -> ClassScheme:
    _check_declared(seen, declared, lambda v: f"#{v:06x}")
    found = sorted(seen)
    _require_two([f"#{v:06x}" for v in found], [f"#{v:06x}" for v in declared])
    palette = tuple((v >> 16, v >> 8 & 255, v & 255) for v in found)
    names = tuple(f"color_{v:06x}" for v in found)
    values = dict.fromkeys(declared, IGNORE_INDEX) | {v: i for i, v in enumerate(found)}
    return ClassScheme(names, palette, values, by_colour=True)


def _by_value(
    seen: Mapping[int, Path | str], declared: Mapping[int, Path | str], palette: Mapping[int, Colour]
) -> ClassScheme:
    kept = sorted(v for v in seen if v >= 0 and v != IGNORE_INDEX)
    if len(kept) == 1 and IGNORE_INDEX in seen:
        kept.append(IGNORE_INDEX)
    _check_declared({v: seen[v] for v in kept}, declared, str)
    _require_two(kept, declared)
    values = dict.fromkeys((*seen, *declared), IGNORE_INDEX) | {v: i for i, v in enumerate(kept)}
    shown = tuple(palette.get(v, default_colour(i)) for i, v in enumerate(kept))
    return ClassScheme(tuple(f"class_{v}" for v in kept), shown, values)


def _check_declared(
    classes: Mapping[int, Path | str], declared: Mapping[int, Path | str], show: Callable[[int], str]
) -> None:
    for value in sorted(classes.keys() & declared.keys()):
        raise DataError(
            f"{declared[value]} declares {show(value)} as nodata, but {classes[value]} has it as an ordinary value: "
            f"give dataset.classes, with {show(value)} if it is a class, and in dataset.ignore_values if not."
        )


def _require_two(found: Collection[Any], declared: Collection[Any]) -> None:
    if len(found) >= 2:
        return
    kept, left_out = (", ".join(map(str, values)) for values in (found, declared))
    besides = f" besides {left_out}, which they declare as nodata" if declared else ""
    repair = f"; if {left_out} is a class, give it a name in dataset.classes" if declared else ""
    raise DataError(
        f"The masks hold only {len(found)} class ([{kept}]){besides}; a segmentation needs at least two{repair}."
    )
