"""Which maps of evidence can be believed on this model."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import torch
from scipy.stats import wilcoxon
from torch import Tensor

from satseg.attribution import Layer, explain, layers_of
from satseg.attribution.faithfulness import Curves, curves, effect, moved, nearness, randomised
from satseg.diagnosis.cases import Case
from satseg.errors import LayerError
from satseg.models import SegmentationNetwork

METHOD, QUICK = "occlusion", "gradcam"  # whose maps are read; whose are tested, too, as users may look at them first
SIGNIFICANT = 0.05  # chance that a map that says nothing beats another as clearly
# Range of a case's curves below which it tells nothing of a map. A score is a mean difference of two curves, no farther
# from 0 than that range. Where the probability moves by less than a tenth whatever is taken away, no order of pixels
# is better than another in a way that matters to a prediction; which map wins is then decided by rounding and by hard
# edges of what is replaced.
RANGE = 0.1
NEEDED = math.ceil(math.log(SIGNIFICANT) / math.log(0.5))  # cases that tell, for a win in all to count

MapOf = Callable[[SegmentationNetwork, Case], Tensor]


class Verdict(StrEnum):
    """What the tests say of a kind of maps."""

    PASSES = "passes"
    FAILS = "fails"
    UNTESTED = "could not be tested"


class Rival(StrEnum):
    """A map that a map is compared with in each case."""

    MOVED = "moved"  # itself in a wrong place: as smooth, and about nothing
    SHUFFLED = "shuffled"  # what the same method says of the network with shuffled weights
    REGION = "region"  # how near each pixel is to the region: known without any map


@dataclass(frozen=True)
class Way:
    """A kind of maps.

    Attributes:
        method: One of `satseg.attribution.METHODS`.
        layer: Name of the layer, or `input`.
        make: Gives the map (H, W) of a network in a case.
    """

    method: str
    layer: str
    make: MapOf


@dataclass(frozen=True)
class Trust:
    """How a kind of maps fared.

    Attributes:
        method: One of `satseg.attribution.METHODS`.
        layer: Name of the layer, or `input`.
        score: Insertion less deletion, median over the cases that can tell; higher is better; NaN where there is none.
        rivals: The same for the maps that it is compared with.
        wins: Cases that can tell in which it beats each of them.
        chances: That a map no better than they leads by as much (signed ranks of Wilcoxon, one-sided).
        cases: How many can tell: their curves have a range of RANGE or more.
        looked_at: How many were looked at.
        widest: The largest range of the curves of any case.
        curves: Of the case with the largest range, then those of the moved map.
    """

    method: str
    layer: str
    score: float
    rivals: dict[Rival, float]
    wins: dict[Rival, int]
    chances: dict[Rival, float]
    cases: int
    looked_at: int
    widest: float
    curves: tuple[Curves, ...]

    def beats(self, rival: Rival) -> bool:
        """Whether it leads by more than chance allows."""
        return self.chances[rival] <= SIGNIFICANT

    @property
    def verdict(self) -> Verdict:
        """A map that passes marks what moves the prediction, and depends on what was learned."""
        if self.cases < NEEDED:
            return Verdict.UNTESTED
        return Verdict.PASSES if self.beats(Rival.MOVED) and self.beats(Rival.SHUFFLED) else Verdict.FAILS

    @property
    def passes(self) -> bool:
        """Whether its maps are read at all."""
        return self.verdict is Verdict.PASSES


def way_of(method: str, layer: Layer | None = None) -> Way:
    """Return the maps of a method at a layer, or at the input."""
    name = layer.name if layer else "input"

    def make(network: SegmentationNetwork, case: Case) -> Tensor:
        asked = (case.image, case.valid, case.pixels, case.spot.predicted)
        return explain(network, *asked, method=method, layer=name).evidence

    return Way(method, name, make)


def usual_ways(network: SegmentationNetwork, case: Case) -> list[Way]:
    """Return the maps that are read, and the quick ones at the encoder's deepest layer, where that has a map."""
    try:
        deepest = layers_of(network, case.image, case.valid, ["auto"])
    except LayerError:
        deepest = []
    return [way_of(METHOD), *(way_of(QUICK, layer) for layer in deepest)]


def telling(network: SegmentationNetwork, cases: Iterable[Case], count: int) -> list[Case]:
    """Return `count` cases, first those whose class becomes less probable when everything is replaced."""
    first: list[Case] = []
    rest: list[Case] = []
    for case in cases:
        moves = effect(network, case.image, case.valid, case.pixels, case.spot.predicted) >= RANGE
        (first if moves else rest).append(case)
        if len(first) == count:
            break
    return list(itertools.islice(itertools.chain(first, rest), count))


def judge(network: SegmentationNetwork, cases: Sequence[Case], ways: Iterable[Way]) -> Iterator[Trust]:
    """Test each kind of maps on the same cases, which the model gets right."""
    images, valid = (torch.cat([getattr(case, name) for case in cases]) for name in ("image", "valid"))
    twin = randomised(network, images, valid)
    near = [_curves(network, case, [nearness(case.pixels)])[0] for case in cases]
    for way in ways:
        yield _judge(network, twin, cases, way, near)


def _judge(
    network: SegmentationNetwork, twin: SegmentationNetwork, cases: Sequence[Case], way: Way, near: Sequence[Curves]
) -> Trust:
    generator = torch.Generator().manual_seed(0)
    tests: list[tuple[Curves, ...]] = []  # of the map, then of its rivals
    for case, region in zip(cases, near, strict=True):
        evidence = way.make(network, case)
        maps = [evidence, moved(evidence, generator), way.make(twin, case)]
        tests.append((*_curves(network, case, maps), region))
    best = max(tests, key=_range)
    able = [[each.score for each in test] for test in tests if _range(test) >= RANGE]
    scores = np.reshape(able, (len(able), 1 + len(Rival)))
    leads = dict(zip(Rival, (scores[:, :1] - scores[:, 1:]).T, strict=True))
    own, *others = np.median(scores, axis=0).tolist() if able else [math.nan] * (1 + len(Rival))
    return Trust(
        way.method,
        way.layer,
        own,
        dict(zip(Rival, others, strict=True)),
        {rival: int((lead > 0).sum()) for rival, lead in leads.items()},
        {rival: _by_chance(lead) for rival, lead in leads.items()},
        len(able),
        len(tests),
        _range(best),
        best[:2],
    )


def _by_chance(leads: np.ndarray) -> float:
    return float(wilcoxon(leads, alternative="greater").pvalue) if leads.any() else 1.0


def _curves(network: SegmentationNetwork, case: Case, maps: Sequence[Tensor]) -> list[Curves]:
    return curves(network, case.image, case.valid, case.pixels, case.spot.predicted, maps)


def _range(test: Sequence[Curves]) -> float:
    """Return how far the probability moves along the curves of a case, those of the rivals too."""
    values = [v for each in test for v in (*each.deletion, *each.insertion)]
    return max(values) - min(values)
