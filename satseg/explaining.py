"""The parts of `satseg.explain`: what is asked, and what is written about it."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, ListConfig
from torch import Tensor

from satseg.attribution import LAYER_METHODS, METHODS, Explanation, Layer, Region, explain, find_region, layers_of
from satseg.data.raster import read_image, read_info, write_raster
from satseg.devices import out_of_memory
from satseg.errors import ConfigError, EmptyRegionError, ResourceError
from satseg.files import write_json
from satseg.inference.windows import segment
from satseg.models import SegmentationNetwork
from satseg.pictures import Picture
from satseg.reporting import to_rgb
from satseg.runs import run_folder
from satseg.spec import DatasetSpec
from satseg.visualization.figures import plot_evidence, save_picture
from satseg.visualization.overlays import heat

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
        return cls(tuple(targets), against, region, cfg.method, tuple(map(str, layers or ["auto"])))

    @property
    def region_name(self) -> str:
        """The region as part of a file name."""
        if isinstance(self.region, str):
            return Path(self.region).stem
        return "_".join(map(str, self.region))


def output_folder(output: str | None, checkpoint: Path, name: str) -> Path:
    """Return the folder to write to: the one that the user named, or one in the model's run folder."""
    return Path(output) if output else run_folder(checkpoint) / name


def check_report(cfg: DictConfig) -> None:
    """Refuse options that a report has no use for.

    Raises:
        ConfigError: If no split is named, or a single image or class is.
    """
    if cfg.split is None:
        raise ConfigError("report=true needs labels: name a split, split=train, val or test.")
    for key in ("input", "window", "target", "contrast"):
        if cfg[key] is not None:
            raise ConfigError(f"report=true looks at a whole split and all its classes: leave out {key}=.")


def explain_pictures(
    network: SegmentationNetwork, pictures: Iterable[Picture], question: Question, folder: Path
) -> list[Row]:
    """Explain images one by one; write the files, and after each image the list of them, `explanations.json`.

    Returns:
        What was explained, a row a map.

    Raises:
        EmptyRegionError: If no image has a pixel of the region.
        ResourceError: If memory runs out.
    """
    rows: list[Row] = []
    taken: set[str] = set()
    for picture in pictures:
        try:
            for row in _explain_picture(network, picture, question, folder, taken):
                rows.append(row)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            raise ResourceError(
                f"{picture.name}: memory ran out; name a part of it, such as window='[0,0,512,512]'."
            ) from error
        finally:
            if rows:
                write_json(folder / "explanations.json", rows)
    if not rows:
        raise EmptyRegionError(
            "Nothing was explained: no image has a pixel of the region; choose another target or region."
        )
    return rows


def _explain_picture(
    network: SegmentationNetwork, picture: Picture, question: Question, folder: Path, taken: set[str]
) -> Iterator[Row]:
    device = next(network.parameters()).device
    image, valid = picture.image.to(device), picture.valid.to(device)
    predicted = segment(network, image, valid)[0].argmax(0).cpu()
    layers: Sequence[str | Layer] = ["auto"]
    if question.method in LAYER_METHODS:
        layers = layers_of(network, image, valid, question.layers)
    for target in question.targets:
        region = _region(question, target, network.spec, predicted, picture)
        if not region.pixels.any():
            name = network.spec.class_names[target]
            print(f"{picture.name}: no pixel of the region ({region.name}) can be used for {name}.", file=sys.stderr)
            continue
        pixels, against, method = region.pixels.to(device), question.against, question.method
        for layer in layers:
            found = explain(network, image, valid, pixels, target, against=against, method=method, layer=layer)
            yield _write(network.spec, picture, predicted, question, target, region, found, folder, taken)


def _region(question: Question, target: int, spec: DatasetSpec, predicted: Tensor, picture: Picture) -> Region:
    wanted = question.region
    if isinstance(wanted, str) and wanted not in ("predicted", "true"):
        region = _mask_file(Path(wanted), predicted.shape, picture)
    else:
        region = find_region(wanted, target, spec.class_names[target], predicted, picture.truth)
    return Region(region.pixels & picture.valid[0], region.name)


def _mask_file(path: Path, shape: torch.Size, picture: Picture) -> Region:
    """Read a mask of the whole image or of the window alone; any band that is not 0 counts."""
    info = read_info(path)
    whole = picture.window is not None and (info.height, info.width) != tuple(shape)
    mask, valid = read_image(path, picture.window if whole else None)
    if mask.shape[1:] != tuple(shape):
        raise ConfigError(
            f"region={path} has {info.width} x {info.height} pixels, but {picture.name} {shape[1]} x {shape[0]}."
        )
    return Region(torch.from_numpy((mask != 0).any(0) & valid), "mask")


def _write(
    spec: DatasetSpec,
    picture: Picture,
    predicted: Tensor,
    question: Question,
    target: int,
    region: Region,
    found: Explanation,
    folder: Path,
    taken: set[str],
) -> Row:
    title = spec.class_names[target]
    if question.against is not None:
        title = f"{title} against {spec.class_names[question.against]}"
    place = [] if region.name.startswith("predicted") else [question.region_name]
    stem = _free("_".join([picture.name, title, *place, question.method, found.layer]), taken)
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
    plot_evidence(
        picture.name,
        f"{title} · {question.method} at {found.layer} · region: {region.name}",
        (rgb, np.where(picture.valid[0].numpy(), predicted.numpy(), spec.ignore_index), evidence, overlaid),
        spec.class_names,
        spec.palette,
        region.pixels.numpy(),
        folder / f"{stem}_sheet.png",
        unit="relative" if question.method == "gradcam" else "logit",
    )
    row: Row = {"image": picture.name, "target": title, "method": question.method, "layer": found.layer}
    row |= {"region": region.name, "region_pixels": int(region.pixels.sum()), "has_evidence": found.has_evidence}
    if found.bands is not None:
        row["bands"] = dict(zip(spec.inputs[0].bands, found.bands.tolist(), strict=True))
    return row | {"map": f"{stem}.tif", "overlay": f"{stem}_overlay.png", "sheet": f"{stem}_sheet.png"}


def _free(name: str, taken: set[str]) -> str:
    """Return a file name that no other map of this call has, without what file names of ours do not hold."""
    stem = re.sub(r"[^\w.+-]+", "_", name)
    free = next(s for s in chain([stem], (f"{stem}_{n}" for n in count(2))) if s.casefold() not in taken)
    taken.add(free.casefold())
    return free
