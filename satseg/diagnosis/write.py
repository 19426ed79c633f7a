"""A diagnosis as files: one page, its pictures, and the numbers."""

from __future__ import annotations

import math
from collections.abc import Collection
from pathlib import Path

import numpy as np
import torch

from satseg.attribution.context import CLEAR, DRAWS, MARGIN, SHARE
from satseg.attribution.faithfulness import FRACTIONS
from satseg.attribution.replacement import blurred, replaced
from satseg.diagnosis.cases import Case
from satseg.diagnosis.diagnose import Diagnosis, Pair
from satseg.diagnosis.leaning import Leaning
from satseg.diagnosis.record import to_record
from satseg.diagnosis.words import SUSPICIOUS, lean_words, pair_words, summary
from satseg.files import write_json, write_text
from satseg.inference.windows import segment
from satseg.models import SegmentationNetwork
from satseg.reporting import to_rgb
from satseg.spec import DatasetSpec
from satseg.visualization.figures import Panel, plot_confusion_matrix, plot_panels, plot_trust
from satseg.visualization.overlays import signed_heat
from satseg.visualization.page import Picture, read_picture, render_page
from satseg.visualization.palette import colourise

SHOWN = 3  # cases of a kind in pictures
REGION, PATCH = "#ffffff", "#ff2d95"


def write_diagnosis(found: Diagnosis, network: SegmentationNetwork, split: str, title: str, folder: Path) -> Path:
    """Write diagnosis.json, diagnosis.html and the pictures in it.

    Returns:
        Path of the page, which needs no other file.
    """
    spec, names = network.spec, network.spec.class_names
    write_json(folder / "diagnosis.json", to_record(found, names, split))
    figures = folder / "figures"
    plot_confusion_matrix(found.survey.matrix, names, figures / "confusion_matrix.png")
    if found.trust:
        _plot_trust(found, figures / "trust.png")
    rates, passing = found.survey.matrix.sum(1), {t.layer for t in found.trust if t.passes}
    page = render_page(
        "diagnosis.html",
        {
            "percent": lambda v: f"{v:.1%}",
            "signed": lambda v: "–" if math.isnan(v) else f"{v:+.3f}",
            "loss": lambda v: f"{v:.4f}",
        },
        title=title,
        split=split,
        summary=summary(found, names),
        shortcut=bool(found.shortcuts),
        confusion=read_picture("", "", figures / "confusion_matrix.png"),
        pairs=[
            (names[t], names[p], int(found.survey.matrix[t, p]), found.survey.matrix[t, p] / max(rates[t], 1))
            for t, p in found.survey.confused_pairs()[:10]
        ],
        errors=[
            (pair_words(pair, found, names), _pair_pictures(pair, i, spec, passing, figures))
            for i, pair in enumerate(found.pairs)
        ],
        leaning=[
            (leaning.shortcut, lean_words(leaning, names), _lean_pictures(network, leaning, figures))
            for leaning in sorted(_all_leaning(found), key=lambda v: (not v.shortcut, -v.excess))
        ],
        bands=found.bands,
        trust=found.trust,
        trust_picture=read_picture("", "", figures / "trust.png") if found.trust else None,
        margin=MARGIN,
        context=SHARE,
        draws=DRAWS,
        clear=CLEAR,
        doubts=[
            (d.image, d.share, names[d.truth], names[d.predicted])
            for d in found.survey.disagreements[:20]
            if d.share >= SUSPICIOUS
        ],
    )
    write_text(folder / "diagnosis.html", page)
    return folder / "diagnosis.html"


def _all_leaning(found: Diagnosis) -> list[Leaning]:
    return [*found.classes, *(pair.leaning for pair in found.pairs if pair.leaning)]


def _plot_trust(found: Diagnosis, path: Path) -> None:
    lines = [
        (t.layer, t.curves[0].deletion, t.curves[0].insertion, t.curves[1].deletion, t.curves[1].insertion)
        for t in found.trust
    ]
    plot_trust(lines, FRACTIONS, path)


def _pair_pictures(pair: Pair, number: int, spec: DatasetSpec, passing: Collection[str], folder: Path) -> list[Picture]:
    """Draw crop, truth, prediction, and the three maps of each layer, an error a picture."""
    truth, predicted = spec.class_names[pair.truth], spec.class_names[pair.predicted]
    pictures = []
    for i, (case, maps) in enumerate(pair.errors[:SHOWN]):
        rgb, region = _rgb(case, spec), [(REGION, case.pixels.cpu().numpy())]
        panels = [
            Panel("image", rgb, region),
            Panel("truth", colourise(case.truth.cpu().numpy(), spec.palette), region),
            Panel("prediction", colourise(case.predicted.cpu().numpy(), spec.palette), region),
        ]
        black = [("#000000", region[0][1])]
        for at in maps:
            layer = at.layer.removeprefix("encoder.model.").removeprefix("encoder.") + (
                "" if at.layer in passing else " (fails)"
            )
            for title, evidence in ((f"for {predicted}", at.predicted), (f"for {truth}", at.true)):
                panels.append(Panel(f"{title}, {layer}", signed_heat(rgb, evidence), black))
            panels.append(Panel(f"contrast, {layer}", signed_heat(rgb, at.contrast), black))
        path = folder / f"pair_{number + 1}_{i + 1}.png"
        plot_panels(panels, path, columns=3)
        pictures.append(read_picture(_where(case), "", path))
    return pictures


def _lean_pictures(network: SegmentationNetwork, leaning: Leaning, folder: Path) -> list[Picture]:
    """Draw, for a shortcut, what was replaced and how the prediction changed."""
    if not leaning.shortcut:
        return []
    spec, panels = network.spec, []
    for case, check in leaning.checks[:SHOWN]:
        marks = [(REGION, case.pixels.cpu().numpy()), (PATCH, check.patch)]
        patch = torch.from_numpy(check.patch)
        without = replaced(case.image, blurred(case.image, case.valid), patch)
        after = segment(network, without, case.valid)[0].argmax(0)
        panels += [
            Panel(case.spot.image, _rgb(case, spec), marks),
            Panel("without what is loudest", to_rgb(without[0].cpu(), case.valid[0].cpu(), spec), marks),
            Panel("prediction before", colourise(case.predicted.cpu().numpy(), spec.palette), marks[:1]),
            Panel("prediction after", colourise(after.cpu().numpy(), spec.palette), marks[:1]),
        ]
    path = folder / f"leaning_{leaning.truth}_{leaning.predicted}.png"
    plot_panels(panels, path, columns=4)
    caption = "White: the region. Pink: the context that was replaced, here by blur."
    return [read_picture("", caption, path)]


def _rgb(case: Case, spec: DatasetSpec) -> np.ndarray:
    return to_rgb(case.image[0].cpu(), case.valid[0].cpu(), spec)


def _where(case: Case) -> str:
    col, row, width, height = case.window
    return f"{case.spot.image}, column {col}, row {row}, {width} x {height} pixels"
