"""Detection of shortcuts: classes that depend on something other than their objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from satseg.diagnosis.assessment import assess
from satseg.diagnosis.cases import Case
from satseg.diagnosis.dependence import SIGNIFICANT, Dependence, Example
from satseg.diagnosis.permutation import holm
from satseg.diagnosis.places import SMALL, Part, locate_cue
from satseg.diagnosis.probes import ProbeResult, probe, standardised
from satseg.diagnosis.swaps import Change, SwapCase, Trials, as_donors, choose_pairs, run_trials, swap_case
from satseg.models import SegmentationNetwork

CLASS_WEIGHT = 0.8  # share of the significance level for classes; the rest is for errors
MIN_OTHER_IMAGES = 4  # donor images without a class that are needed to test it
# Donors of surroundings for each recipient, of its own class and of each other; half as many for other swaps.
OWN_DONORS, OTHER_DONORS = 5, 2
MAX_CLASSES_MET = 3  # other classes that a recipient is combined with
ERROR_DONORS = 4, 9  # of either class: for each error, and at least for all errors of a kind
MIN_RECIPIENTS, MAX_RECIPIENTS = 6, 16  # of a class
MAX_FORWARDS = 1600  # pictures segmented for all classes, approximately
MAX_PIXELS = 40_000_000  # of all these pictures, approximately
MIN_LEAD = 0.5  # standard deviations by which the class that carries a cue must exceed its counterpart
MAX_LOCATED = 3  # largest findings whose cue is localised


def find_dependences(
    network: SegmentationNetwork,
    right: Mapping[int, Sequence[Case]],
    wrong: Mapping[tuple[int, int], Sequence[Case]],
    objects: Mapping[int, Sequence[Case]],
    whole_images: bool,
) -> dict[tuple[int, int], Dependence]:
    """Return what classes and errors depend on.

    Args:
        network: In evaluation mode.
        right: Correct cases by class.
        wrong: Cases of errors, by true and predicted class.
        objects: Donors by true class. They must not be chosen by predictions: a network that uses chance features of
            the surroundings is right where these suit it, and its correct cases would differ by class.
        whole_images: True if cases are whole images, so that positions in them are meaningful.

    Returns:
        Dependences by true and predicted class. Classes without a case are left out, as are those that nearly every
        image holds, since all images share their surroundings.
    """
    ignore = network.spec.ignore_index
    donors = as_donors([swap_case(case, ignore) for cases in objects.values() for case in cases])
    swap_cases = {
        k: [swap_case(case, ignore) for case in cases]
        for k, cases in right.items()
        if cases and objects.get(k) and _num_images_without(donors, k) >= MIN_OTHER_IMAGES
    }
    donor_classes = list(dict.fromkeys(d.truth for d in donors))
    changes = [c for c in Change if whole_images or c is not Change.POSITION]
    size = max((a.picture.valid.size for a in donors), default=1)
    count = _affordable(len(swap_cases), len(changes), size)
    recipients = [a for group in swap_cases.values() for a in group[:count]]
    pairs = {}
    for number, change in enumerate(changes):
        share = 1.0 if change is Change.SURROUNDINGS else 0.5
        pairs[change] = choose_pairs(recipients, donors, _donor_counts(recipients, donor_classes, share), number)
    trials = run_trials(network, recipients, donors, pairs)
    probe_results = probe(network, donors, sorted(swap_cases), whole_images)
    level = CLASS_WEIGHT * SIGNIFICANT / max(1, len(swap_cases))
    found = {(k, k): assessed for k in swap_cases if (assessed := assess(trials, probe_results, k, level)) is not None}
    found |= _error_dependences(network, wrong, donors)
    found = _correct(found)
    mirrors = _mirrors(trials, probe_results, found, level)
    found = {key: _with_counterparts(v, mirrors, found) for key, v in found.items()}
    clear = sorted(
        (key for key, v in found.items() if v.clear and v.mirror is None), key=lambda key: -found[key].effect
    )
    return found | {key: _with_location(network, found[key], whole_images, key in clear[:MAX_LOCATED]) for key in clear}


def _error_dependences(
    network: SegmentationNetwork, wrong: Mapping[tuple[int, int], Sequence[Case]], donors: Sequence[SwapCase]
) -> dict[tuple[int, int], Dependence]:
    """Return what errors of a true and a predicted class depend on."""
    given = {d.truth for d in donors}
    asked = {key: cases for key, cases in wrong.items() if cases and given.issuperset(key)}
    found: dict[tuple[int, int], Dependence] = {}
    each, all_of_them = ERROR_DONORS
    for (truth, predicted), cases in asked.items():
        errors = [swap_case(case, network.spec.ignore_index) for case in cases]
        count = max(each, -(-all_of_them // len(errors)))
        met = {i: {truth: count, predicted: count} for i in range(len(errors))}
        tried = run_trials(network, errors, donors, {Change.SURROUNDINGS: choose_pairs(errors, donors, met)})
        probe_results = [ProbeResult(change, standardised(odds)) for change, odds in tried.odds.items()]
        level = (1 - CLASS_WEIGHT) * SIGNIFICANT / len(asked)
        assessed = assess(tried, probe_results, predicted, level, truth)
        if assessed is not None:
            found[truth, predicted] = assessed
    return found


def _correct(found: Mapping[tuple[int, int], Dependence]) -> dict[tuple[int, int], Dependence]:
    """Return dependences with p-values corrected for their number; classes get most of the level."""
    corrected = {}
    for of_classes, weight in ((True, CLASS_WEIGHT), (False, 1 - CLASS_WEIGHT)):
        some = {key: v for key, v in found.items() if (key[0] == key[1]) is of_classes}
        for (key, v), p in zip(some.items(), holm([v.p_value for v in some.values()]), strict=True):
            corrected[key] = replace(v, p_value=min(1.0, p / weight))
    return corrected


def _affordable(classes: int, changes: int, size: int) -> int:
    """Return the number of recipients per class that the time budget allows for pictures of this size."""
    met = (OWN_DONORS + OTHER_DONORS * min(classes - 1, MAX_CLASSES_MET)) * (1 + (changes - 1) / 2)
    return max(MIN_RECIPIENTS, min(MAX_RECIPIENTS, int(min(MAX_FORWARDS, MAX_PIXELS / size) / max(1, classes * met))))


def _donor_counts(recipients: Sequence[SwapCase], classes: Sequence[int], share: float) -> dict[int, dict[int, int]]:
    """Return the number of donors by recipient and class."""
    generator, met = np.random.default_rng(0), {}
    for i, recipient in enumerate(recipients):
        others = [k for k in classes if k != recipient.truth]
        some = generator.permutation(others)[:MAX_CLASSES_MET].tolist()
        met[i] = {recipient.truth: round(OWN_DONORS * share)} | {k: round(OTHER_DONORS * share) for k in some}
    return met


def _num_images_without(donors: Sequence[SwapCase], k: int) -> int:
    """Return the number of donor images without a class."""
    return len({d.case.component.image for d in donors if d.truth != k and k not in d.holds})


def _mirrors(
    trials: Trials, probe_results: Sequence[ProbeResult], found: Mapping[tuple[int, int], Dependence], level: float
) -> dict[tuple[int, int], int]:
    """Return the dependences that only mirror another class's cue, or its absence, with that class."""
    clear = sorted((v for key, v in found.items() if key[0] == key[1] and v.clear), key=lambda v: -v.strength)
    first: list[int] = []
    mirrors = {}
    for dependence in clear:
        k = dependence.predicted
        again = assess(trials, probe_results, k, level, without=first) if first else dependence
        if first and not _is_clear(again, level):
            lacking = {f: assess(trials, probe_results, k, level, without=[f]) for f in first}
            mirrors[k, k] = next((f for f, left in lacking.items() if not _is_clear(left, level)), first[0])
        else:
            first.append(k)
    for (truth, predicted), dependence in found.items():
        sides = [mirrors.get((k, k), k) for k in (truth, predicted)]
        cause = next((k for k in first if k in sides), None)
        if truth != predicted and dependence.clear and cause is not None:
            mirrors[truth, predicted] = cause
    return mirrors


