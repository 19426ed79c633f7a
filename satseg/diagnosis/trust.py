"""Which layers' maps can be trusted on this model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import torch
from scipy.stats import binom

from satseg.attribution import Layer, explain
from satseg.attribution.faithfulness import Curves, curves, moved, randomised, similarity
from satseg.diagnosis.cases import Case
from satseg.models import SegmentationNetwork

METHOD = "hirescam"
ALIKE = 0.5  # cosine with a random network's map from which a map shows the image, not the model
RANDOM = 2  # moved maps in each case, all of which a map must beat
SIGNIFICANT = 0.05  # chance that a map that says nothing wins in as many cases


@dataclass(frozen=True)
class LayerTrust:
    """How a layer's maps fared.

    Attributes:
        layer: Name.
        size: Height and width of its maps.
        score: Insertion less deletion, median over the cases; higher is better.
        random_score: The same for the maps moved to a random place.
        wins: Cases in which the map beats all moved ones.
        cases: How many there are.
        similarity: To the maps of the network with shuffled weights, median cosine of the positive parts; NaN where
            no case has such a part.
        curves: Of the first case, with those of a moved map.
    """

    layer: str
    size: tuple[int, int]
    score: float
    random_score: float
    wins: int
    cases: int
    similarity: float
    curves: tuple[Curves, Curves]

    @property
    def faithful(self) -> bool:
        """Whether what it marks moves the prediction more than what a random map marks."""
        by_chance = float(binom.sf(self.wins - 1, self.cases, 1 / (RANDOM + 1)))
        return by_chance <= SIGNIFICANT and self.score > self.random_score

    @property
    def about_the_model(self) -> bool:
        """Whether it looks different on a network that knows nothing."""
        return self.similarity < ALIKE

    @property
    def passes(self) -> bool:
        """Whether its maps are read at all."""
        return self.faithful and self.about_the_model


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
    defined = [s for s in similarities if not math.isnan(s)]
    return LayerTrust(
        layer.name,
        layer.size,
        median(own.score for own, *_ in tests),
        median(curve.score for _, *random in tests for curve in random),
        sum(own.score > max(curve.score for curve in random) for own, *random in tests),
        len(tests),
        median(defined) if defined else math.nan,
        (tests[0][0], tests[0][1]),
    )
