"""Whether a class hangs on something beside its objects: shortcuts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from scipy.stats import binomtest

from satseg.diagnosis.cases import Case
from satseg.diagnosis.permutation import Contrast, attainable, compare, holm
from satseg.diagnosis.places import SMALL, Part, locate
from satseg.diagnosis.probes import OBJECTS, Probed, probe, standardised
from satseg.diagnosis.swaps import Actor, Change, Trials, actor, as_donors, choose, run_trials
from satseg.models import SegmentationNetwork

SIGNIFICANT = 0.05  # chance of a false alarm in a whole diagnosis (Holm)
CLASSES_WEIGH = 0.8  # of it, for classes; the rest for errors
CLEAR = 0.1  # mean share of a region, beyond what donors of the own class take, from which an effect is worth a word
WEAK = 0.3  # an effect that must not be missed: a class for which it could be is unclear
BROKEN = 0.5  # share of a region that is lost with donors of the own class, from which nothing can be told
HALF = 0.5  # of a region: an image that loses it loses its class
OTHERS = 4  # images without a class, from which those that hold it, too, are no donors of the others
OWN, EACH = 5, 2  # donors whose surroundings a recipient gets: of its class, of each other; a half of them for the rest
MET = 3  # other classes that a recipient meets at most
ERROR_DONORS = 4  # of either class, for an error
LEAST, MOST = 6, 16  # recipients of a class
FORWARDS = 1600  # pictures that are segmented for all classes, about
PIXELS = 40_000_000  # of them all, about
LOCATED = 3  # findings whose place is looked for: the largest


class Question(NamedTuple):
    """What one contrast asks.

    Attributes:
        change: What is taken over.
        gained: Whether others become the class by what its donors have; else whether it is lost by what others lack.
        partner: The other class; None for all others.
    """

    change: Change
    gained: bool
    partner: int | None


@dataclass(frozen=True)
class Lost:
    """Images that lose their class by other donors but not by those of their own, of how many, and the interval."""

    images: int
    of: int

    @property
    def share(self) -> float:
        """Their share."""
        return self.images / self.of if self.of else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """The shares that such a count is likely for (95 %; Clopper and Pearson)."""
        if not self.of:
            return 0.0, 1.0
        found = binomtest(self.images, self.of).proportion_ci(method="exact")
        return float(found.low), float(found.high)


@dataclass(frozen=True)
class Example:
    """A recipient, what it was with a donor of either class, and where it lies."""

    recipient: Actor
    same: Actor
    other: Actor


@dataclass(frozen=True)
class Leaning:
    """What became of regions of one kind with the surroundings, tone, spectrum or place of other images.

    Attributes:
        truth: Index of the true class.
        predicted: Index of the class that is predicted.
        question: The most telling one.
        effect: Share of a region that is lost (or gained) by donors of another class beyond those of the own, mean.
        median: The same, median over recipients.
        probability: Of such an effect by chance, over all that was asked in the whole diagnosis.
        strength: The largest difference by donor, over its standard deviation under permutation.
        lost: Images that lose (or become) the class.
        control: Share of a region that is lost in the surroundings of other images of its own class.
        detectable: Smallest effect of surroundings that would have been found; infinite where no number would do.
        recipients: Images.
        donors: Images of the class, and of others.
        changes: What was tried.
        needed: Images of the class, and of others, that would do; 0 where those that are do.
        part: The least part that explains most; None where nothing is clear.
        mirror: Class whose leaning this is the other side of.
        examples: The most telling first.
        reverse: The same for the question the other way round, where that is as certain.
    """

    truth: int
    predicted: int
    question: Question
    effect: float
    median: float
    probability: float
    strength: float
    lost: Lost
    control: float
    detectable: float
    recipients: int
    donors: tuple[int, int]
    changes: tuple[Change, ...]
    needed: int
    part: Part | None = None
    mirror: int | None = None
    examples: tuple[Example, ...] = ()
    reverse: tuple[Example, ...] = ()

    @property
    def clear(self) -> bool:
        """Whether it does clearly more than chance."""
        return self.probability <= SIGNIFICANT and max(self.effect, self.lost.share) >= CLEAR

    @property
    def shortcut(self) -> bool:
        """Whether it is clear, its own side of the matter, and not what lies beside the class by its labels."""
        return self.clear and self.mirror is None and not self.nearby

    @property
    def nearby(self) -> bool:
        """Whether it hangs on labelled content that goes with the class: nature or a shortcut, for a person to say."""
        return self.part is not None and self.part.labelled

    @property
    def broken(self) -> bool:
        """Whether any other surroundings destroy the prediction, also those of the class's own images."""
        return self.control > BROKEN

    @property
    def lies_on(self) -> tuple[float, ...]:
        """Shares of what was found to matter by true class (K,), then unlabelled; empty where nothing is clear."""
        return self.part.lies_on if self.part else ()

    @property
    def least(self) -> float:
        """Smallest effect that would have been reported."""
        return max(CLEAR, self.detectable)

    @property
    def unclear(self) -> bool:
        """Whether an effect that matters could have been missed."""
        return not self.clear and (self.needed > 0 or self.broken)


