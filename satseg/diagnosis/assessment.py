"""Statistical assessment of one class, or of one kind of error, from trials and probes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from satseg.diagnosis.dependence import RELEVANT_EFFECT, SIGNIFICANT, Dependence, Example, LossCount, Question
from satseg.diagnosis.permutation import Contrast, compare, min_p_value
from satseg.diagnosis.probes import ProbeResult
from satseg.diagnosis.swaps import Change, SwapCase, Trials

CERTAIN_P = SIGNIFICANT / 10  # p-value below which a contrast is certain, whatever the others are
LOST_SHARE = 0.5  # of a region; an image that loses as much loses its class


def assess(
    trials: Trials,
    probe_results: Sequence[ProbeResult],
    k: int,
    level: float,
    truth: int | None = None,
    without: Sequence[int] = (),
) -> Dependence | None:
    """Return the dependence of a class, or of an error if its true class is given.

    Args:
        trials: Predictions of regions after each change.
        probe_results: Log odds of the most sensitive regions.
        k: Index of the predicted class.
        level: Significance level before correction for the number of classes or errors.
        truth: Index of the true class of an error.
        without: Classes whose images and regions are left out.

    Returns:
        None if there is nothing to compare: no region was combined with images with the class, or without it.
    """
    kept = _kept(trials.donors, without)
    donors = [d for d, keep in zip(trials.donors, kept, strict=True) if keep]
    family = _family(trials, k, truth, kept, without)
    overall = _overall_losses(family)
    if not overall or family[overall[0]][0].change is not Change.SURROUNDINGS:
        return None
    surroundings = overall[0]
    holds, units = _holds(donors, trials.num_classes), _units(donors)
    odds_contrasts = _odds_contrasts(trials, probe_results, k, truth, kept, without)
    p_values, strength, limits = _significance(family, odds_contrasts, holds, units, level)
    met = _images_met(family[surroundings][1], donors, k)
    enough = min_p_value(*met) <= level
    detectable = {family[at][0].change: limits[at] if enough else np.inf for at in overall}
    effects = [float(np.nanmean(c.effects(holds))) for _, c in family]
    best, back = _strongest(family, p_values, effects, overall)
    question, contrast = family[best]

    def examples(at: int) -> tuple[Example, ...]:
        return _examples(family[at][1], holds, _recipients_of(trials, family[at][0], k, without), donors)

    surrounded = _recipients_of(trials, family[surroundings][0], k, without)
    return Dependence(
        truth=k if truth is None else truth,
        predicted=k,
        question=question,
        effect=effects[best],
        median=float(np.nanmedian(contrast.effects(holds))),
        p_value=p_values[best],
        strength=strength,
        lost=_loss_count(contrast, holds, _recipients_of(trials, question, k, without)),
        control=_mean_loss(family[surroundings][1], holds, k),
        detectable=detectable,
        recipients=len({r.case.component.image for r in trials.recipients if r.predicted == k}),
        donors=met,
        needed=_needed(*met, limits[surroundings], level),
        room=float(np.mean([recipient.picture.replaceable.mean() for recipient in surrounded])),
        examples=examples(best),
        reverse=() if back is None else examples(back),
    )


def _strongest(
    family: Sequence[tuple[Question, Contrast]], p_values: Sequence[float], effects: Sequence[float], overall: list[int]
) -> tuple[int, int | None]:
    """Return the index of the strongest contrast, and of its reverse if that is as certain.

    Among the certain contrasts, and those about as certain as any, it is the one with the largest effect; if none is
    significant, one of the overall contrasts.
    """
    certain = [p <= max(CERTAIN_P, 2 * min(p_values)) for p in p_values]
    candidates = [at for at, sure in enumerate(certain) if sure] if min(p_values) <= SIGNIFICANT else overall
    best = max(candidates, key=lambda at: effects[at])
    opposite = family[best][0]._replace(gained=not family[best][0].gained)
    return best, next((at for at, (q, _) in enumerate(family) if q == opposite and certain[at]), None)


def _overall_losses(family: Sequence[tuple[Question, Contrast]]) -> list[int]:
    """Return the indices of the overall contrasts: loss of the class with donors of all other classes."""
    partner = family[0][0].partner if family else None  # the only one, or None for all
    return [at for at, (q, _) in enumerate(family) if not q.gained and q.partner == partner]


def _images_met(contrast: Contrast, donors: Sequence[SwapCase], k: int) -> tuple[int, int]:
    """Return the number of donor images that regions were combined with: of a class, and of others."""
    tried = np.isfinite(contrast.values).any(0)
    met = [d for d, one in zip(donors, tried, strict=True) if one]
    own = {d.case.component.image for d in met if d.has(k)}
    return len(own), len({d.case.component.image for d in met} - own)


def _needed(own: int, other: int, detectable: float, level: float) -> int:
    """Return how many images of either kind would be enough; 0 if the present ones would not miss a relevant effect."""
    if min_p_value(own, other) <= level / 2 and detectable <= RELEVANT_EFFECT:
        return 0
    enough = 2
    while min_p_value(enough, enough) > level / 2:
        enough += 1
    if detectable > RELEVANT_EFFECT:
        enough = max(enough, int(np.ceil(min(own, other) * (detectable / RELEVANT_EFFECT) ** 2)))
    return max(enough, 1 + min(own, other))


def _odds_contrasts(
    trials: Trials,
    probe_results: Sequence[ProbeResult],
    k: int,
    truth: int | None,
    kept: np.ndarray,
    without: Sequence[int],
) -> list[tuple[Change, int | None, Contrast]]:
    """Return a contrast of log odds for each probe and partner: do donors of the class raise them?"""
    partners = _partners(trials, k, without) if truth is None else [truth]
    return [
        (p.change, partner, Contrast(p.odds[:, kept, k], partner, k)) for p in probe_results for partner in partners
    ]


def _significance(
    family: Sequence[tuple[Question, Contrast]],
    odds_contrasts: Sequence[tuple[Change, int | None, Contrast]],
    holds: np.ndarray,
    units: np.ndarray,
    level: float,
) -> tuple[list[float], float, list[float]]:
    """Return each question's p-value, the largest strength, and each question's smallest detectable effect.

    A question is tested both on the predictions of regions and on the log odds of the most sensitive ones; all tests
    of all questions form one family and are corrected together.
    """
    verdicts = compare([c for _, c in family] + [c for _, _, c in odds_contrasts], holds, units, level)
    by_odds: dict[tuple[Change, int | None], float] = {}
    for (change, partner, _), p in zip(odds_contrasts, verdicts.p_values[len(family) :], strict=True):
        by_odds[change, partner] = min(p, by_odds.get((change, partner), 1.0))
    p_values = [
        min(p, by_odds.get((q.change, q.partner), 1.0))
        for (q, _), p in zip(family, verdicts.p_values[: len(family)], strict=True)
    ]
    return p_values, max(verdicts.strengths), list(verdicts.detectable[: len(family)])


def _family(
    trials: Trials, k: int, truth: int | None, kept: np.ndarray, without: Sequence[int] = ()
) -> list[tuple[Question, Contrast]]:
    """Return all questions about a class with their contrasts of shares; for an error, only its loss."""
    holds, asked = _holds(trials.donors, trials.num_classes)[kept], []
    for change, outcome in trials.outcomes.items():
        shares = outcome[:, kept, k]
        for partner in _partners(trials, k, without) if truth is None else [truth]:
            lost, gained = (Question(change, way, partner) for way in (False, True))
            asked.append((lost, Contrast(1 - shares[_recipient_indices(trials, lost, k, without)], k, partner)))
            if truth is None:
                asked.append((gained, Contrast(shares[_recipient_indices(trials, gained, k, without)], partner, k)))
    return [(q, c) for q, c in asked if np.isfinite(c.effects(holds)).any()]


def _partners(trials: Trials, k: int, without: Sequence[int]) -> list[int | None]:
    """Return the classes that a class is compared with, and None for all of them together if there are several.

    A class that every image holds is no partner, as all images share its surroundings.
    """
    partners = sorted({r.predicted for r in trials.recipients} - {k, *without})
    return [*partners] if len(partners) == 1 else [None, *partners]


def _recipient_indices(trials: Trials, question: Question, k: int, without: Sequence[int]) -> np.ndarray:
    """Return the indices of the recipients that a question is about."""
    predicted = np.array([r.predicted for r in trials.recipients])
    if not question.gained:
        return np.flatnonzero(predicted == k)
    among = (predicted != k) & ~np.isin(predicted, without)
    return np.flatnonzero(among if question.partner is None else among & (predicted == question.partner))


def _kept(donors: Sequence[SwapCase], without: Sequence[int]) -> np.ndarray:
    """Return a boolean mask (D,) of the donors that hold none of the given classes."""
    return np.array([d.truth not in without and d.holds.isdisjoint(without) for d in donors])


def _holds(donors: Sequence[SwapCase], num_classes: int) -> np.ndarray:
    """Return a boolean matrix (D, K): donor holds class."""
    return np.array([[d.has(k) for k in range(num_classes)] for d in donors])


def _recipients_of(trials: Trials, question: Question, k: int, without: Sequence[int]) -> list[SwapCase]:
    return [trials.recipients[i] for i in _recipient_indices(trials, question, k, without)]


def _units(donors: Sequence[SwapCase]) -> np.ndarray:
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(d.case.component.image, len(numbers)) for d in donors])


def _mean_loss(contrast: Contrast, holds: np.ndarray, k: int) -> float:
    values = contrast.values[:, holds[:, k]]
    return float(np.nanmean(values)) if np.isfinite(values).any() else 0.0


def _by_row(contrast: Contrast, holds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return each recipient's mean outcome (R,) with the lower and with the higher donors."""
    with np.errstate(invalid="ignore"):
        low, high = (
            np.array(
                [v[np.isfinite(v)].mean() if np.isfinite(v).any() else np.nan for v in contrast.values[:, donor_masks]]
            )
            for donor_masks in contrast.donor_masks(holds)
        )
    return low, high


