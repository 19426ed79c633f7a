"""What the trials and the probes say of one class, or of one kind of errors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from satseg.diagnosis.leaning import SIGNIFICANT, WEAK, Example, Leaning, Lost, Question
from satseg.diagnosis.permutation import Contrast, attainable, compare
from satseg.diagnosis.probes import Probed
from satseg.diagnosis.swaps import Actor, Change, Trials

SURE = SIGNIFICANT / 10  # chance from which a question is certain, however certain others are
HALF = 0.5  # of a region: an image that loses it loses its class


def judge(
    trials: Trials,
    probed: Sequence[Probed],
    k: int,
    level: float,
    truth: int | None = None,
    without: Sequence[int] = (),
) -> Leaning | None:
    """Ask all about a class, or of an error whose true class is given.

    Args:
        trials: What became of regions.
        probed: What became of the regions that are moved most.
        k: Class.
        level: Probability below which something is clear, before it is corrected for the number of classes or errors.
        truth: Of an error.
        without: Classes whose images, and regions, are left out.

    Returns:
        None where there is nothing to compare: no region meets images with the class, or none without it.
    """
    kept = _kept(trials.donors, without)
    donors = [d for d, keep in zip(trials.donors, kept, strict=True) if keep]
    family = _family(trials, k, truth, kept, without)
    overall = _losses(family)
    if not overall or family[overall[0]][0].change is not Change.SURROUNDINGS:
        return None
    surroundings = overall[0]
    holds, units = _holds(donors, trials.num_classes), _units(donors)
    pulls = _pulls(trials, probed, k, truth, kept, without)
    chance, strength, limits = _certainty(family, pulls, holds, units, level)
    met = _met(family[surroundings][1], donors, k)
    enough = attainable(*met) <= level
    detectable = {family[at][0].change: limits[at] if enough else np.inf for at in overall}
    effects = [float(np.nanmean(c.effects(holds))) for _, c in family]
    best, back = _foremost(family, chance, effects, overall)
    question, contrast = family[best]

    def examples(at: int) -> tuple[Example, ...]:
        return _examples(family[at][1], holds, _rows(trials, family[at][0], k, without), donors)

    rows = _rows(trials, question, k, without)
    return Leaning(
        k if truth is None else truth,
        k,
        question,
        effects[best],
        float(np.nanmedian(contrast.effects(holds))),
        chance[best],
        strength,
        _lost(contrast, holds, rows),
        _mean_loss(family[surroundings][1], holds, k),
        detectable,
        len({r.case.spot.image for r in trials.recipients if r.predicted == k}),
        met,
        _needed(*met, limits[surroundings], level),
        float(np.mean([row.picture.free.mean() for row in _rows(trials, family[surroundings][0], k, without)])),
        examples=examples(best),
        reverse=() if back is None else examples(back),
    )


def _foremost(
    family: Sequence[tuple[Question, Contrast]], chance: Sequence[float], effects: Sequence[float], overall: list[int]
) -> tuple[int, int | None]:
    """Return the place of the most telling question, and of the same the other way round where that is as certain.

    Of what is certain, or about as certain as anything, it is that which matters most; where nothing is, one of those
    about what all others have.
    """
    certain = [p <= max(SURE, 2 * min(chance)) for p in chance]
    told = [at for at, sure in enumerate(certain) if sure] if min(chance) <= SIGNIFICANT else overall
    best = max(told, key=lambda at: effects[at])
    opposite = family[best][0]._replace(gained=not family[best][0].gained)
    return best, next((at for at, (q, _) in enumerate(family) if q == opposite and certain[at]), None)


def _losses(family: Sequence[tuple[Question, Contrast]]) -> list[int]:
    """Return which questions are whether a class is lost by what all others have, by their places in the family."""
    partner = family[0][0].partner if family else None  # the only one, or None for all
    return [at for at, (q, _) in enumerate(family) if not q.gained and q.partner == partner]


def _met(contrast: Contrast, donors: Sequence[Actor], k: int) -> tuple[int, int]:
    """Return from how many images the donors were that regions met: of a class, and of others."""
    tried = np.isfinite(contrast.values).any(0)
    met = [d for d, one in zip(donors, tried, strict=True) if one]
    own = {d.case.spot.image for d in met if k == d.truth or k in d.holds}
    return len(own), len({d.case.spot.image for d in met} - own)


def _needed(own: int, other: int, detectable: float, level: float) -> int:
    """Return how many images of either kind would do; 0 where those that are would not miss an effect that matters."""
    if attainable(own, other) <= level / 2 and detectable <= WEAK:
        return 0
    enough = 2
    while attainable(enough, enough) > level / 2:
        enough += 1
    if detectable > WEAK:
        enough = max(enough, int(np.ceil(min(own, other) * (detectable / WEAK) ** 2)))
    return max(enough, 1 + min(own, other))


def _pulls(
    trials: Trials, probed: Sequence[Probed], k: int, truth: int | None, kept: np.ndarray, without: Sequence[int]
) -> list[tuple[Change, int | None, Contrast]]:
    """Return, for each probe and partner, whether donors of the class pull log odds towards it."""
    partners = _partners(trials, k, without) if truth is None else [truth]
    return [(p.change, partner, Contrast(p.odds[:, kept, k], partner, k)) for p in probed for partner in partners]


def _certainty(
    family: Sequence[tuple[Question, Contrast]],
    pulls: Sequence[tuple[Change, int | None, Contrast]],
    holds: np.ndarray,
    units: np.ndarray,
    level: float,
) -> tuple[list[float], float, list[float]]:
    """Return each question's probability by chance, the most strength, and each question's smallest detectable effect.

    A question is answered by what regions become and by how the odds of those that are moved most change; all answers
    to all questions are one family, corrected for together.
    """
    verdicts = compare([c for _, c in family] + [c for _, _, c in pulls], holds, units, level)
    by_odds: dict[tuple[Change, int | None], float] = {}
    for (change, partner, _), p in zip(pulls, verdicts.probabilities[len(family) :], strict=True):
        by_odds[change, partner] = min(p, by_odds.get((change, partner), 1.0))
    chance = [
        min(p, by_odds.get((q.change, q.partner), 1.0))
        for (q, _), p in zip(family, verdicts.probabilities[: len(family)], strict=True)
    ]
    return chance, max(verdicts.strengths), list(verdicts.detectable[: len(family)])


def _family(
    trials: Trials, k: int, truth: int | None, kept: np.ndarray, without: Sequence[int] = ()
) -> list[tuple[Question, Contrast]]:
    """Return all questions about a class, by shares; for an error, whether it is lost by donors of its true class."""
    holds, asked = _holds(trials.donors, trials.num_classes)[kept], []
    for change, outcome in trials.outcomes.items():
        shares = outcome[:, kept, k]
        for partner in _partners(trials, k, without) if truth is None else [truth]:
            lost, gained = (Question(change, way, partner) for way in (False, True))
            asked.append((lost, Contrast(1 - shares[_among(trials, lost, k, without)], k, partner)))
            if truth is None:
                asked.append((gained, Contrast(shares[_among(trials, gained, k, without)], partner, k)))
    return [(q, c) for q, c in asked if np.isfinite(c.effects(holds)).any()]


def _partners(trials: Trials, k: int, without: Sequence[int]) -> list[int | None]:
    """Return the classes that a class is compared with, and None for all of them where they are several.

    A class that every image holds is no partner: its surroundings are everybody's.
    """
    partners = sorted({r.predicted for r in trials.recipients} - {k, *without})
    return [*partners] if len(partners) == 1 else [None, *partners]


def _among(trials: Trials, question: Question, k: int, without: Sequence[int]) -> np.ndarray:
    """Return the numbers of the recipients that a question is about."""
    predicted = np.array([r.predicted for r in trials.recipients])
    if not question.gained:
        return np.flatnonzero(predicted == k)
    among = (predicted != k) & ~np.isin(predicted, without)
    return np.flatnonzero(among if question.partner is None else among & (predicted == question.partner))


def _kept(donors: Sequence[Actor], without: Sequence[int]) -> np.ndarray:
    """Return which donors hold none of some classes (D,), boolean."""
    return np.array([d.truth not in without and d.holds.isdisjoint(without) for d in donors])


def _holds(donors: Sequence[Actor], num_classes: int) -> np.ndarray:
    """Return whether each donor holds each class (D, K)."""
    return np.array([[k == d.truth or k in d.holds for k in range(num_classes)] for d in donors])


def _rows(trials: Trials, question: Question, k: int, without: Sequence[int]) -> list[Actor]:
    return [trials.recipients[i] for i in _among(trials, question, k, without)]


def _units(donors: Sequence[Actor]) -> np.ndarray:
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(d.case.spot.image, len(numbers)) for d in donors])


def _mean_loss(contrast: Contrast, holds: np.ndarray, k: int) -> float:
    values = contrast.values[:, holds[:, k]]
    return float(np.nanmean(values)) if np.isfinite(values).any() else 0.0


def _by_row(contrast: Contrast, holds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return each recipient's mean outcome with the lower and with the higher donors (R,)."""
    with np.errstate(invalid="ignore"):
        low, high = (
            np.array([v[np.isfinite(v)].mean() if np.isfinite(v).any() else np.nan for v in contrast.values[:, chosen]])
            for chosen in contrast.chosen(holds)
        )
    return low, high


