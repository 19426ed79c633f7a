"""Sensitive probes of a dependence on donors: the most sensitive regions, and many partial swaps.

Surroundings differ in much that has nothing to do with a class, and a network responds to all of it. A part that holds
the cue and little else separates it from that noise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from satseg.attribution.composites import Picture, swap_fine, swap_surroundings
from satseg.diagnosis.parts import edge_swaps, ring_swaps
from satseg.diagnosis.swaps import Change, SwapCase, Variant, apply_change, evaluate_regions
from satseg.models import SegmentationNetwork

PILOT_DONORS = 6  # the same for all objects, to find the most sensitive regions
MAX_OBJECTS = 12  # candidates of a class for these regions
PILOT_BUDGET = 0.2  # share of all pictures that this search may use
MAX_REGIONS = 3  # of a class that are probed
MAX_PIXELS = 55_000_000  # of all segmented pictures, approximately
MAX_OVERRUN = 2  # factor by which this may be exceeded, for one probe of each kind
MAX_LOG_ODDS = 6.0  # log odds are clipped to it: beyond, certainty does not matter
MIN_SPREAD = 0.5  # log odds; regions that vary less between donors count less


class Probe(NamedTuple):
    """One kind of swap, complete or partial."""

    change: Change
    make: Callable[[Picture, Picture], Variant]


class ProbeResult(NamedTuple):
    """Response of regions to a probe.

    Attributes:
        change: Kind of swap, complete or partial.
        odds: Log odds of each class by recipient and donor, over each region's own spread (R, D, K).
    """

    change: Change
    odds: np.ndarray


def probe(
    network: SegmentationNetwork, donors: Sequence[SwapCase], classes: Sequence[int], whole_images: bool
) -> list[ProbeResult]:
    """Swap donors' content into the most sensitive regions, completely and in parts.

    The choice of regions does not depend on the donors' classes, so that these can be permuted afterwards.

    Args:
        network: In evaluation mode.
        donors: Columns of the result; their own objects, right or wrong, are the candidate recipients.
        classes: The tested classes.
        whole_images: True if cases are whole images.
    """
    if not donors or not classes:
        return []
    given, column = _distinct(donors)
    size = donors[0].picture.valid.size
    generator = np.random.default_rng(0)
    some = generator.permutation(len(given))[:PILOT_DONORS].tolist()
    each = int(np.clip(MAX_PIXELS / size * PILOT_BUDGET / len(classes) / len(some), MAX_REGIONS, MAX_OBJECTS))
    tried = [a for k in classes for a in [a for a in donors if a.truth == k][:each]]
    pilot_odds = _odds(network, Probe(Change.SURROUNDINGS, _full(Change.SURROUNDINGS)), tried, [given[i] for i in some])
    room = MAX_PIXELS / size - pilot_odds.shape[0] * pilot_odds.shape[1]
    made = _probes(given[0].picture, whole_images)
    count = int(np.clip(room / len(given) / len(made) / len(classes), 1, MAX_REGIONS))
    recipients = [tried[i] for i in _most_sensitive(pilot_odds, classes, count)]
    affordable = room / len(given) / len(recipients)
    fits = max(1, int(affordable), min(1 + len({p.change for p in made}), int(MAX_OVERRUN * affordable)))
    return [ProbeResult(p.change, standardised(_odds(network, p, recipients, given))[:, column]) for p in made[:fits]]


def _distinct(donors: Sequence[SwapCase]) -> tuple[list[SwapCase], list[int]]:
    """Return donors with distinct content, and the index of each donor's content among them."""
    keys: dict[object, int] = {}
    given: list[SwapCase] = []
    column: list[int] = []
    for donor in donors:
        key = donor.case.component.image, donor.case.window, donor.picture.objects.tobytes()
        if key not in keys:
            keys[key] = len(given)
            given.append(donor)
        column.append(keys[key])
    return given, column


def _full(change: Change) -> Callable[[Picture, Picture], Variant]:
    return lambda r, d: apply_change(change, r, d)


def _probes(first: Picture, whole_images: bool) -> list[Probe]:
    """Return the probes, most important first."""

    def part(mask: Callable[[Picture], np.ndarray]) -> Probe:
        kept = lru_cache(maxsize=1)(mask)  # a recipient's pictures follow one another
        return Probe(Change.SURROUNDINGS, lambda r, d: (swap_surroundings(r, d, kept(r)), r.valid, r.region))

    changes = [c for c in Change if whole_images or c is not Change.POSITION]
    fine = Probe(Change.SURROUNDINGS, lambda r, d: (swap_fine(r, d), r.valid, r.region))
    places = [*(edge_swaps(first) if whole_images else []), *ring_swaps()]
    return [*(Probe(c, _full(c)) for c in changes), fine, *(part(t.mask) for t in places if t.mask is not None)]


def _odds(
    network: SegmentationNetwork, one: Probe, recipients: Sequence[SwapCase], donors: Sequence[SwapCase]
) -> np.ndarray:
    table = np.full((len(recipients), len(donors), network.spec.num_classes), np.nan)
    pairs = [
        (i, j)
        for i, recipient in enumerate(recipients)
        for j, donor in enumerate(donors)
        if recipient.case.component.image != donor.case.component.image
    ]
    variants = (one.make(recipients[i].picture, donors[j].picture) for i, j in pairs)
    for (i, j), (_, odds) in zip(pairs, evaluate_regions(network, variants), strict=True):
        table[i, j] = np.clip(odds, -MAX_LOG_ODDS, MAX_LOG_ODDS)
    return table


def _spread(odds: np.ndarray) -> np.ndarray:
    """Return the standard deviation over donors (R, 1, K); 0 without donors."""
    tried = np.isfinite(odds)
    number = np.maximum(tried.sum(1, keepdims=True), 1)
    middle = np.where(tried, odds, 0).sum(1, keepdims=True) / number
    made: np.ndarray = np.sqrt((np.where(tried, odds - middle, 0) ** 2).sum(1, keepdims=True) / number)
    return made


def standardised(odds: np.ndarray) -> np.ndarray:
    """Return clipped log odds (R, D, K) divided by each region's own spread."""
    within = np.clip(odds, -MAX_LOG_ODDS, MAX_LOG_ODDS)
    made: np.ndarray = within / np.sqrt(_spread(within) ** 2 + MIN_SPREAD**2)
    return made


def _most_sensitive(odds: np.ndarray, classes: Sequence[int], count: int) -> list[int]:
    """Return the indices of the regions whose odds vary most between donors, `count` for each class."""
    spread, chosen = _spread(odds)[:, 0], dict[int, None]()
    for k in classes:
        left = [i for i in np.argsort(-spread[:, k], kind="stable").tolist() if i not in chosen]
        chosen |= dict.fromkeys(left[:count])
    return list(chosen)
