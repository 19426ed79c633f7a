"""Options of `satseg.explain`: classes, region, method and layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from omegaconf import DictConfig, ListConfig
from torch import Tensor

from satseg.attribution import LAYER_METHODS, METHODS, Region, find_region
from satseg.data.rasters.header import read_info
from satseg.data.rasters.raster import read_image
from satseg.errors import ConfigError
from satseg.explain.images import Picture


@dataclass(frozen=True)
class ExplainOptions:
    """The options of an explanation, applied to every image.

    Attributes:
        targets: Indices of the classes to explain.
        against: Index of the class to contrast with, if any.
        region: As for `find_region`, or the path of a mask file.
        method: One of METHODS.
        layers: Names, as for `find_layer`.
    """

    targets: tuple[int, ...]
    against: int | None
    region: str | list[int]
    method: str
    layers: tuple[str, ...]

    @classmethod
    def from_config(cls, cfg: DictConfig, class_names: Sequence[str]) -> ExplainOptions:
        """Return the options of a configuration.

        Raises:
            ConfigError: If a class or method is unknown, a layer is given to a method without layers, or none is given.
        """
        method = cfg.method or ("occlusion" if cfg.layer is None else "gradcam")
        if method not in METHODS:
            raise ConfigError(f"method={method}: choose {', '.join(METHODS)}.")
        if cfg.layer is not None and method not in LAYER_METHODS:
            raise ConfigError(f"layer= is for method={' and method='.join(LAYER_METHODS)}; leave it out with {method}.")
        pair = list(cfg.contrast) if isinstance(cfg.contrast, ListConfig) else []
        names = [str(name) for name in (pair or [cfg.target])]  # a class may be called 1
        if cfg.contrast is not None and (cfg.target is not None or len(pair) != 2):
            raise ConfigError("contrast= takes two classes, '[water,road]', in place of target=.")
        everything = names == ["all"]
        for name in [] if everything else names:
            if name not in class_names:
                raise ConfigError(f"target={name}: choose all, or one of {', '.join(class_names)}.")
        targets = range(len(class_names)) if everything else [class_names.index(names[0])]
        against = class_names.index(names[1]) if len(names) == 2 else None
        region = list(cfg.region) if isinstance(cfg.region, ListConfig) else str(cfg.region)
        layers = list(cfg.layer) if isinstance(cfg.layer, ListConfig) else [cfg.layer]
        return cls(tuple(targets), against, region, method, tuple(str(layer or "auto") for layer in layers or ["auto"]))

    @property
    def region_name(self) -> str:
        """The region as part of a file name; empty for the default."""
        if isinstance(self.region, str):
            return "" if self.region == "predicted" else Path(self.region).stem
        return "_".join(map(str, self.region))

    def title(self, target: int, class_names: Sequence[str]) -> str:
        """Return a description of what is explained."""
        against = "" if self.against is None else f" against {class_names[self.against]}"
        return class_names[target] + against

    def region_of(self, picture: Picture, target: int, class_name: str, predicted: Tensor) -> Region:
        """Return the region in an image without invalid pixels; it may be empty.

        Raises:
            ConfigError: If it does not fit the image, or needs an unknown truth.
        """
        wanted = self.region
        if isinstance(wanted, str) and wanted not in ("predicted", "true"):
            region = _mask_file(Path(wanted), predicted.shape, picture)
        else:
            region = find_region(wanted, target, class_name, predicted, picture.truth)
        return Region(region.pixels & picture.valid[0], region.name)


def _mask_file(path: Path, shape: torch.Size, picture: Picture) -> Region:
    """Read a mask of the whole image or of the window only; a pixel counts if any band is not 0."""
    info = read_info(path)
    whole = picture.window is not None and (info.height, info.width) != tuple(shape)
    mask, valid = read_image(path, picture.window if whole else None)
    if mask.shape[1:] != tuple(shape):
        raise ConfigError(
            f"region={path} has {info.width} x {info.height} pixels, but {picture.name} {shape[1]} x {shape[0]}."
        )
    return Region(torch.from_numpy((mask != 0).any(0) & valid), "mask")
