"""Groups of mutated files that share a process: their input channel, and the model that segments them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mutated_compare import CLASSES, hashed
from mutated_originals import Kind, write_model
from torch import Tensor


@dataclass(frozen=True)
class Group:
    """Cases that share a process: one input channel and, for segmentation, one model.

    Attributes:
        channel: The input channel.
        bands: Of the model's images.
        dtype: Of these.
    """

    channel: str
    bands: int = 0
    dtype: str = ""

    @property
    def model(self) -> str:
        """The model's folder."""
        return f"m{self.bands}_{self.dtype}"


CHANNELS: dict[str, tuple[str, ...]] = {
    "image": ("predict", "api", "validate"),
    "mask": ("validate",),
    "band": ("validate",),
    "polygons": ("validate",),
    "model": ("load_model",),
    "run": ("load_model",),
}


def group_of(channel: str, kind: Kind) -> Group:
    """Return the group of a case."""
    return Group(channel, kind.bands, kind.dtype) if channel in ("predict", "api") else Group(channel)


class PixelsAsClasses:
    """An engine that maps each pixel to a hash of its raw values, so that the map shows what was read."""

    name, batch_size = "torch", 1

    def __init__(self, spec: Any) -> None:
        self.spec = spec

    def __call__(self, image: Tensor, valid: Tensor) -> Tensor:
        scores = torch.zeros(len(image), CLASSES, *image.shape[2:])
        for one, own in zip(image.numpy(), scores, strict=True):
            own.scatter_(0, torch.from_numpy(hashed(one))[None], 9.0)
        return scores


def show_pixels() -> None:
    """Use `PixelsAsClasses` for all segmentation in this process."""
    from satseg.predict import models

    models.open_engine = lambda path, network, *options, **more: PixelsAsClasses(network.spec)  # type: ignore[assignment]


def make_models(work: Path, kinds: Sequence[Kind]) -> None:
    """Write the models for the kinds of images."""
    for kind in kinds:
        if kind.part == "image":
            path = work / "models" / group_of("predict", kind).model / "model.safetensors"
            if not path.exists():
                write_model(path, kind)
