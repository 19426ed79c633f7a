"""What tells most whether predictions hang on donors: the regions that are moved most, and many parts of what is new.

A whole picture's surroundings differ in much that has nothing to do with a class, and a network answers to all of it.
A part of them that holds the cue, and little else, tells it from that noise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from satseg.attribution.composites import Picture, swapped, swapped_fine
from satseg.diagnosis.parts import edges_of, rings
from satseg.diagnosis.swaps import Actor, Change, Variant, changed, regions
from satseg.models import SegmentationNetwork

REHEARSED = 6  # donors, the same for all, by which it is found out whose regions are moved most
OBJECTS = 12  # of a class, among which these are looked for, at most
REHEARSAL = 0.2  # of all pictures, for this
MOVED = 3  # regions of a class that are probed, at most
PIXELS = 55_000_000  # of all pictures that are segmented, about
STRETCHED = 2  # times as many, at most, so that there is one probe of each kind
CERTAIN = 6.0  # log odds beyond which it does not matter how certain a network is
STEADY = 0.5  # log odds: regions that vary less with the donor count less


class Probe(NamedTuple):
    """One thing that is taken over from donors."""

    change: Change
    make: Callable[[Picture, Picture], Variant]


class Probed(NamedTuple):
    """What became of regions by a probe.

    Attributes:
        change: What was taken over, in full or in part.
        odds: Log odds of each class over each region's own spread (R, D, K), by recipient and donor.
    """

    change: Change
    odds: np.ndarray


def probe(network: SegmentationNetwork, donors: Sequence[Actor], classes: Sequence[int], whole: bool) -> list[Probed]:
    """Give what donors have to the regions that are moved most, whole and in parts.

    Neither the classes of donors nor of what they give decides which regions these are, so that donors' classes can be
    permuted afterwards.

    Args:
        network: In evaluation mode.
        donors: Columns of the result; their objects, right or wrong, are what is given to.
        classes: That are asked about.
        whole: Whether pictures are whole images.
    """
    if not donors or not classes:
        return []
    given, column = _distinct(donors)
    size = donors[0].picture.valid.size
    generator = np.random.default_rng(0)
    some = generator.permutation(len(given))[:REHEARSED].tolist()
    each = int(np.clip(PIXELS / size * REHEARSAL / len(classes) / len(some), MOVED, OBJECTS))
    tried = [a for k in classes for a in [a for a in donors if a.truth == k][:each]]
    heard = _odds(network, Probe(Change.SURROUNDINGS, _full(Change.SURROUNDINGS)), tried, [given[i] for i in some])
    room = PIXELS / size - heard.shape[0] * heard.shape[1]
    made = _probes(given[0].picture, whole)
    count = int(np.clip(room / len(given) / len(made) / len(classes), 1, MOVED))
    recipients = [tried[i] for i in _most_moved(heard, classes, count)]
    affordable = room / len(given) / len(recipients)
    fits = max(1, int(affordable), min(1 + len({p.change for p in made}), int(STRETCHED * affordable)))
    return [Probed(p.change, standardised(_odds(network, p, recipients, given))[:, column]) for p in made[:fits]]


def _distinct(donors: Sequence[Actor]) -> tuple[list[Actor], list[int]]:
    """Return donors of which no two give the same part of an image, and for each donor which of them it is."""
    keys: dict[object, int] = {}
    given: list[Actor] = []
    column: list[int] = []
    for donor in donors:
        key = donor.case.spot.image, donor.case.window, donor.picture.objects.tobytes()
        if key not in keys:
            keys[key] = len(given)
            given.append(donor)
        column.append(keys[key])
    return given, column


def _full(change: Change) -> Callable[[Picture, Picture], Variant]:
    return lambda r, d: changed(change, r, d)


def _probes(first: Picture, whole: bool) -> list[Probe]:
    """Return the probes, those first that are never left out."""

    def part(mask: Callable[[Picture], np.ndarray]) -> Probe:
        kept = lru_cache(maxsize=1)(mask)  # a recipient's pictures follow one another
        return Probe(Change.SURROUNDINGS, lambda r, d: (swapped(r, d, kept(r)), r.valid, r.region))

    changes = [c for c in Change if whole or c is not Change.POSITION]
    fine = Probe(Change.SURROUNDINGS, lambda r, d: (swapped_fine(r, d), r.valid, r.region))
    places = [*(edges_of(first) if whole else []), *rings()]
    return [*(Probe(c, _full(c)) for c in changes), fine, *(part(t.mask) for t in places if t.mask is not None)]


def _odds(network: SegmentationNetwork, one: Probe, recipients: Sequence[Actor], donors: Sequence[Actor]) -> np.ndarray:
    table = np.full((len(recipients), len(donors), network.spec.num_classes), np.nan)
    pairs = [
        (i, j)
        for i, recipient in enumerate(recipients)
        for j, donor in enumerate(donors)
        if recipient.case.spot.image != donor.case.spot.image
    ]
    variants = (one.make(recipients[i].picture, donors[j].picture) for i, j in pairs)
    for (i, j), (_, odds) in zip(pairs, regions(network, variants), strict=True):
        table[i, j] = np.clip(odds, -CERTAIN, CERTAIN)
    return table


def _spread(odds: np.ndarray) -> np.ndarray:
    """Return the standard deviation over donors (R, 1, K); 0 without any."""
    tried = np.isfinite(odds)
    number = np.maximum(tried.sum(1, keepdims=True), 1)
    middle = np.where(tried, odds, 0).sum(1, keepdims=True) / number
    made: np.ndarray = np.sqrt((np.where(tried, odds - middle, 0) ** 2).sum(1, keepdims=True) / number)
    return made


def standardised(odds: np.ndarray) -> np.ndarray:
    """Return log odds (R, D, K), within what matters, over each region's own spread."""
    within = np.clip(odds, -CERTAIN, CERTAIN)
    made: np.ndarray = within / np.sqrt(_spread(within) ** 2 + STEADY**2)
    return made


def _most_moved(odds: np.ndarray, classes: Sequence[int], count: int) -> list[int]:
    """Return the numbers of the regions whose odds vary most with the donor, so many for each class."""
    spread, chosen = _spread(odds)[:, 0], dict[int, None]()
    for k in classes:
        left = [i for i in np.argsort(-spread[:, k], kind="stable").tolist() if i not in chosen]
        chosen |= dict.fromkeys(left[:count])
    return list(chosen)
