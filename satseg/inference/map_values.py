"""Pixel values of a map: class indices, or the values that the training masks use."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from satseg.errors import ConfigError
from satseg.spec import DatasetSpec, MaskValue

PALETTED = ("uint8", "uint16")  # dtypes for which a GeoTIFF can have a colour table
NAMED = 5  # values of a class that are listed


@dataclass(frozen=True)
class MapValues:
    """Pixel values of a map.

    Attributes:
        values: One per class, in class order.
        nodata: Value of pixels without a class; none of the above.
        dtype: Name of a numpy dtype that holds all of these.
        remarks: Notes for users of the map.
    """

    values: tuple[int, ...]
    nodata: int
    dtype: str
    remarks: tuple[str, ...] = ()

    @property
    def has_palette(self) -> bool:
        """True if a GeoTIFF with these values can have a colour table."""
        return self.dtype in PALETTED

    @cached_property
    def table(self) -> np.ndarray | None:
        """Lookup table (256,) from class index to pixel value, nodata for other bytes; None if it is the identity."""
        if self.values == tuple(range(len(self.values))):
            return None
        table = np.full(256, self.nodata, self.dtype)
        table[: len(self.values)] = self.values
        return table


def class_indices(spec: DatasetSpec) -> MapValues:
    """Return class indices as pixel values: 0, 1 and so on."""
    return MapValues(tuple(range(spec.num_classes)), spec.ignore_index, "uint8")


def training_mask_values(specs: Sequence[DatasetSpec], names: Sequence[str]) -> MapValues:
    """Return the values that the training masks use for the classes; the first of a class that has several.

    Args:
        specs: One per averaged model; those that record no mask values are skipped if others do.
        names: Names of the models.

    Raises:
        ConfigError: If no model records mask values, they differ, or the masks are coloured.
    """
    known = [(spec, name) for spec, name in zip(specs, names, strict=True) if spec.mask_values is not None]
    if not known:
        raise ConfigError(
            f"map_values=mask: {', '.join(names)} does not record its mask values: its labels were polygons, or an "
            "earlier version trained it. Leave map_values= out: the map's tag SATSEG_CLASSES names its numbers."
        )
    values, *others = [tuple(_firsts(spec, name)) for spec, name in known]
    if differing := next((name for (_, name), theirs in zip(known[1:], others, strict=True) if theirs != values), None):
        raise ConfigError(
            f"map_values=mask: the masks of {known[0][1]} and {differing} use different values for the same classes: "
            "leave map_values= out."
        )
    dtype, nodata = _dtype_and_nodata(values)
    map_values = MapValues(values, nodata, dtype)
    return MapValues(values, nodata, dtype, tuple(_remarks(known[0][0], map_values)))


def _firsts(spec: DatasetSpec, name: str) -> Iterator[int]:
    """Yield the pixel value of each class."""
    for class_name, values in zip(spec.class_names, spec.mask_values or (), strict=True):
        if not values:
            raise ConfigError(
                f"map_values=mask: the masks of {name} have no value for {class_name}: leave map_values= out."
            )
        if not isinstance(values[0], int):
            raise ConfigError(
                f"map_values=mask: the masks of {name} are coloured, but a map has one value per pixel, which its "
                "colour table shows in the masks' colours: leave map_values= out."
            )
        yield values[0]


def _dtype_and_nodata(values: Sequence[int]) -> tuple[str, int]:
    """Return the smallest dtype for some values, and the highest unused value for nodata.

    Nodata is never negative: in overviews by mode, GDAL turns negative nodata into 0.
    """
    dtypes = ("uint8", "uint16", "int32") if min(values) >= 0 else ("int16", "int32")
    limits = {dtype: np.iinfo(dtype) for dtype in dtypes}
    dtype = next(d for d, limit in limits.items() if limit.min <= min(values) and max(values) <= limit.max)
    return dtype, next(number for number in range(int(limits[dtype].max), -1, -1) if number not in values)


def _remarks(spec: DatasetSpec, map_values: MapValues) -> Iterator[str]:
    for name, held, value in zip(spec.class_names, spec.mask_values or (), map_values.values, strict=True):
        if len(held) > 1:
            yield f"map_values=mask: {name} is {value} in the map, but {_listed(held)} in the masks."
    if not map_values.has_palette:
        dtype = map_values.dtype
        yield f"map_values=mask: a GeoTIFF has no colour table for {dtype} values; its tags name the classes."


def _listed(values: Sequence[MaskValue]) -> str:
    shown = ", ".join(map(str, values[:NAMED]))
    return f"{shown} and others" if len(values) > NAMED else shown
