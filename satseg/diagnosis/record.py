"""A diagnosis as plain data."""

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
from satseg.diagnosis.confusion import Confused, foremost
from satseg.diagnosis.diagnose import Diagnosis, Pair
from satseg.diagnosis.doubts import Doubt
from satseg.diagnosis.evidence import Maps
from satseg.diagnosis.leaning import Example, Leaning
from satseg.diagnosis.leaning_words import lean_words
from satseg.diagnosis.mistakes import Mistake
from satseg.diagnosis.suspects import Suspect
from satseg.diagnosis.trust import METHOD, RANGE, Trust
from satseg.diagnosis.words import summary, verdict_words

Row = dict[str, Any]
NAMED = 20  # confused pairs by name, so many by pixels and so many by share; the matrix holds all


def to_record(found: Diagnosis, class_names: Sequence[str], split: str) -> Row:
    """Return everything that was found, ready for JSON; indices of classes become names."""
    return {
        "split": split,
        "actions": [asdict(action) for action in actions(found, class_names)],
        "summary": summary(found, class_names),
        "classes": list(class_names),
        "confusion_matrix": found.survey.matrix.tolist(),
        "confused": [_confused(pair, class_names) for pair in foremost(found.confused, NAMED)],
        "pairs": [_pair(pair, class_names, found.maps_are_read) for pair in found.pairs],
        "leaning": [_leaning(leaning, class_names) for leaning in found.classes],
        "bands": [_band(band) for band in found.bands],
        "trust": {"fractions": FRACTIONS, "range": RANGE, "maps": [_trust(t) for t in found.trust]},
        "relabel": [_doubt(doubt, found.suspects.usual_share, class_names) for doubt in found.doubts],
        "usual_offset": found.suspects.usual_offset._asdict(),
        "label_ranking": [_suspect(suspect, class_names) for suspect in found.suspects.ranked],
    }


def _confused(pair: Confused, names: Sequence[str]) -> Row:
    return asdict(pair) | {"truth": names[pair.truth], "predicted": names[pair.predicted]}


def _band(band: BandImportance) -> Row:
    row = asdict(band) | {"loss": band.loss, "interval": band.interval}
    del row["drawn"]
    return row


def _doubt(doubt: Doubt, usual: float, names: Sequence[str]) -> Row:
    found, other = doubt.found, doubt.found.disagreement
    return _suspect(found, names) | {
        "usual": usual,
        "label": names[other.truth] if other else None,
        "model": names[other.predicted] if other else None,
        "box": list(found.box),
        "pixels": other.pixels if other else 0,
        "place": asdict(doubt.place) if doubt.place else None,
        "pixel_m": list(doubt.pixel_m) if doubt.pixel_m else None,
    }


def _suspect(found: Suspect, names: Sequence[str]) -> Row:
    return {
        "image": found.image,
        "surprise": found.surprise,
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
        "leaning": _leaning(pair.leaning, names) if pair.leaning else None,
    }


def _place(case: Case) -> Row:
    return {"image": case.spot.image, "window": list(case.window), "region_pixels": int(case.pixels.sum())}


def _maps(maps: Maps, names: Sequence[str], passes: bool) -> Row:
    row: Row = {"method": METHOD, "passes": passes, "shares": None}
    if maps.shares is None:
        return row
    shares = asdict(maps.shares)
    for key in ("by_truth", "pixels_by_truth"):
        shares[key] = dict(zip([*names, "unlabelled"], shares[key], strict=True))
    return row | {"shares": shares}


def _leaning(leaning: Leaning, names: Sequence[str]) -> Row:
    change, gained, partner = leaning.question
    part = leaning.part
    return {
        "truth": names[leaning.truth],
        "predicted": names[leaning.predicted],
        "shortcut": leaning.shortcut,
        "surroundings": leaning.clear and leaning.nearby,
        "unclear": leaning.unclear,
        "mirror": None if leaning.mirror is None else names[leaning.mirror],
        "told_from": [names[k] for k in leaning.told_from],
        "words": lean_words(leaning, names),
        "kind": str(change),
        "gained": gained,
        "against": None if partner is None else names[partner],
        "effect": leaning.effect,
        "median": leaning.median,
        "p": leaning.probability,
        "strength": leaning.strength,
        "share_lost": leaning.lost.share,
        "share_lost_interval": list(leaning.lost.interval),
        "images_lost": leaning.lost.images,
        "images_tested": leaning.lost.of,
        "control": leaning.control,
        "detectable": {str(c): effect if np.isfinite(effect) else None for c, effect in leaning.least.items()},
        "needed": leaning.needed,
        "recipients": leaning.recipients,
        "donors": list(leaning.donors),
        "part": part.words if part else None,
        "part_share": part.share if part else None,
        "part_explains": part.explains if part else None,
        "box": list(part.box) if part and part.box else None,
        "lies_on": dict(zip([*names, "unlabelled"], leaning.lies_on, strict=True)) if part else None,
        "checks": [_check(example, mask) for example, mask in zip(leaning.examples, part.masks, strict=False)]
        if part
        else [],
    }


def _check(example: Example, mask: np.ndarray) -> Row:
    return _place(example.recipient.case) | {
        "same": example.same.case.spot.image,
        "other": example.other.case.spot.image,
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
    return asdict(trust) | {"verdict": trust.verdict, "passes": trust.passes, "why": verdict_words(trust)}