def _loss_count(contrast: Contrast, holds: np.ndarray, rows: Sequence[SwapCase]) -> LossCount:
    low, high = _by_row(contrast, holds)
    images: dict[str, list[tuple[float, float]]] = {}
    for row, pair in zip(rows, zip(low, high, strict=True), strict=True):
        if np.isfinite(pair).all():
            images.setdefault(row.case.component.image, []).append(pair)
    means = [np.mean(pairs, axis=0) for pairs in images.values()]
    return LossCount(sum(bool(m[0] < LOST_SHARE <= m[1]) for m in means), len(means))


def _examples(
    contrast: Contrast, holds: np.ndarray, rows: Sequence[SwapCase], donors: Sequence[SwapCase]
) -> tuple[Example, ...]:
    """Return recipients with the donors of either kind that change least and most, largest difference first."""
    low, high = contrast.donor_masks(holds)
    made = []
    for row, values in zip(rows, contrast.values, strict=True):
        if np.isfinite(values[low]).any() and np.isfinite(values[high]).any():
            reportable = int(np.nanargmin(np.where(low, values, np.nan)))
            most = int(np.nanargmax(np.where(high, values, np.nan)))
            made.append((values[most] - values[reportable], Example(row, donors[reportable], donors[most])))
    return tuple(example for _, example in sorted(made, key=lambda pair: -pair[0]))
