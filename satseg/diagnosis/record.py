"""Conversion of a diagnosis to plain data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from scipy.ndimage import find_objects, label

from satseg.attribution.bands import BandImportance
from satseg.attribution.faithfulness import FRACTIONS
from satseg.diagnosis.actions import actions
from satseg.diagnosis.cases import Case
from satseg.diagnosis.confusion import Confused, top_pairs
from satseg.diagnosis.dependence import Dependence, Example
from satseg.diagnosis.dependence_descriptions import describe_dependence
from satseg.diagnosis.descriptions import describe_verdict, summary
from satseg.diagnosis.diagnose import Diagnosis, Pair
from satseg.diagnosis.evidence import Maps
from satseg.diagnosis.label_issues import LabelIssue
from satseg.diagnosis.mistakes import Mistake
from satseg.diagnosis.suspects import Suspect
from satseg.diagnosis.trust import METHOD, MIN_RANGE, Trust

Row = dict[str, Any]
NAMED = 20  # confused pairs by pixels, and as many by share; the matrix holds all


def to_record(found: Diagnosis, class_names: Sequence[str], split: str) -> Row:
    """Return all findings ready for JSON, with class names instead of indices."""
    return {
        "split": split,
        "actions": [asdict(action) for action in actions(found, class_names)],
        "summary": summary(found, class_names),
        "classes": list(class_names),
        "confusion_matrix": found.survey.matrix.tolist(),
        "confused": [_confused(pair, class_names) for pair in top_pairs(found.confused, NAMED)],
        "pairs": [_pair(pair, class_names, found.maps_are_trusted) for pair in found.pairs],
        "leaning": [_dependence(dependence, class_names) for dependence in found.classes],
        "bands": [_band(band) for band in found.bands],
        "trust": {"fractions": FRACTIONS, "range": MIN_RANGE, "maps": [_trust(t) for t in found.trust]},
        "relabel": [_issue(issue, found.suspects.median_share, class_names) for issue in found.label_issues],
        "usual_offset": found.suspects.usual_offset._asdict(),
        "label_ranking": [_suspect(suspect, class_names) for suspect in found.suspects.ranked],
    }


def _confused(pair: Confused, names: Sequence[str]) -> Row:
    return asdict(pair) | {"truth": names[pair.truth], "predicted": names[pair.predicted]}


def _band(band: BandImportance) -> Row:
    row = asdict(band) | {"loss": band.loss, "interval": band.interval}
    del row["drawn"]
    return row


def _issue(issue: LabelIssue, usual: float, names: Sequence[str]) -> Row:
    found, other = issue.found, issue.found.disagreement
    return _suspect(found, names) | {
        "usual": usual,
        "label": names[other.truth] if other else None,
        "model": names[other.predicted] if other else None,
        "box": list(found.box),
        "pixels": other.pixels if other else 0,
        "place": asdict(issue.location) if issue.location else None,
        "pixel_m": list(issue.pixel_m) if issue.pixel_m else None,
    }


def _suspect(found: Suspect, names: Sequence[str]) -> Row:
    return {
        "image": found.image,
        "surprise": found.surprisal,
        "share": found.share,
        "mistake": _mistake(found.mistake, names) if found.mistake else None,
    }


def _mistake(found: Mistake, names: Sequence[str]) -> Row:
    return {
        "offset": found.offset._asdict() if found.offset else None,
        "turn": found.turn,
        "scale": found.scale,
        "exchanged": [names[k] for k in found.exchanged] if found.exchanged else None,
        "box": list(found.box),
        "explained": min(1.0, found.explained),
    }


def _pair(pair: Pair, names: Sequence[str], passes: bool) -> Row:
    return {
        **_confused(pair.confused, names),
        "images": list(pair.images),
        "errors": [_place(case) | {"evidence": _maps(maps, names, passes)} for case, maps in pair.errors],
        "leaning": _dependence(pair.dependence, names) if pair.dependence else None,
    }


def _place(case: Case) -> Row:
    return {"image": case.component.image, "window": list(case.window), "region_pixels": int(case.pixels.sum())}


def _maps(maps: Maps, names: Sequence[str], passes: bool) -> Row:
    row: Row = {"method": METHOD, "passes": passes, "shares": None}
    if maps.shares is None:
        return row
    shares = asdict(maps.shares)
    for key in ("by_truth", "pixels_by_truth"):
        shares[key] = dict(zip([*names, "unlabelled"], shares[key], strict=True))
    return row | {"shares": shares}


def _dependence(dependence: Dependence, names: Sequence[str]) -> Row:
    change, gained, partner = dependence.question
    part = dependence.part
    return {
        "truth": names[dependence.truth],
        "predicted": names[dependence.predicted],
        "shortcut": dependence.shortcut,
        "surroundings": dependence.clear and dependence.labelled_context,
        "unclear": dependence.inconclusive,
        "mirror": None if dependence.mirror is None else names[dependence.mirror],
        "told_from": [names[k] for k in dependence.counterparts],
        "words": describe_dependence(dependence, names),
        "kind": str(change),
        "gained": gained,
        "against": None if partner is None else names[partner],
        "effect": dependence.effect,
        "median": dependence.median,
        "p": dependence.p_value,
        "strength": dependence.strength,
        "share_lost": dependence.lost.share,
        "share_lost_interval": list(dependence.lost.interval),
        "images_lost": dependence.lost.images,
        "images_tested": dependence.lost.of,
        "control": dependence.control,
        "detectable": {str(c): effect if np.isfinite(effect) else None for c, effect in dependence.reportable.items()},
        "needed": dependence.needed,
        "recipients": dependence.recipients,
        "donors": list(dependence.donors),
        "part": part.description if part else None,
        "part_share": part.share if part else None,
        "part_explains": part.explains if part else None,
        "box": list(part.box) if part and part.box else None,
        "lies_on": dict(zip([*names, "unlabelled"], dependence.composition, strict=True)) if part else None,
        "checks": [_check(example, mask) for example, mask in zip(dependence.examples, part.masks, strict=False)]
        if part
        else [],
    }


def _check(example: Example, mask: np.ndarray) -> Row:
    return _place(example.recipient.case) | {
        "same": example.same.case.component.image,
        "other": example.other.case.component.image,
        "replaced": _boxes(example.recipient.case, mask),
    }


def _boxes(case: Case, patch: np.ndarray) -> list[list[int]]:
    """Return [column, row, width, height] in the image of each connected part of what was replaced."""
    rows_and_cols = find_objects(label(patch)[0])
    return [
        [case.window.col + c.start, case.window.row + r.start, c.stop - c.start, r.stop - r.start]
        for r, c in rows_and_cols
    ]


def _trust(trust: Trust) -> Row:
    return asdict(trust) | {"verdict": trust.verdict, "passes": trust.passes, "why": describe_verdict(trust)}
