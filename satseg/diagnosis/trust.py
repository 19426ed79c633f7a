"""Which layers' maps can be trusted on this model."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import median

import torch
from scipy.stats import binom

from satseg.attribution import Layer, explain
from satseg.attribution.faithfulness import Curves, curves, effect, moved, randomised, similarity
from satseg.diagnosis.cases import Case
from satseg.models import SegmentationNetwork

METHOD = "hirescam"
ALIKE = 0.5  # cosine with a random network's map from which a map shows the image, not the model
RANDOM = 2  # moved maps in each case, all of which a map must beat
SIGNIFICANT = 0.05  # chance that a map that says nothing wins in as many cases
# Range of a case's curves below which it tells nothing of a map. A score is an area between two curves, no farther from
# 0 than that range, and maps that say nothing score about 0: the truest map leads a random one by no more than that.
# Where the probability moves by less than a tenth whatever is taken away, no order of pixels is better than another in
# a way that matters to a prediction; which map wins is then decided by rounding and by hard edges of what is replaced.
RANGE = 0.1
NEEDED = math.ceil(math.log(SIGNIFICANT) / math.log(1 / (RANDOM + 1)))  # cases that tell, for a win in all to count


class Verdict(StrEnum):
    """What the tests say of a layer's maps."""

    PASSES = "passes"
    FAILS = "fails"
    UNTESTED = "could not be tested"


@dataclass(frozen=True)
class LayerTrust:
    """How a layer's maps fared.

    Attributes:
        layer: Name.
        size: Height and width of its maps.
        score: Insertion less deletion, median over the cases that can tell; higher is better; NaN where there is none.
        random_score: The same for the maps moved to a random place.
        wins: Cases that can tell in which the map beats all moved ones.
        cases: How many can tell: their curves have a range of RANGE or more.
        looked_at: How many were looked at.
        widest: The largest range of the curves of any case.
        similarity: To the maps of the network with shuffled weights, median cosine of the positive parts; NaN where
            no case has such a part.
        curves: Of the case with the largest range, with those of a moved map.
    """

    layer: str
    size: tuple[int, int]
    score: float
    random_score: float
    wins: int
    cases: int
    looked_at: int
    widest: float
    similarity: float
    curves: tuple[Curves, Curves]

    @property
    def testable(self) -> bool:
        """Whether a map that wins in every case that can tell would be told from chance."""
        return self.cases >= NEEDED

    @property
    def faithful(self) -> bool:
        """Whether what it marks moves the prediction more than what a random map marks."""
        return _by_chance(self.wins, self.cases) <= SIGNIFICANT and self.score > self.random_score

    @property
    def about_the_model(self) -> bool:
        """Whether it looks different on a network that knows nothing."""
        return self.similarity < ALIKE

    @property
    def verdict(self) -> Verdict:
        """What fails one test fails; what none fails must have taken both to pass."""
        if self.similarity >= ALIKE or (self.testable and not self.faithful):
            return Verdict.FAILS
        return Verdict.PASSES if self.testable and self.about_the_model else Verdict.UNTESTED

    @property
    def passes(self) -> bool:
        """Whether its maps are read at all."""
        return self.verdict is Verdict.PASSES


def _by_chance(wins: int, cases: int) -> float:
    """Return the probability that a map that says nothing wins in as many cases."""
    return float(binom.sf(wins - 1, cases, 1 / (RANDOM + 1)))


def telling(network: SegmentationNetwork, cases: Iterable[Case], count: int) -> list[Case]:
    """Return `count` cases, first those whose class becomes less probable when everything is taken away."""
    first: list[Case] = []
    rest: list[Case] = []
    for case in cases:
        moves = effect(network, case.image, case.valid, case.pixels, case.spot.predicted) >= RANGE
        (first if moves else rest).append(case)
        if len(first) == count:
            break
    return list(itertools.islice(itertools.chain(first, rest), count))


def judge_layers(network: SegmentationNetwork, cases: Sequence[Case], layers: Sequence[Layer]) -> list[LayerTrust]:
    """Test each layer's maps on some cases that the model gets right."""
    images, valid = (torch.cat([getattr(case, name) for case in cases]) for name in ("image", "valid"))
    twin = randomised(network, images, valid)
    return [_judge(network, twin, cases, layer) for layer in layers]


def _judge(network: SegmentationNetwork, twin: SegmentationNetwork, cases: Sequence[Case], layer: Layer) -> LayerTrust:
    generator = torch.Generator().manual_seed(0)
    tests, similarities = [], []
    for case in cases:
        asked = (case.image, case.valid, case.pixels, case.spot.predicted)
        evidence = explain(network, *asked, method=METHOD, layer=layer).evidence
        other = explain(twin, *asked, method=METHOD, layer=layer.name).evidence
        similarities.append(similarity(evidence, other))
        maps = [evidence, *(moved(evidence, generator) for _ in range(RANDOM))]
        tests.append([curves(network, *asked, m) for m in maps])
    able = [test for test in tests if _range(test) >= RANGE]
    defined = [s for s in similarities if not math.isnan(s)]
    best = max(tests, key=_range)
    return LayerTrust(
        layer.name,
        layer.size,
        median(own.score for own, *_ in able) if able else math.nan,
        median(curve.score for _, *random in able for curve in random) if able else math.nan,
        sum(own.score > max(curve.score for curve in random) for own, *random in able),
        len(able),
        len(tests),
        _range(best),
        median(defined) if defined else math.nan,
        (best[0], best[1]),
    )


def _range(test: Sequence[Curves]) -> float:
    """Return how far the probability moves along the curves of a case, those of the moved maps too."""
    values = [v for each in test for v in (*each.deletion, *each.insertion)]
    return max(values) - min(values)
