"""Dataset specification: inputs, classes and statistics of the training data, stored in the model file."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError

from satseg.errors import ConfigError, SpecError

IGNORE_INDEX = 255
MAX_CLASSES = 255  # masks are uint8 inside satseg, and one value is the ignore index
MAX_BANDS = 1024  # imaging spectrometers have about 300
MAX_TIMESTEPS = 366  # one per day for a year
MAX_NAME = 200
MAX_MASK_VALUES = 100  # recorded per class
LARGEST_MASK_VALUE = 2**24 - 1  # a colour packed into one integer
DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float16", "float32", "float64")
SCHEMA: ConfigDict = {
    "strict": True,
    "extra": "forbid",
    "allow_inf_nan": False,
}  # pydantic settings of the dataclasses below

PYDANTIC_PHRASES = {  # pydantic's wording to ours
    "Input should be": "expected",
    "should have": "expected",
    "Unexpected keyword argument": "unknown; expected the fields that this version of satseg writes",
    "Field required": "missing",
}


def check_printable(text: str) -> str:
    """Return a text unchanged if it has no line breaks or other control characters.

    Raises:
        ValueError: If it has any.
    """
    if any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in text):
        raise ValueError("expected text without line breaks and other control characters")
    return text


def check_dtype(name: str) -> str:
    """Return a dtype's name if images may have it.

    Raises:
        ValueError: If they may not; lists the supported ones.
    """
    if name not in DTYPES:
        raise ValueError(f"expected one of {', '.join(DTYPES)}")
    return name


Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME), AfterValidator(check_printable)]
Numbers = Annotated[tuple[float, ...], Field(max_length=MAX_BANDS)]
Positive = Annotated[float, Field(gt=0)]
Dtype = Annotated[str, AfterValidator(check_dtype)]
Byte = Annotated[int, Field(ge=0, le=255)]
Rgb = tuple[Byte, Byte, Byte]
MaskValue = int | Rgb


def is_nodata_per_band(nodata: float, dtype: Any) -> bool:
    """Return True if a pixel is invalid as soon as one band has the nodata value.

    If the value is 0 or the numbers have 8 bits, a single band may well have it as data, so all bands must.

    Args:
        nodata: The nodata value.
        dtype: Numpy dtype of the stored numbers, or its name.
    """
    return nodata != 0 and str(dtype) not in ("uint8", "int8")


@dataclass(frozen=True)
class BandStatistics:
    """Per-band statistics of the training split's valid pixels, in raw units."""

    __pydantic_config__ = SCHEMA

    minimum: Numbers
    maximum: Numbers
    mean: Numbers
    std: Numbers
    p02: Numbers
    p98: Numbers


@dataclass(frozen=True)
class InputSpec:
    """One image input: the meaning of its raw numbers, and how the network standardises them.

    Raw numbers become unit scale by ``(raw - offset) / scale`` and are then standardised by
    ``(unit - mean) / std``; ``mean`` and ``std`` are per band, at unit scale.

    Attributes:
        name: Key of the input.
        bands: Band names, in channel order.
        dtype: Numpy dtype name of the raw numbers.
        scale: Divisor that brings raw numbers to unit scale.
        offset: Subtracted before the division.
        nodata: Raw value of invalid pixels, if any; see `is_nodata_per_band`.
        gsd_m: Ground sampling distance in metres, the median of the training images; None if unknown.
        num_timesteps: Images per sample; 1 for a single image.
        mean: Standardisation mean; None until the backbone's own is filled in.
        std: Standard deviation for standardisation; None until the backbone's own is filled in.
        statistics: Per-band statistics of the training split.
        gsd_range_m: Shortest and longest pixel edge on the ground among the training images, in metres; None if unknown
            and in model files of earlier versions.
    """

    __pydantic_config__ = SCHEMA

    bands: Annotated[tuple[Name, ...], Field(min_length=1, max_length=MAX_BANDS)]
    dtype: Dtype
    scale: Positive
    offset: float = 0.0
    nodata: Annotated[float, Field(allow_inf_nan=True)] | None = None
    gsd_m: Positive | None = None
    num_timesteps: Annotated[int, Field(ge=1, le=MAX_TIMESTEPS)] = 1
    mean: Numbers | None = None
    std: Annotated[tuple[Positive, ...], Field(max_length=MAX_BANDS)] | None = None
    statistics: BandStatistics | None = None
    name: Name = "image"
    gsd_range_m: tuple[Positive, Positive] | None = None

    def __post_init__(self) -> None:
        if self.gsd_range_m is not None and self.gsd_range_m[0] > self.gsd_range_m[1]:
            raise SpecError(f"gsd_range_m: expected the shorter edge first, but got {list(self.gsd_range_m)}")
        numbers = {"mean": self.mean, "std": self.std}
        if self.statistics is not None:
            numbers |= {f"statistics.{key}": value for key, value in vars(self.statistics).items()}
        for key, value in numbers.items():
            if value is not None and len(value) != len(self.bands):
                raise SpecError(f"{key}: expected {len(self.bands)} numbers, one for each band, but got {len(value)}")


