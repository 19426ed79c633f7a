"""A diagnosis as plain data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from satseg.attribution.faithfulness import FRACTIONS
from satseg.diagnosis.cases import Case
from satseg.diagnosis.diagnose import Diagnosis, Pair
from satseg.diagnosis.evidence import Maps
from satseg.diagnosis.leaning import Leaning
from satseg.diagnosis.trust import LayerTrust
from satseg.diagnosis.words import summary

Row = dict[str, Any]


def to_record(found: Diagnosis, class_names: Sequence[str], split: str) -> Row:
    """Return everything that was found, ready for JSON; indices of classes become names."""
    doubts = [
        {"image": d.image, "share": d.share, "label": class_names[d.truth], "model": class_names[d.predicted]}
        for d in found.survey.disagreements
    ]
    return {
        "split": split,
        "summary": summary(found, class_names),
        "classes": list(class_names),
        "confusion_matrix": found.survey.matrix.tolist(),
        "pairs": [_pair(pair, class_names) for pair in found.pairs],
        "leaning": [_leaning(leaning, class_names) for leaning in found.classes],
        "bands": [asdict(b) for b in found.bands],
        "trust": {"fractions": FRACTIONS, "layers": [_trust(t) for t in found.trust]},
        "relabel": doubts,
    }


def _pair(pair: Pair, names: Sequence[str]) -> Row:
    return {
        "truth": names[pair.truth],
        "predicted": names[pair.predicted],
        "pixels": pair.pixels,
        "errors": [_place(case) | {"evidence": [_maps(m, names) for m in maps]} for case, maps in pair.errors],
        "leaning": _leaning(pair.leaning, names) if pair.leaning else None,
    }


def _place(case: Case) -> Row:
    return {"image": case.spot.image, "window": list(case.window), "region_pixels": int(case.pixels.sum())}


def _maps(maps: Maps, names: Sequence[str]) -> Row:
    if maps.shares is None:
        return {"layer": maps.layer, "shares": None}
    shares = asdict(maps.shares)
    for key in ("by_truth", "pixels_by_truth"):
        shares[key] = dict(zip([*names, "unlabelled"], shares[key], strict=True))
    return {"layer": maps.layer, "shares": shares}


def _leaning(leaning: Leaning, names: Sequence[str]) -> Row:
    return {
        "truth": names[leaning.truth],
        "predicted": names[leaning.predicted],
        "shortcut": leaning.shortcut,
        "layer": leaning.layer,
        "excess": leaning.excess,
        "probability": leaning.probability,
        "lies_on": dict(zip([*names, "unlabelled"], leaning.lies_on, strict=True)),
        "checks": [
            _place(case)
            | {"harm": check.harm, "chance": list(check.chance), "patch": _box(case, check.patch.nonzero())}
            for case, check in leaning.checks
        ],
    }


def _box(case: Case, pixels: Sequence[Any]) -> list[int]:
    """Return [column, row, width, height] in the image of the box around pixels of a case."""
    rows, cols = pixels
    top, left = int(rows.min()), int(cols.min())
    return [case.window.col + left, case.window.row + top, int(cols.max()) - left + 1, int(rows.max()) - top + 1]


def _trust(trust: LayerTrust) -> Row:
    return asdict(trust) | {
        "faithful": trust.faithful,
        "about_the_model": trust.about_the_model,
        "passes": trust.passes,
    }