def _lost(contrast: Contrast, holds: np.ndarray, rows: Sequence[Actor]) -> Lost:
    low, high = _by_row(contrast, holds)
    images: dict[str, list[tuple[float, float]]] = {}
    for row, pair in zip(rows, zip(low, high, strict=True), strict=True):
        if np.isfinite(pair).all():
            images.setdefault(row.case.spot.image, []).append(pair)
    means = [np.mean(pairs, axis=0) for pairs in images.values()]
    return Lost(sum(bool(m[0] < HALF <= m[1]) for m in means), len(means))


def _examples(
    contrast: Contrast, holds: np.ndarray, rows: Sequence[Actor], donors: Sequence[Actor]
) -> tuple[Example, ...]:
    """Return recipients with the donors of either kind that change least and most, the most telling first."""
    low, high = contrast.chosen(holds)
    made = []
    for row, values in zip(rows, contrast.values, strict=True):
        if np.isfinite(values[low]).any() and np.isfinite(values[high]).any():
            least = int(np.nanargmin(np.where(low, values, np.nan)))
            most = int(np.nanargmax(np.where(high, values, np.nan)))
            made.append((values[most] - values[least], Example(row, donors[least], donors[most])))
    return tuple(example for _, example in sorted(made, key=lambda pair: -pair[0]))