@dataclass(frozen=True)
class DatasetSpec:
    """Inputs, classes and colours: everything that a model needs to know about its dataset.

    Attributes:
        inputs: One for each image of a sample.
        class_names: K names.
        palette: K colours.
        ignore_index: Mask value of pixels without a class.
        mask_values: Values or colours of each class in the training masks, at most a hundred; the first is the one that
            is written to maps. None if masks were rasterized from polygons, and in model files of earlier versions.
    """

    __pydantic_config__ = SCHEMA

    inputs: tuple[InputSpec, ...]
    class_names: tuple[Name, ...]
    palette: tuple[Rgb, ...]
    ignore_index: int = IGNORE_INDEX
    mask_values: tuple[Annotated[tuple[MaskValue, ...], Field(max_length=MAX_MASK_VALUES)], ...] | None = None

    def __post_init__(self) -> None:
        if not self.inputs:
            raise SpecError("A dataset spec needs at least one input.")
        if not 2 <= len(self.class_names) <= MAX_CLASSES:
            raise SpecError(f"A dataset needs 2 to {MAX_CLASSES} classes, but it has {len(self.class_names)}.")
        if len(set(self.class_names)) != len(self.class_names):
            raise SpecError(f"Class names must differ: {', '.join(self.class_names)}.")
        if len(self.palette) != len(self.class_names):
            raise SpecError(f"{len(self.class_names)} classes need as many colours, but {len(self.palette)} are given.")
        if not len(self.class_names) <= self.ignore_index <= 255:
            raise SpecError(
                f"ignore_index={self.ignore_index}: expected {len(self.class_names)} to 255, the values of no class."
            )
        if self.mask_values is not None:
            self._check_mask_values(self.mask_values)

    def _check_mask_values(self, mask_values: tuple[tuple[MaskValue, ...], ...]) -> None:
        if len(mask_values) != len(self.class_names):
            raise SpecError(f"mask_values: expected those of {len(self.class_names)} classes, got {len(mask_values)}")
        all_values = [value for values in mask_values for value in values]
        if len(set(all_values)) != len(all_values):
            raise SpecError("mask_values: expected each value once")
        if any(isinstance(value, int) and abs(value) > LARGEST_MASK_VALUE for value in all_values):
            raise SpecError(f"mask_values: expected numbers up to ±{LARGEST_MASK_VALUE}")

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def in_channels(self) -> int:
        """Input channels of the network: bands of all inputs, over all timesteps."""
        return sum(len(i.bands) * i.num_timesteps for i in self.inputs)

    def to_dict(self) -> dict[str, Any]:
        """Return plain dicts, lists, numbers and strings for JSON."""
        plain: dict[str, Any] = _plain(asdict(self))
        return plain

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> DatasetSpec:
        """Rebuild a spec from the output of `to_dict`.

        Raises:
            ConfigError: If a key is missing or unknown, or a value does not fit; names the field.
        """
        try:
            return TypeAdapter(cls).validate_json(json.dumps(data))
        except ValidationError as error:
            raise ConfigError(f"The dataset spec cannot be read: {first_error(error)}.") from error


def first_error(error: ValidationError) -> str:
    """Return one line about pydantic's first error: the field, its value and what was expected."""
    found = error.errors(include_url=False)[0]
    message = found["msg"].removeprefix("Value error, ").rstrip(".")
    for theirs, ours in PYDANTIC_PHRASES.items():
        message = message.replace(theirs, ours)
    place = ""
    for part in found["loc"]:
        known = isinstance(part, int) or re.fullmatch(r"\w{1,40}", part)
        place += f"[{part if known else repr(part)[:40]}]" if isinstance(part, int) or not known else f".{part}"
    given = found["input"]
    shown = f" is {given!r}" if isinstance(given, str | int | float | bool | None) and place else ""
    return f"{place.lstrip('.')}{shown[:60]}: {message}".lstrip(": ")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    return value