def find_leanings(
    network: SegmentationNetwork,
    right: Mapping[int, Sequence[Case]],
    wrong: Mapping[tuple[int, int], Sequence[Case]],
    objects: Mapping[int, Sequence[Case]],
    whole: bool,
) -> dict[tuple[int, int], Leaning]:
    """Ask what classes, and errors, lean on.

    Args:
        network: In evaluation mode.
        right: Cases that are right, by class.
        wrong: Cases of errors, by true and predicted class.
        objects: Donors, by true class. Nothing that the network says may choose them: a network that goes by chance
            features of the surroundings is right where these suit it, and its right cases would differ by class.
        whole: Whether the cases' parts are whole images, so that places in them mean something.

    Returns:
        What was found by true and predicted class. Classes without a case are not in it, nor those that nearly every
        image holds: their surroundings are everybody's.
    """
    ignore = network.spec.ignore_index
    donors = as_donors([actor(case, ignore) for cases in objects.values() for case in cases])
    actors = {
        k: [actor(case, ignore) for case in cases]
        for k, cases in right.items()
        if cases and objects.get(k) and _lacking(donors, k) >= OTHERS
    }
    givers = list(dict.fromkeys(d.truth for d in donors))
    changes = [c for c in Change if whole or c is not Change.POSITION]
    size = max((a.picture.valid.size for a in donors), default=1)
    count = _affordable(len(actors), len(changes), size)
    recipients = [a for group in actors.values() for a in group[:count]]
    pairs = {}
    for number, change in enumerate(changes):
        share = 1.0 if change is Change.SURROUNDINGS else 0.5
        pairs[change] = choose(recipients, donors, _meetings(recipients, givers, share), number)
    trials = run_trials(network, recipients, donors, pairs)
    lent = [donor for k in actors for donor in [d for d in donors if d.truth == k][:OBJECTS]]
    probed = probe(network, lent, donors, sorted(actors), whole)
    found = {(k, k): judged for k in actors if (judged := _judge(trials, probed, k)) is not None}
    for (truth, predicted), cases in wrong.items():
        errors = [actor(case, ignore) for case in cases]
        if not errors or truth not in givers or predicted not in givers:
            continue
        met = {i: {truth: ERROR_DONORS, predicted: ERROR_DONORS} for i in range(len(errors))}
        tried = run_trials(network, errors, donors, {Change.SURROUNDINGS: choose(errors, donors, met)})
        judged = _judge(tried, [Probed(c, standardised(odds)) for c, odds in tried.odds.items()], predicted, truth)
        if judged is not None:
            found[truth, predicted] = judged
    found = _corrected(found)
    found = {key: _with_needs(v, len(found)) for key, v in found.items()}
    mirrors = _mirrors(trials, probed, found)
    found = {key: replace(v, mirror=mirrors.get(key)) for key, v in found.items()}
    clear = sorted(
        (key for key, v in found.items() if v.clear and v.mirror is None), key=lambda key: -found[key].effect
    )
    return found | {key: _located(network, found[key], whole, key in clear[:LOCATED]) for key in clear}


def _corrected(found: Mapping[tuple[int, int], Leaning]) -> dict[tuple[int, int], Leaning]:
    """Return leanings whose probabilities are corrected for their number; classes get most of the level."""
    corrected = {}
    for of_classes, weight in ((True, CLASSES_WEIGH), (False, 1 - CLASSES_WEIGH)):
        some = {key: v for key, v in found.items() if (key[0] == key[1]) is of_classes}
        for (key, v), p in zip(some.items(), holm([v.probability for v in some.values()]), strict=True):
            corrected[key] = replace(v, probability=min(1.0, p / weight))
    return corrected


def _affordable(classes: int, changes: int, size: int) -> int:
    """Return how many recipients of a class there is time for, by the pixels of a picture."""
    met = (OWN + EACH * min(classes - 1, MET)) * (1 + (changes - 1) / 2)
    return max(LEAST, min(MOST, int(min(FORWARDS, PIXELS / size) / max(1, classes * met))))


def _meetings(recipients: Sequence[Actor], classes: Sequence[int], share: float) -> dict[int, dict[int, int]]:
    """Return, by recipient and class, how many donors it meets."""
    generator, met = np.random.default_rng(0), {}
    for i, recipient in enumerate(recipients):
        others = [k for k in classes if k != recipient.truth]
        some = generator.permutation(others)[:MET].tolist()
        met[i] = {recipient.truth: round(OWN * share)} | {k: round(EACH * share) for k in some}
    return met


def _lacking(donors: Sequence[Actor], k: int) -> int:
    """Return from how many images donors are that do not hold a class."""
    return len({d.case.spot.image for d in donors if d.truth != k and k not in d.holds})


def _kept(donors: Sequence[Actor], without: Sequence[int]) -> np.ndarray:
    """Return which donors hold none of some classes (D,), boolean."""
    return np.array([d.truth not in without and d.holds.isdisjoint(without) for d in donors])


def _holds(donors: Sequence[Actor], num_classes: int) -> np.ndarray:
    """Return whether each donor holds each class (D, K)."""
    return np.array([[k == d.truth or k in d.holds for k in range(num_classes)] for d in donors])


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


