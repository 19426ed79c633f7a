"""The parts of `satseg.explain`: what is asked, and what is written about it."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, ListConfig
from torch import Tensor

from satseg.attribution import LAYER_METHODS, METHODS, Explanation, Region, explain, find_region
from satseg.data.raster import read_window, write_raster
from satseg.errors import ConfigError, EmptyRegionError
from satseg.files import write_json
from satseg.inference.windows import segment
from satseg.models import SegmentationNetwork
from satseg.pictures import Picture, find_pictures
from satseg.reporting import to_rgb
from satseg.runs import run_folder
from satseg.spec import DatasetSpec
from satseg.visualization.figures import plot_evidence, save_picture
from satseg.visualization.overlays import heat

__all__ = ["Question", "explain_picture", "find_pictures", "output_folder"]

Row = dict[str, Any]


@dataclass(frozen=True)
class Question:
    """What is asked of every image.

    Attributes:
        targets: Indices of the classes to explain.
        against: Index of the class to contrast with, where there is one.
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
    def from_config(cls, cfg: DictConfig, class_names: Sequence[str]) -> Question:
        """Read the options.

        Raises:
            ConfigError: If a class or method is unknown, or no class is named.
        """
        if cfg.method not in METHODS:
            raise ConfigError(f"method={cfg.method}: choose {', '.join(METHODS)}.")
        pair = list(cfg.contrast) if isinstance(cfg.contrast, ListConfig) else []
        names = [str(name) for name in (pair or [cfg.target])]  # a class may be called 1
        if cfg.contrast is not None and (cfg.target is not None or len(pair) != 2):
            raise ConfigError("contrast= takes two classes, '[water,road]', and stands instead of target=.")
        everything = names == ["all"]
        for name in [] if everything else names:
            if name not in class_names:
                raise ConfigError(f"target={name}: choose all, or one of {', '.join(class_names)}.")
        targets = range(len(class_names)) if everything else [class_names.index(names[0])]
        against = class_names.index(names[1]) if len(names) == 2 else None
        region = list(cfg.region) if isinstance(cfg.region, ListConfig) else str(cfg.region)
        layers = list(cfg.layer) if isinstance(cfg.layer, ListConfig) else [cfg.layer]
        if cfg.method not in LAYER_METHODS or not layers:
            layers = ["auto"]
        return cls(tuple(targets), against, region, cfg.method, tuple(map(str, layers)))

    def close(self, written: Sequence[Row], folder: Path) -> None:
        """Write the list of what was explained, and say where it is.

        Raises:
            EmptyRegionError: If nothing was.
        """
        if not written:
            raise EmptyRegionError(
                "Nothing was explained: no image has a pixel of the region; choose another target or region."
            )
        write_json(folder / "explanations.json", list(written))
        print(f"{len(written)} explanations: {folder}")


def output_folder(output: str | None, checkpoint: Path) -> Path:
    """Return the folder to write to: the one named, or `explanations` in the model's run folder."""
    return Path(output) if output else run_folder(checkpoint) / "explanations"


def explain_picture(network: SegmentationNetwork, picture: Picture, question: Question, folder: Path) -> Iterator[Row]:
    """Explain one image, class by class and layer by layer; write the files and say what is in them."""
    device = next(network.parameters()).device
    image, valid = picture.image.to(device), picture.valid.to(device)
    predicted = segment(network, image, valid)[0].argmax(0)
    for target in question.targets:
        try:
            region = _region(question, target, network.spec, predicted, picture)
        except EmptyRegionError as error:
            print(f"{picture.name}: {error}", file=sys.stderr)
            continue
        for layer in question.layers:
            found = explain(
                network,
                image,
                valid,
                region.pixels.to(device),
                target,
                against=question.against,
                method=question.method,
                layer=layer,
            )
            yield _write(network.spec, picture, predicted, question, target, region, found, folder)


def _region(question: Question, target: int, spec: DatasetSpec, predicted: Tensor, picture: Picture) -> Region:
    name, wanted = spec.class_names[target], question.region
    if isinstance(wanted, str) and wanted not in ("predicted", "true"):
        mask = read_window(Path(wanted))[0]
        if mask.shape != tuple(predicted.shape):
            size = f"{mask.shape[1]} x {mask.shape[0]}"
            raise ConfigError(
                f"region={wanted} has {size} pixels, but {picture.name} {predicted.shape[1]} x {predicted.shape[0]}."
            )
        region = Region(torch.from_numpy(mask != 0), "mask")
    else:
        region = find_region(wanted, target, name, predicted.cpu(), picture.truth)
    seen = Region(region.pixels & picture.valid[0], region.name)
    if not seen.pixels.any():
        raise EmptyRegionError(f"no pixel of the region ({region.name}) can be used for {name}.")
    return seen


def _write(
    spec: DatasetSpec,
    picture: Picture,
    predicted: Tensor,
    question: Question,
    target: int,
    region: Region,
    found: Explanation,
    folder: Path,
) -> Row:
    title = spec.class_names[target]
    if question.against is not None:
        title = f"{title} against {spec.class_names[question.against]}"
    stem = re.sub(r"[^\w.+-]+", "_", f"{picture.name}_{title}_{question.method}_{found.layer}")
    evidence, rgb = found.evidence.cpu().numpy(), to_rgb(picture.image[0], picture.valid[0], spec)
    if not found.has_evidence:
        print(
            f"{picture.name}: nothing speaks for {title} at {found.layer}; the map has no positive part.",
            file=sys.stderr,
        )
    write_raster(
        folder / f"{stem}.tif",
        evidence[None],
        crs=picture.crs,
        transform=picture.transform,
        band_names=[f"evidence for {title}"],
    )
    overlaid = heat(rgb, evidence)
    save_picture(overlaid, folder / f"{stem}_overlay.png")
    outside = np.where(picture.valid[0].numpy(), predicted.cpu().numpy(), spec.ignore_index)
    subtitle = f"{title} · {question.method} at {found.layer} · region: {region.name}"
    plot_evidence(
        picture.name,
        subtitle,
        (rgb, outside, evidence, overlaid),
        spec.class_names,
        spec.palette,
        region.pixels.numpy(),
        folder / f"{stem}_sheet.png",
    )
    row: Row = {"image": picture.name, "target": title, "method": question.method, "layer": found.layer}
    row |= {"region": region.name, "region_pixels": int(region.pixels.sum()), "has_evidence": found.has_evidence}
    if found.bands is not None:
        row["bands"] = dict(zip(spec.inputs[0].bands, found.bands.tolist(), strict=True))
    return row | {"map": f"{stem}.tif", "overlay": f"{stem}_overlay.png", "sheet": f"{stem}_sheet.png"}
