"""Finds whether classes hang on something beside their objects: shortcuts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from satseg.diagnosis.cases import Case
from satseg.diagnosis.judgement import judge
from satseg.diagnosis.leaning import SIGNIFICANT, Example, Leaning
from satseg.diagnosis.permutation import holm
from satseg.diagnosis.places import SMALL, Part, locate
from satseg.diagnosis.probes import Probed, probe, standardised
from satseg.diagnosis.swaps import Actor, Change, Trials, actor, as_donors, choose, run_trials
from satseg.models import SegmentationNetwork

CLASSES_WEIGH = 0.8  # of it, for classes; the rest for errors
OTHERS = 4  # images without a class, from which those that hold it, too, are no donors of the others
OWN, EACH = 5, 2  # donors whose surroundings a recipient gets: of its class, of each other; a half of them for the rest
MET = 3  # other classes that a recipient meets at most
ERROR_DONORS = 4, 9  # of either class: for each error, and for all of a kind at least, or nothing could be told
LEAST, MOST = 6, 16  # recipients of a class
FORWARDS = 1600  # pictures that are segmented for all classes, about
PIXELS = 40_000_000  # of them all, about
APART = 0.5  # standard deviations by which the class that carries a cue must lead the one that is told from it
LOCATED = 3  # findings whose place is looked for: the largest


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
    probed = probe(network, donors, sorted(actors), whole)
    level = CLASSES_WEIGH * SIGNIFICANT / max(1, len(actors))
    found = {(k, k): judged for k in actors if (judged := judge(trials, probed, k, level)) is not None}
    found |= _of_errors(network, wrong, donors)
    found = _corrected(found)
    mirrors = _mirrors(trials, probed, found, level)
    found = {key: _with_sides(v, mirrors, found) for key, v in found.items()}
    clear = sorted(
        (key for key, v in found.items() if v.clear and v.mirror is None), key=lambda key: -found[key].effect
    )
    return found | {key: _located(network, found[key], whole, key in clear[:LOCATED]) for key in clear}


def _of_errors(
    network: SegmentationNetwork, wrong: Mapping[tuple[int, int], Sequence[Case]], donors: Sequence[Actor]
) -> dict[tuple[int, int], Leaning]:
    """Ask whether errors of a true and a predicted class hang on what donors of the predicted one have."""
    given = {d.truth for d in donors}
    asked = {key: cases for key, cases in wrong.items() if cases and given.issuperset(key)}
    found: dict[tuple[int, int], Leaning] = {}
    each, all_of_them = ERROR_DONORS
    for (truth, predicted), cases in asked.items():
        errors = [actor(case, network.spec.ignore_index) for case in cases]
        count = max(each, -(-all_of_them // len(errors)))
        met = {i: {truth: count, predicted: count} for i in range(len(errors))}
        tried = run_trials(network, errors, donors, {Change.SURROUNDINGS: choose(errors, donors, met)})
        probed = [Probed(change, standardised(odds)) for change, odds in tried.odds.items()]
        level = (1 - CLASSES_WEIGH) * SIGNIFICANT / len(asked)
        judged = judge(tried, probed, predicted, level, truth)
        if judged is not None:
            found[truth, predicted] = judged
    return found


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


def _mirrors(
    trials: Trials, probed: Sequence[Probed], found: Mapping[tuple[int, int], Leaning], level: float
) -> dict[tuple[int, int], int]:
    """Return what leans on nothing but what another class leans on, too, or on its lack."""
    clear = sorted((v for key, v in found.items() if key[0] == key[1] and v.clear), key=lambda v: -v.strength)
    first: list[int] = []
    mirrors = {}
    for leaning in clear:
        k = leaning.predicted
        again = judge(trials, probed, k, level, without=first) if first else leaning
        if first and not _is_clear(again, level):
            lacking = {f: judge(trials, probed, k, level, without=[f]) for f in first}
            mirrors[k, k] = next((f for f, left in lacking.items() if not _is_clear(left, level)), first[0])
        else:
            first.append(k)
    for (truth, predicted), leaning in found.items():
        sides = [mirrors.get((k, k), k) for k in (truth, predicted)]
        cause = next((k for k in first if k in sides), None)
        if truth != predicted and leaning.clear and cause is not None:
            mirrors[truth, predicted] = cause
    return mirrors


def _is_clear(leaning: Leaning | None, level: float) -> bool:
    return leaning is not None and leaning.clear and leaning.probability <= level


def _with_sides(
    leaning: Leaning, mirrors: Mapping[tuple[int, int], int], found: Mapping[tuple[int, int], Leaning]
) -> Leaning:
    """Note whose other side a leaning is, and which are its own."""
    k = leaning.predicted
    if leaning.truth != k or (k, k) in mirrors:
        return replace(leaning, mirror=mirrors.get((leaning.truth, k)))
    sides = tuple(p for (truth, p), cause in mirrors.items() if truth == p and cause == k)
    rivals = [found[p, p].strength for p in sides]
    return replace(leaning, told_from=sides, unsure=any(r > leaning.strength - APART for r in rivals))


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