def _is_clear(dependence: Dependence | None, level: float) -> bool:
    return dependence is not None and dependence.clear and dependence.p_value <= level


def _with_counterparts(
    dependence: Dependence, mirrors: Mapping[tuple[int, int], int], found: Mapping[tuple[int, int], Dependence]
) -> Dependence:
    """Return a dependence with its mirror class or its counterparts."""
    k = dependence.predicted
    if dependence.truth != k or (k, k) in mirrors:
        return replace(dependence, mirror=mirrors.get((dependence.truth, k)))
    sides = tuple(p for (truth, p), cause in mirrors.items() if truth == p and cause == k)
    rivals = [found[p, p].strength for p in sides]
    return replace(dependence, counterparts=sides, ambiguous=any(r > dependence.strength - MIN_LEAD for r in rivals))


def _with_location(
    network: SegmentationNetwork, dependence: Dependence, whole_images: bool, search: bool
) -> Dependence:
    """Return a dependence with the part that explains it, by the reverse examples if that part is smaller."""
    k, question = dependence.predicted, dependence.question

    def part(gained: bool, examples: Sequence[Example]) -> Part:
        def target(shares: np.ndarray) -> float:
            return float(shares[k] if gained else 1 - shares[k])

        triples = [(e.recipient, e.same, e.other) for e in examples]
        return locate_cue(network, question.change, gained, triples, target, whole_images, search)

    found = part(question.gained, dependence.examples)
    if search and found.share > SMALL and dependence.reverse:
        other = part(not question.gained, dependence.reverse)
        if other.share < found.share / 2:
            return replace(dependence, part=other, examples=dependence.reverse)
    return replace(dependence, part=found)
