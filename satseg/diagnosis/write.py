"""Writing a diagnosis: report page, figures and JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from satseg.attribution import bands
from satseg.attribution.composites import MARGIN
from satseg.attribution.faithfulness import FRACTIONS
from satseg.diagnosis.actions import actions
from satseg.diagnosis.confusion import top_pairs
from satseg.diagnosis.dependence import MIN_EFFECT, Dependence
from satseg.diagnosis.dependence_descriptions import describe_dependence
from satseg.diagnosis.descriptions import (
    describe_bands,
    describe_box,
    describe_mistake,
    describe_pair,
    describe_trust,
    describe_usual_offset,
    describe_verdict,
    map_label,
    sentence,
    summary,
)
from satseg.diagnosis.diagnose import Diagnosis, Pair
from satseg.diagnosis.displacement import REACH
from satseg.diagnosis.label_issues import LabelIssue, Location
from satseg.diagnosis.panels import Panel, PanelEncoder
from satseg.diagnosis.record import to_record
from satseg.diagnosis.suspects import MIN_IMAGES
from satseg.diagnosis.trust import MIN_CASES, MIN_RANGE
from satseg.evaluate.metrics import Scores
from satseg.files import write_json, write_text
from satseg.models import SegmentationNetwork
from satseg.visualization.figures import plot_confusion_matrix, plot_trust
from satseg.visualization.page import read_picture, render_page
from satseg.visualization.palette import css

SHOWN = 2  # cases of a kind in pictures
UNFOLDED = 3  # confused pairs whose panels are visible without unfolding
TABLED = 8  # confused pairs in the table by pixels, and as many by share


@dataclass(frozen=True)
class ErrorView:
    """A confused pair on the page: a sentence, and by place its panels and those of untrusted maps."""

    text: str
    gain: float
    places: list[tuple[str, list[Panel]]]
    folded: list[tuple[str, list[Panel]]]


@dataclass(frozen=True)
class IssueView:
    """An image whose labels stand out on the page: a heading, sentences and its panels."""

    heading: str
    text: str
    panels: list[Panel]


def write_diagnosis(found: Diagnosis, network: SegmentationNetwork, split: str, title: str, folder: Path) -> Path:
    """Write diagnosis.json, diagnosis.html and its figures.

    Returns:
        Path of the self-contained page.
    """
    spec, names, matrix = network.spec, network.spec.class_names, found.survey.matrix
    write_json(folder / "diagnosis.json", to_record(found, names, split))
    figures = folder / "figures"
    plot_confusion_matrix(matrix, names, figures / "confusion_matrix.png")
    if found.trust:
        _plot_trust(found, figures / "trust.png")
    encoder = PanelEncoder(spec)
    # Most important first, so that a full page omits the least important panels.
    dependence = [
        (each.shortcut, describe_dependence(each, names), encoder.dependence(network, each, SHOWN) if each.part else [])
        for each in sorted(_all_dependences(found), key=lambda v: (not v.shortcut, not v.clear, -v.effect))
    ]
    label_issues = [_issue(issue, names, encoder) for issue in found.label_issues]
    errors = [_error(pair, found, names, encoder) for pair in sorted(found.pairs, key=lambda p: -p.confused.gain)]
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
        pairs=[(pair, found.survey.worst[pair.key]) for pair in top_pairs(found.confused, TABLED)],
        tabled=TABLED,
        errors=errors,
        unfolded=UNFOLDED,
        dependence=dependence,
        bands=found.bands,
        band_lines=describe_bands(found.bands),
        trust=[(map_label(t), t, describe_verdict(t)) for t in found.trust],
        trust_lines=[] if any(t.passes for t in found.trust) else describe_trust(found.trust)[-1:],
        trust_picture=read_picture("", "", figures / "trust.png") if found.trust else None,
        label_issues=label_issues,
        registration_lines=describe_usual_offset(found.suspects),
        left_out=encoder.left_out,
        margin=MARGIN,
        clear=MIN_EFFECT,
        few=MIN_IMAGES,
        reach=REACH,
        drawn=bands.DRAWS,
        range=MIN_RANGE,
        needed=MIN_CASES,
    )
    write_text(folder / "diagnosis.html", page)
    return folder / "diagnosis.html"


def _issue(issue: LabelIssue, names: Sequence[str], encoder: PanelEncoder) -> IssueView:
    found, other = issue.found, issue.found.disagreement
    lines = []
    if found.mistake:
        lines.append(sentence(describe_mistake(found.mistake, issue.pixel_m, names)))
    if other:
        lines.append(
            f"Labelled {names[other.truth]}, confidently predicted {names[other.predicted]}: {describe_box(other.box)}."
        )
    place = describe_location(issue.location)
    lines += [f"Centre at {place}."] if place else []
    return IssueView(f"{found.image}: {found.share:.1%} contradicted", " ".join(lines), encoder.issue(issue))


def describe_location(place: Location | None) -> str:
    """Return the location of a box's centre on the ground as text; empty if unknown."""
    if place is None:
        return ""
    left, bottom, right, top = place.bounds
    text = f"{place.crs} {(left + right) / 2:.10g}, {(bottom + top) / 2:.10g}"
    return text + (f" (latitude {place.lat_lon[0]:.5f}, longitude {place.lat_lon[1]:.5f})" if place.lat_lon else "")


def _all_dependences(found: Diagnosis) -> list[Dependence]:
    return [*found.classes, *(pair.dependence for pair in found.pairs if pair.dependence)]


def _plot_trust(found: Diagnosis, path: Path) -> None:
    lines = [
        (map_label(t), *(getattr(c, way) for c in t.curves for way in ("deletion", "insertion"))) for t in found.trust
    ]
    plot_trust(lines, FRACTIONS, path)


def _error(pair: Pair, found: Diagnosis, names: Sequence[str], encoder: PanelEncoder) -> ErrorView:
    places, folded = [], []
    for case, maps in pair.errors[:SHOWN]:
        col, row, width, height = case.window
        where = f"{case.component.image}, column {col}, row {row}, {width} × {height} pixels"
        shown, evidence = encoder.error(case), encoder.maps(case, maps)
        places.append((where, shown + evidence if found.maps_are_trusted else shown))
        folded.append((where, [] if found.maps_are_trusted else evidence))
    return ErrorView(
        describe_pair(pair, found, names),
        pair.confused.gain,
        [place for place in places if place[1]],
        [place for place in folded if place[1]],
    )
