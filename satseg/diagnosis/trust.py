"""Which layers' maps can be trusted on this model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import torch

from satseg.attribution import Layer, explain
from satseg.attribution.faithfulness import Curves, curves, moved, randomised, similarity
from satseg.diagnosis.cases import Case
from satseg.models import SegmentationNetwork

METHOD = "hirescam"
ALIKE = 0.5  # cosine with a random network's map from which a map shows the image, not the model
MOSTLY = 2 / 3  # of the cases in which a map must beat a random one


@dataclass(frozen=True)
class LayerTrust:
    """How a layer's maps fared.

    Attributes:
        layer: Name.
        size: Height and width of its maps.
        score: Insertion less deletion, median over the cases; higher is better.
        random_score: The same for the maps moved to a random place.
        wins: Share of the cases in which the map beats the moved one.
        similarity: To the maps of the network with shuffled weights, median cosine of the positive parts.
        curves: Of the first case, with those of the moved map.
    """

    layer: str
    size: tuple[int, int]
    score: float
    random_score: float
    wins: float
    similarity: float
    curves: tuple[Curves, Curves]

    @property
    def faithful(self) -> bool:
        """Whether what it marks moves the prediction more than what a random map marks."""
        return self.wins >= MOSTLY and self.score > self.random_score

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
    twin = randomised(network)
    return [_judge(network, twin, cases, layer) for layer in layers]


def _judge(network: SegmentationNetwork, twin: SegmentationNetwork, cases: Sequence[Case], layer: Layer) -> LayerTrust:
    generator = torch.Generator().manual_seed(0)
    pairs, similarities = [], []
    for case in cases:
        asked = (case.image, case.valid, case.pixels, case.spot.predicted)
        evidence = explain(network, *asked, method=METHOD, layer=layer).evidence
        other = explain(twin, *asked, method=METHOD, layer=layer.name).evidence
        similarities.append(similarity(evidence, other))
        pairs.append((curves(network, *asked, evidence), curves(network, *asked, moved(evidence, generator))))
    return LayerTrust(
        layer.name,
        layer.size,
        median(own.score for own, _ in pairs),
        median(random.score for _, random in pairs),
        sum(own.score > random.score for own, random in pairs) / len(pairs),
        median(similarities),
        pairs[0],
    )
