"""Options of `satseg.export`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig, ListConfig

from satseg.errors import ConfigError
from satseg.runtimes.graph import Size

SUFFIXES = {
    "onnx": (".onnx",),
    "torchscript": (".ts", ".pt"),
    "openvino": (".xml",),
    "safetensors": (".safetensors",),
    "pth": (".pth",),
}
WITH_SIZE = ("onnx", "torchscript", "openvino")
NAME = "segmentation_model"
SMALLEST_SIDE = 32


@dataclass(frozen=True)
class Request:
    """An export request.

    Attributes:
        format: A key of SUFFIXES.
        output: Output file, with suffix.
        size: Height and width in pixels for a fixed input size.
        int8: Quantise to 8 bits.
    """

    format: str
    output: Path
    size: Size | None
    int8: bool

    @classmethod
    def from_config(cls, cfg: DictConfig) -> Request:
        """Return the request of a configuration.

        Raises:
            ConfigError: If an option is invalid, or not supported by the format.
        """
        if cfg.format not in SUFFIXES:
            raise ConfigError(f"format={cfg.format}: choose {', '.join(SUFFIXES)}.")
        size = None if cfg.size is None else _size(cfg.size)
        if size and cfg.format not in WITH_SIZE:
            raise ConfigError(
                f"size= has no effect for format={cfg.format}, which takes images of any size: leave it out."
            )
        if cfg.int8 and cfg.format != "openvino":
            raise ConfigError(f"int8=true needs format=openvino, not format={cfg.format}.")
        if cfg.int8 and size:
            raise ConfigError("int8=true does not support size=, as the loss of accuracy is measured on whole images.")
        return cls(cfg.format, _with_suffix(str(cfg.output), cfg.format), size, bool(cfg.int8))


def _size(value: object) -> Size:
    sides = list(value) if isinstance(value, ListConfig) else []
    if len(sides) != 2 or not all(type(side) is int and side >= SMALLEST_SIDE for side in sides):
        raise ConfigError(
            f"size={value}: expected '[height,width]' in pixels, each at least {SMALLEST_SIDE}, such as '[512,512]'."
        )
    return sides[0], sides[1]


def _with_suffix(output: str, name: str) -> Path:
    path, suffixes = Path(output), SUFFIXES[name]
    if path.is_dir() or output.endswith("/"):
        path = path / NAME
    if path.suffix in suffixes:
        return path
    if path.suffix[1:2].isalpha():  # a suffix, unlike in model_v1.2
        raise ConfigError(
            f"output={path}: a file of format={name} has the suffix {' or '.join(suffixes)}; without one it is added."
        )
    return path.with_name(path.name + suffixes[0])
