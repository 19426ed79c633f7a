"""What `satseg.export` is asked."""

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
    """A file that is wanted.

    Attributes:
        format: A key of SUFFIXES.
        output: The file, with its suffix.
        size: Height and width in pixels where it is to take images of one size only.
        int8: Whether it is quantised.
    """

    format: str
    output: Path
    size: Size | None
    int8: bool

    @classmethod
    def from_config(cls, cfg: DictConfig) -> Request:
        """Read the options.

        Raises:
            ConfigError: If an option is unknown, or does not go with the format.
        """
        if cfg.format not in SUFFIXES:
            raise ConfigError(f"format={cfg.format}: choose {', '.join(SUFFIXES)}.")
        size = None if cfg.size is None else _size(cfg.size)
        if size and cfg.format not in WITH_SIZE:
            raise ConfigError(f"size= has no meaning for format={cfg.format}, which takes any: leave it out.")
        if cfg.int8 and cfg.format != "openvino":
            raise ConfigError(f"int8=true goes with format=openvino, not with format={cfg.format}.")
        if cfg.int8 and size:
            raise ConfigError("int8=true goes without size=, as its loss is measured on whole images.")
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
    if path.suffix[1:2].isalpha():  # not that of model_v1.2
        raise ConfigError(
            f"output={path}: a file of format={name} ends in {' or '.join(suffixes)}, or in nothing to have that added."
        )
    return path.with_name(path.name + suffixes[0])
