"""A diagnosis as files: one page, its figures, and the numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from satseg.attribution import bands
from satseg.attribution.composites import MARGIN
from satseg.attribution.faithfulness import FRACTIONS
from satseg.diagnosis.actions import actions
from satseg.diagnosis.confusion import foremost
from satseg.diagnosis.diagnose import Diagnosis, Pair
from satseg.diagnosis.displacement import REACH
from satseg.diagnosis.doubts import Doubt, Place
from satseg.diagnosis.leaning import CLEAR, Leaning
from satseg.diagnosis.leaning_words import lean_words
from satseg.diagnosis.panels import Album, Panel
from satseg.diagnosis.record import to_record
from satseg.diagnosis.suspects import FEW
from satseg.diagnosis.trust import NEEDED, RANGE
from satseg.diagnosis.words import (
    band_words,
    box_words,
    maps_words,
    mistake_words,
    pair_words,
    sentence,
    summary,
    trust_words,
    usual_offset_words,
    verdict_words,
)
from satseg.evaluate.metrics import Scores
from satseg.files import write_json, write_text
from satseg.models import SegmentationNetwork
from satseg.visualization.figures import plot_confusion_matrix, plot_trust
from satseg.visualization.page import read_picture, render_page
from satseg.visualization.palette import css

SHOWN = 2  # cases of a kind in pictures
UNFOLDED = 3  # confused pairs whose panels are seen at once
TABLED = 8  # confused pairs in the table: so many by pixels, and so many by share


@dataclass(frozen=True)
class ErrorView:
    """A confused pair on the page: a sentence, and by place its panels and those of maps that are no reasons."""

    words: str
    gain: float
    places: list[tuple[str, list[Panel]]]
    folded: list[tuple[str, list[Panel]]]


@dataclass(frozen=True)
class DoubtView:
    """An image whose labels stand out on the page: a heading, sentences and its panels."""

    heading: str
    words: str
    panels: list[Panel]


def write_diagnosis(found: Diagnosis, network: SegmentationNetwork, split: str, title: str, folder: Path) -> Path:
    """Write diagnosis.json, diagnosis.html and its figures.

    Returns:
        Path of the page, which needs no other file.
    """
    spec, names, matrix = network.spec, network.spec.class_names, found.survey.matrix
    write_json(folder / "diagnosis.json", to_record(found, names, split))
    figures = folder / "figures"
    plot_confusion_matrix(matrix, names, figures / "confusion_matrix.png")
    if found.trust:
        _plot_trust(found, figures / "trust.png")
    album = Album(spec)
    # In the order of what matters most, so that a full page lacks the least.
    leaning = [
        (each.shortcut, lean_words(each, names), album.leaning(network, each, SHOWN) if each.part else [])
        for each in sorted(_all_leaning(found), key=lambda v: (not v.shortcut, not v.clear, -v.effect))
    ]
    doubts = [_doubt(doubt, names, album) for doubt in found.doubts]
    errors = [_error(pair, found, names, album) for pair in sorted(found.pairs, key=lambda p: -p.confused.gain)]
    page = render_page(
        "diagnosis.html",
        {
            "percent": lambda v: f"{v:.1%}",
            "signed": lambda v: "–" if math.isnan(v) else f"{v:+.3f}",
            "loss": lambda v: "–" if math.isnan(v) else f"{v:.3f}",
            "count": lambda v: f"{v:,}",
        },
        title=title,
        split=split,
        images=found.survey.images,
        scores=Scores.from_matrix(matrix, names),
        colours={name: css(colour) for name, colour in zip(names, spec.palette, strict=True)},
        actions=actions(found, names),
        summary=summary(found, names),
        shortcut=bool(found.shortcuts),
        confusion=read_picture("", "", figures / "confusion_matrix.png"),
        names=names,
        pairs=[(pair, found.survey.worst[pair.key]) for pair in foremost(found.confused, TABLED)],
        tabled=TABLED,
        errors=errors,
        unfolded=UNFOLDED,
        leaning=leaning,
        bands=found.bands,
        band_words=band_words(found.bands),
        trust=[(maps_words(t), t, verdict_words(t)) for t in found.trust],
        trust_words=[] if any(t.passes for t in found.trust) else trust_words(found.trust)[-1:],
        trust_picture=read_picture("", "", figures / "trust.png") if found.trust else None,
        doubts=doubts,
        registration=usual_offset_words(found.suspects),
        left_out=album.left_out,
        margin=MARGIN,
        clear=CLEAR,
        few=FEW,
        reach=REACH,
        drawn=bands.DRAWS,
        range=RANGE,
        needed=NEEDED,
    )
    write_text(folder / "diagnosis.html", page)
    return folder / "diagnosis.html"


def _doubt(doubt: Doubt, names: Sequence[str], album: Album) -> DoubtView:
    found, other = doubt.found, doubt.found.disagreement
    lines = []
    if found.mistake:
        lines.append(sentence(mistake_words(found.mistake, doubt.pixel_m, names)))
    if other:
        lines.append(
            f"Label {names[other.truth]}, the model is sure of {names[other.predicted]}, in {box_words(other.box)}."
        )
    place = place_words(doubt.place)
    lines += [f"Centre at {place}."] if place else []
    return DoubtView(f"{found.image}: {found.share:.1%} contradicted", " ".join(lines), album.doubt(doubt))


def place_words(place: Place | None) -> str:
    """Say where on the ground the centre of a box lies; nothing where that is not known."""
    if place is None:
        return ""
    left, bottom, right, top = place.bounds
    words = f"{place.crs} {(left + right) / 2:.10g}, {(bottom + top) / 2:.10g}"
    return words + (f" (latitude {place.lat_lon[0]:.5f}, longitude {place.lat_lon[1]:.5f})" if place.lat_lon else "")


def _all_leaning(found: Diagnosis) -> list[Leaning]:
    return [*found.classes, *(pair.leaning for pair in found.pairs if pair.leaning)]


def _plot_trust(found: Diagnosis, path: Path) -> None:
    lines = [
        (maps_words(t), *(getattr(c, way) for c in t.curves for way in ("deletion", "insertion"))) for t in found.trust
    ]
    plot_trust(lines, FRACTIONS, path)


def _error(pair: Pair, found: Diagnosis, names: Sequence[str], album: Album) -> ErrorView:
    places, folded = [], []
    for case, maps in pair.errors[:SHOWN]:
        col, row, width, height = case.window
        where = f"{case.spot.image}, column {col}, row {row}, {width} × {height} pixels"
        shown, evidence = album.error(case), album.maps(case, maps)
        places.append((where, shown + evidence if found.maps_are_read else shown))
        folded.append((where, [] if found.maps_are_read else evidence))
    return ErrorView(
        pair_words(pair, found, names),
        pair.confused.gain,
        [place for place in places if place[1]],
        [place for place in folded if place[1]],
    )
