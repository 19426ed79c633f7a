"""Which number a map has for each class: the class's own, or the one that the masks of the training have."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from satseg.errors import ConfigError
from satseg.spec import DatasetSpec, MaskValue

PALETTED = ("uint8", "uint16")  # in which a GeoTIFF can have a colour table
NAMED = 5  # values of a class that are listed


@dataclass(frozen=True)
class Coding:
    """Numbers of a map.

    Attributes:
        values: Of the classes, in their order.
        nodata: Where there is no class; none of the values.
        dtype: Numpy dtype name that holds all of these.
        remarks: What a user of the map must know of them.
    """

    values: tuple[int, ...]
    nodata: int
    dtype: str
    remarks: tuple[str, ...] = ()

    @property
    def has_palette(self) -> bool:
        """Whether a GeoTIFF of these numbers can have a colour table."""
        return self.dtype in PALETTED

    @cached_property
    def table(self) -> np.ndarray | None:
        """What is written (256,) for the number of a class, nodata for other bytes; None where that changes none."""
        if self.values == tuple(range(len(self.values))):
            return None
        table = np.full(256, self.nodata, self.dtype)
        table[: len(self.values)] = self.values
        return table


def class_numbers(spec: DatasetSpec) -> Coding:
    """Return the numbers of the classes: 0, 1 and so on."""
    return Coding(tuple(range(spec.num_classes)), spec.ignore_index, "uint8")


def mask_numbers(specs: Sequence[DatasetSpec], names: Sequence[str]) -> Coding:
    """Return the numbers that the training's masks have for the classes, the first where they have several.

    Args:
        specs: Of the model, or of those that are averaged; one that records none is passed over beside others.
        names: Of the models.

    Raises:
        ConfigError: If none records any, they differ, or the masks have colours.
    """
    known = [(spec, name) for spec, name in zip(specs, names, strict=True) if spec.mask_values is not None]
    if not known:
        raise ConfigError(
            f"map_values=mask: {', '.join(names)} does not record what its masks hold: its labels were polygons, or an "
            "earlier version trained it. Leave map_values= out: the map's tag SATSEG_CLASSES names its numbers."
        )
    values, *others = [tuple(_firsts(spec, name)) for spec, name in known]
    if differing := next((name for (_, name), theirs in zip(known[1:], others, strict=True) if theirs != values), None):
        raise ConfigError(
            f"map_values=mask: the masks of {known[0][1]} and {differing} hold other values for the same classes: "
            "leave map_values= out."
        )
    dtype, nodata = _room(values)
    coding = Coding(values, nodata, dtype)
    return Coding(values, nodata, dtype, tuple(_remarks(known[0][0], coding)))


def _firsts(spec: DatasetSpec, name: str) -> Iterator[int]:
    """Yield the number that is written for each class."""
    for class_name, values in zip(spec.class_names, spec.mask_values or (), strict=True):
        if not values:
            raise ConfigError(
                f"map_values=mask: the masks of {name} have no value for {class_name}: leave map_values= out."
            )
        if not isinstance(values[0], int):
            raise ConfigError(
                f"map_values=mask: the masks of {name} have colours, and a map has one number a pixel, which its "
                "colour table shows in the masks' colours: leave map_values= out."
            )
        yield values[0]


def _room(values: Sequence[int]) -> tuple[str, int]:
    """Return the smallest dtype for some numbers, and the highest beside them for nodata.

    It is not negative: in GDAL's overviews by mode, negative nodata becomes 0.
    """
    dtypes = ("uint8", "uint16", "int32") if min(values) >= 0 else ("int16", "int32")
    limits = {dtype: np.iinfo(dtype) for dtype in dtypes}
    dtype = next(d for d, limit in limits.items() if limit.min <= min(values) and max(values) <= limit.max)
    return dtype, next(number for number in range(int(limits[dtype].max), -1, -1) if number not in values)


def _remarks(spec: DatasetSpec, coding: Coding) -> Iterator[str]:
    for name, held, value in zip(spec.class_names, spec.mask_values or (), coding.values, strict=True):
        if len(held) > 1:
            yield f"map_values=mask: {name} is {value} in the map, but {_listed(held)} in the masks."
    if not coding.has_palette:
        yield f"map_values=mask: a GeoTIFF has no colour table for {coding.dtype} numbers; its tags name the classes."


def _listed(values: Sequence[MaskValue]) -> str:
    shown = ", ".join(map(str, values[:NAMED]))
    return f"{shown} and others" if len(values) > NAMED else shown
