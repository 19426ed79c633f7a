"""What a model needs to know of the data it was trained on; travels inside the model file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from satseg.errors import ConfigError

IGNORE_INDEX = 255
MAX_CLASSES = 255  # masks are uint8 inside satseg, and one value is the ignore index


def marks_alone(nodata: float, dtype: Any) -> bool:
    """Tell whether a pixel is missing where a single band has the nodata value.

    Not where that is 0 or the numbers have 8 bits: there each band alone may well have the value, and all must.

    Args:
        nodata: The value.
        dtype: Numpy dtype of the numbers, or its name.
    """
    return nodata != 0 and str(dtype) not in ("uint8", "int8")


@dataclass(frozen=True)
class BandStatistics:
    """Per-band numbers of the training split's valid pixels, in raw units."""

    minimum: tuple[float, ...]
    maximum: tuple[float, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    p02: tuple[float, ...]
    p98: tuple[float, ...]


@dataclass(frozen=True)
class InputSpec:
    """One image input: what its raw numbers mean and how the network standardises them.

    Raw numbers become unit scale by ``(raw - offset) / scale`` and are then standardised by
    ``(unit - mean) / std``; ``mean`` and ``std`` are per band, at unit scale.

    Attributes:
        name: Key of the input.
        bands: Band names in the order of the channels.
        dtype: Numpy dtype name of the raw numbers.
        scale: Divisor to unit scale.
        offset: Subtracted before the division.
        nodata: Raw value that marks an invalid pixel, where there is one; see `marks_alone`.
        gsd_m: Ground sampling distance in metres, where it is known.
        num_timesteps: Images per sample; 1 for a single image.
        mean: Standardisation mean; None until the backbone's own is filled in.
        std: Standardisation deviation; None until the backbone's own is filled in.
        statistics: The training split's raw numbers.
    """

    bands: tuple[str, ...]
    dtype: str
    scale: float
    offset: float = 0.0
    nodata: float | None = None
    gsd_m: float | None = None
    num_timesteps: int = 1
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    statistics: BandStatistics | None = None
    name: str = "image"


@dataclass(frozen=True)
class DatasetSpec:
    """Inputs, classes and colours: all that serving a model needs, without its dataset."""

    inputs: tuple[InputSpec, ...]
    class_names: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    ignore_index: int = IGNORE_INDEX

    def __post_init__(self) -> None:
        if not self.inputs:
            raise ConfigError("A dataset spec needs at least one input.")
        if not 2 <= len(self.class_names) <= MAX_CLASSES:
            raise ConfigError(f"A dataset needs 2 to {MAX_CLASSES} classes, but it has {len(self.class_names)}.")
        if len(set(self.class_names)) != len(self.class_names):
            raise ConfigError(f"Class names must differ: {', '.join(self.class_names)}.")
        if len(self.palette) != len(self.class_names):
            raise ConfigError(
                f"{len(self.class_names)} classes need as many colours, but {len(self.palette)} are given."
            )

    @property
    def num_classes(self) -> int:
        """How many classes a pixel may have."""
        return len(self.class_names)

    @property
    def in_channels(self) -> int:
        """Channels that the network sees: bands of all inputs, over all timesteps."""
        return sum(len(i.bands) * i.num_timesteps for i in self.inputs)

    def to_dict(self) -> dict[str, Any]:
        """Return plain dicts, lists, numbers and strings, ready for JSON."""
        plain: dict[str, Any] = _plain(asdict(self))
        return plain

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> DatasetSpec:
        """Rebuild a spec from `to_dict`'s output.

        Raises:
            ConfigError: If a key is missing or unknown, or a value does not fit.
        """
        try:
            return cls(
                inputs=tuple(_input_from_dict(i) for i in data["inputs"]),
                class_names=tuple(str(n) for n in data["class_names"]),
                palette=tuple((int(r), int(g), int(b)) for r, g, b in data["palette"]),
                ignore_index=int(data["ignore_index"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ConfigError(f"The dataset spec cannot be read: {error!r}.") from error


def _input_from_dict(data: Mapping[str, Any]) -> InputSpec:
    fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
    if fields.get("statistics") is not None:
        fields["statistics"] = BandStatistics(**{k: tuple(map(float, v)) for k, v in fields["statistics"].items()})
    return InputSpec(**fields)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    return value