def _judge(
    trials: Trials, probed: Sequence[Probed], k: int, truth: int | None = None, without: Sequence[int] = ()
) -> Leaning | None:
    """Ask all about a class, or of an error whose true class is given; None where there is nothing to compare."""
    kept = _kept(trials.donors, without)
    donors = [d for d, keep in zip(trials.donors, kept, strict=True) if keep]
    family = _family(trials, k, truth, kept, without)
    if not family:
        return None
    holds, units = _holds(donors, trials.num_classes), _units(donors)
    partners = _partners(trials, k, without) if truth is None else [truth]
    pulls = [(p.change, partner, Contrast(p.odds[:, kept, k], partner, k)) for p in probed for partner in partners]
    verdicts = compare([c for _, _, c in pulls], holds, units, SIGNIFICANT)
    chances: dict[tuple[Change, int | None], float] = {}
    for (change, partner, _), p in zip(pulls, verdicts.probabilities, strict=True):
        chances[change, partner] = min(p, chances.get((change, partner), 1.0))
    detectable = compare([c for _, c in family], holds, units, SIGNIFICANT).detectable
    effects = [float(np.nanmean(c.effects(holds))) for _, c in family]
    # of what is about as certain as anything, that which matters most
    chance = [chances.get((q.change, q.partner), 1.0) for q, _ in family]
    certain = [p <= 2 * min(chance) for p in chance]
    best = max(range(len(family)), key=lambda i: (certain[i], effects[i]))
    question, contrast = family[best]
    asked = {q: at for at, (q, _) in enumerate(family)}
    surroundings = min(at for q, at in asked.items() if q.change is Change.SURROUNDINGS and not q.gained)
    back = asked.get(question._replace(gained=not question.gained))
    reverse: tuple[Example, ...] = ()
    if back is not None and certain[back]:
        reverse = _examples(family[back][1], holds, _rows(trials, family[back][0], k, without), donors)
    rows = _rows(trials, question, k, without)
    own = {d.case.spot.image for d in donors if k == d.truth or k in d.holds}
    others = {d.case.spot.image for d in donors} - own
    return Leaning(
        k if truth is None else truth,
        k,
        question,
        effects[best],
        float(np.nanmedian(contrast.effects(holds))),
        chance[best],
        max(verdicts.strengths),
        _lost(contrast, holds, rows),
        _mean_loss(family[surroundings][1], holds, k),
        detectable[surroundings],
        len({r.case.spot.image for r in trials.recipients if r.predicted == k}),
        (len(own), len(others)),
        tuple(trials.outcomes),
        0,
        examples=_examples(contrast, holds, rows, donors),
        reverse=reverse,
    )


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


def _with_needs(leaning: Leaning, questions: int) -> Leaning:
    """Note how many images would do, where those that are could miss an effect that matters."""
    own, other = leaning.donors
    level = SIGNIFICANT / questions
    if attainable(own, other) <= level / 2 and leaning.detectable <= WEAK:
        return leaning
    enough = 2
    while attainable(enough, enough) > level / 2:
        enough += 1
    if np.isfinite(leaning.detectable) and leaning.detectable > WEAK:
        enough = max(enough, int(np.ceil(min(own, other) * (leaning.detectable / WEAK) ** 2)))
    return replace(leaning, needed=max(enough, 1 + min(own, other)))


def _mirrors(
    trials: Trials, probed: Sequence[Probed], found: Mapping[tuple[int, int], Leaning]
) -> dict[tuple[int, int], int]:
    """Return what leans on nothing but what another class leans on, too, or on its lack."""
    clear = sorted((v for key, v in found.items() if key[0] == key[1] and v.clear), key=lambda v: -v.strength)
    first: list[int] = []
    mirrors = {}
    for leaning in clear:
        k = leaning.predicted
        again = _judge(trials, probed, k, without=first) if first else leaning
        if again is None or not again.clear:
            mirrors[k, k] = first[0]
        else:
            first.append(k)
    for truth, predicted in found:
        sides = [mirrors.get((k, k), k) for k in (truth, predicted)]
        cause = next((k for k in first if k in sides), None)
        if truth != predicted and cause is not None:
            mirrors[truth, predicted] = cause
    return mirrors


def _located(network: SegmentationNetwork, leaning: Leaning, whole: bool, closely: bool) -> Leaning:
    """Return a leaning with the part that explains it, found the other way round where that tells more."""
    k, question = leaning.predicted, leaning.question

    def part(gained: bool, examples: Sequence[Example]) -> Part:
        def target(shares: np.ndarray) -> float:
            return float(shares[k] if gained else 1 - shares[k])

        triples = [(e.recipient, e.same, e.other) for e in examples]
        return locate(network, question.change, gained, triples, target, whole, closely)

    found = part(question.gained, leaning.examples)
    if closely and found.share > SMALL and leaning.reverse:
        other = part(not question.gained, leaning.reverse)
        if other.share < found.share / 2:
            return replace(leaning, part=other, examples=leaning.reverse)
    return replace(leaning, part=found)
