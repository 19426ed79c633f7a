"""Explanation of images one by one, and the files that it writes."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import chain, count
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from satseg.attribution import (
    LAYER_METHODS,
    Explanation,
    Layer,
    PredictionComparison,
    Region,
    compare_with_prediction,
    explain,
    layers_of,
)
from satseg.data.rasters.writing import write_raster
from satseg.devices import out_of_memory_advice
from satseg.errors import EmptyRegionError
from satseg.explain.images import Picture
from satseg.explain.options import ExplainOptions
from satseg.files import write_json
from satseg.inference.windows import segment
from satseg.models import SegmentationNetwork
from satseg.spec import DatasetSpec
from satseg.visualization.display import to_rgb
from satseg.visualization.figures import plot_evidence, save_picture
from satseg.visualization.overlays import heat

Row = dict[str, Any]


@dataclass(frozen=True)
class EvidenceMap:
    """The evidence in one image, with its context.

    Attributes:
        picture: The image.
        predicted: Class indices (H, W).
        comparison: Comparison of the map with the prediction.
        title: The explained class, as text.
        region: The explained region.
        method: One of METHODS.
        found: The evidence.
    """

    picture: Picture
    predicted: Tensor
    comparison: PredictionComparison
    title: str
    region: Region
    method: str
    found: Explanation

    def row(self, band_names: Sequence[str]) -> Row:
        """Return the numbers for the record, by name."""
        row: Row = {"image": self.picture.name, "target": self.title, "method": self.method, "layer": self.found.layer}
        row |= {"region": self.region.name, "region_pixels": int(self.region.pixels.sum())}
        row["has_evidence"] = self.found.has_evidence
        row["adds"] = asdict(self.comparison) | {"repeats": self.comparison.repeats, "words": self.comparison.summary}
        if self.found.bands is not None:
            row["bands"] = dict(zip(band_names, self.found.bands.tolist(), strict=True))
        return row


def explain_pictures(
    network: SegmentationNetwork, pictures: Iterable[Picture], options: ExplainOptions, folder: Path
) -> list[Row]:
    """Explain images one by one; write their files and, after each image, the list `explanations.json`.

    Returns:
        One row per map.

    Raises:
        EmptyRegionError: If no image has a pixel of the region.
        ResourceError: If memory runs out.
    """
    rows: list[Row] = []
    taken: set[str] = set()
    for picture in pictures:
        try:
            with out_of_memory_advice(f"{picture.name}: name a part of it, such as window='[0,0,512,512]'."):
                for row in _explain_picture(network, picture, options, folder, taken):
                    rows.append(row)
        finally:
            if rows:
                write_json(folder / "explanations.json", rows)
    if not rows:
        raise EmptyRegionError(
            "Nothing was explained: no image has a pixel of the region; choose another target or region."
        )
    return rows


def _explain_picture(
    network: SegmentationNetwork, picture: Picture, options: ExplainOptions, folder: Path, taken: set[str]
) -> Iterator[Row]:
    device = next(network.parameters()).device
    image, valid = picture.image.to(device), picture.valid.to(device)
    probabilities = segment(network, image, valid)[0].softmax(0)
    predicted = probabilities.argmax(0).cpu()
    layers: Sequence[str | Layer] = ["auto"]
    if options.method in LAYER_METHODS:
        layers = layers_of(network, image, valid, options.layers)
    for target in options.targets:
        name = network.spec.class_names[target]
        region = options.region_of(picture, target, name, predicted)
        if not region.pixels.any():
            print(f"{picture.name}: no usable pixel in the region ({region.name}) for {name}.", file=sys.stderr)
            continue
        pixels, against, method = region.pixels.to(device), options.against, options.method
        for layer in layers:
            found = explain(network, image, valid, pixels, target, against=against, method=method, layer=layer)
            title = options.title(target, network.spec.class_names)
            parts = [picture.name, title, options.region_name, method, found.layer]
            area = (predicted == target).to(device)
            comparison = compare_with_prediction(found.evidence, probabilities[target], area, valid[0])
            evidence_map = EvidenceMap(picture, predicted, comparison, title, region, method, found)
            yield write_map(evidence_map, network.spec, folder, _unique_stem("_".join(filter(None, parts)), taken))


def write_map(evidence_map: EvidenceMap, spec: DatasetSpec, folder: Path, stem: str) -> Row:
    """Write map, overlay and sheet; return the numbers for the record with the file names."""
    picture, found = evidence_map.picture, evidence_map.found
    if not found.has_evidence:
        print(
            f"{picture.name}: no evidence for {evidence_map.title} at {found.layer}; the map has no positive part.",
            file=sys.stderr,
        )
    evidence, rgb = found.evidence.cpu().numpy(), to_rgb(picture.image[0], picture.valid[0], spec)
    names = {"map": f"{stem}.tif", "overlay": f"{stem}_overlay.png", "sheet": f"{stem}_sheet.png"}
    place: dict[str, Any] = {"crs": picture.crs, "transform": picture.transform}
    write_raster(folder / names["map"], evidence[None], band_names=[f"evidence for {evidence_map.title}"], **place)
    overlaid = heat(rgb, evidence)
    save_picture(overlaid, folder / names["overlay"])
    plot_evidence(
        picture.name,
        f"{evidence_map.title} · {evidence_map.method} at {found.layer} · region: {evidence_map.region.name}",
        (
            rgb,
            np.where(picture.valid[0].numpy(), evidence_map.predicted.numpy(), spec.ignore_index),
            evidence,
            overlaid,
        ),
        spec.class_names,
        spec.palette,
        evidence_map.region.pixels.numpy(),
        folder / names["sheet"],
        unit="relative" if evidence_map.method == "gradcam" else "logit",
        note=evidence_map.comparison.summary,
    )
    return evidence_map.row(spec.inputs[0].bands) | names


def _unique_stem(name: str, taken: set[str]) -> str:
    """Return a file name that is unique in this call, with unsafe characters replaced."""
    stem = re.sub(r"[^\w.+-]+", "_", name)
    free = next(s for s in chain([stem], (f"{stem}_{n}" for n in count(2))) if s.casefold() not in taken)
    taken.add(free.casefold())
    return free
