"""Tests of which evidence maps can be trusted on this model."""

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
from satseg.attribution.faithfulness import Curves, curves, nearness, randomised, replacement_effect, shifted_map
from satseg.diagnosis.cases import Case
from satseg.errors import LayerError
from satseg.models import SegmentationNetwork

METHOD, QUICK = "occlusion", "gradcam"  # the method in use; one that is tested too, as users may try it first
SIGNIFICANT = 0.05  # level of each comparison
# Range of a case's curves below which it says nothing about a map. A score is a mean difference of two curves, so its
# magnitude is at most that range. If the probability changes by less than a tenth whatever is removed, no order of
# pixels is better than another in a way that matters; rounding and the hard edges of replacements would decide.
MIN_RANGE = 0.1
MIN_CASES = math.ceil(math.log(SIGNIFICANT) / math.log(0.5))  # for a win in all of them to be significant

MapFunction = Callable[[SegmentationNetwork, Case], Tensor]


class Verdict(StrEnum):
    """Outcome of the tests of a kind of map."""

    PASSES = "passes"
    FAILS = "fails"
    UNTESTED = "could not be tested"


class Rival(StrEnum):
    """A baseline that a map is compared with in each case."""

    MOVED = "moved"  # the map itself, shifted: as smooth, but meaningless
    SHUFFLED = "shuffled"  # the same method on the network with shuffled weights
    REGION = "region"  # distance of each pixel to the region: known without any map


@dataclass(frozen=True)
class MapKind:
    """A kind of map.

    Attributes:
        method: One of `satseg.attribution.METHODS`.
        layer: Name of the layer, or `input`.
        make: Function of a network and a case that returns the map (H, W).
    """

    method: str
    layer: str
    make: MapFunction


@dataclass(frozen=True)
class Trust:
    """Test results of a kind of map.

    Attributes:
        method: One of `satseg.attribution.METHODS`.
        layer: Name of the layer, or `input`.
        score: Insertion minus deletion, median over the informative cases; higher is better; NaN if there are none.
        rivals: The same for each baseline.
        wins: Informative cases in which it beats each baseline.
        chances: p-value against each baseline (one-sided Wilcoxon signed-rank test).
        cases: Number of informative cases: those whose curves have a range of MIN_RANGE or more.
        looked_at: Number of cases tested.
        widest: Largest range of the curves of any case.
        curves: Curves of the case with the largest range: of the map, then of the shifted map.
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
        """Return True if it beats a baseline significantly."""
        return self.chances[rival] <= SIGNIFICANT

    @property
    def verdict(self) -> Verdict:
        """Outcome of the tests: a map passes if it marks what changes the prediction and depends on the weights.

        A score of 0 or less is that of a map that marks nothing, however much worse its baselines are.
        """
        if self.cases < MIN_CASES:
            return Verdict.UNTESTED
        beats_both = self.beats(Rival.MOVED) and self.beats(Rival.SHUFFLED)
        return Verdict.PASSES if beats_both and self.score > 0 else Verdict.FAILS

    @property
    def passes(self) -> bool:
        """True if its maps may be used."""
        return self.verdict is Verdict.PASSES


def map_kind(method: str, layer: Layer | None = None) -> MapKind:
    """Return the kind of map of a method at a layer, or at the input."""
    name = layer.name if layer else "input"

    def make(network: SegmentationNetwork, case: Case) -> Tensor:
        asked = (case.image, case.valid, case.pixels, case.component.predicted)
        return explain(network, *asked, method=method, layer=name).evidence

    return MapKind(method, name, make)


def default_kinds(network: SegmentationNetwork, case: Case) -> list[MapKind]:
    """Return the kind of map in use, and the quick one at the encoder's deepest layer if that has a map."""
    try:
        deepest = layers_of(network, case.image, case.valid, ["auto"])
    except LayerError:
        deepest = []
    return [map_kind(METHOD), *(map_kind(QUICK, layer) for layer in deepest)]


def informative_cases(network: SegmentationNetwork, cases: Iterable[Case], count: int) -> list[Case]:
    """Return `count` cases, preferring those whose class becomes less probable when everything is replaced."""
    first: list[Case] = []
    rest: list[Case] = []
    for case in cases:
        moves = replacement_effect(network, case.image, case.valid, case.pixels, case.component.predicted) >= MIN_RANGE
        (first if moves else rest).append(case)
        if len(first) == count:
            break
    return list(itertools.islice(itertools.chain(first, rest), count))


def evaluate_maps(network: SegmentationNetwork, cases: Sequence[Case], kinds: Iterable[MapKind]) -> Iterator[Trust]:
    """Yield the test results of each kind of map on the same correct cases."""
    images, valid = (torch.cat([getattr(case, name) for case in cases]) for name in ("image", "valid"))
    twin = randomised(network, images, valid)
    near = [_curves(network, case, [nearness(case.pixels)])[0] for case in cases]
    for kind in kinds:
        yield _evaluate_kind(network, twin, cases, kind, near)


def _evaluate_kind(
    network: SegmentationNetwork,
    twin: SegmentationNetwork,
    cases: Sequence[Case],
    kind: MapKind,
    near: Sequence[Curves],
) -> Trust:
    generator = torch.Generator().manual_seed(0)
    tests: list[tuple[Curves, ...]] = []  # of the map, then of its baselines
    for case, region in zip(cases, near, strict=True):
        evidence = kind.make(network, case)
        maps = [evidence, shifted_map(evidence, generator), kind.make(twin, case)]
        tests.append((*_curves(network, case, maps), region))
    best = max(tests, key=_range)
    able = [[each.score for each in test] for test in tests if _range(test) >= MIN_RANGE]
    scores = np.reshape(able, (len(able), 1 + len(Rival)))
    leads = dict(zip(Rival, (scores[:, :1] - scores[:, 1:]).T, strict=True))
    own, *others = np.median(scores, axis=0).tolist() if able else [math.nan] * (1 + len(Rival))
    return Trust(
        kind.method,
        kind.layer,
        own,
        dict(zip(Rival, others, strict=True)),
        {rival: int((lead > 0).sum()) for rival, lead in leads.items()},
        {rival: _p_value(lead) for rival, lead in leads.items()},
        len(able),
        len(tests),
        _range(best),
        best[:2],
    )


def _p_value(leads: np.ndarray) -> float:
    return float(wilcoxon(leads, alternative="greater").pvalue) if leads.any() else 1.0


def _curves(network: SegmentationNetwork, case: Case, maps: Sequence[Tensor]) -> list[Curves]:
    return curves(network, case.image, case.valid, case.pixels, case.component.predicted, maps)


def _range(test: Sequence[Curves]) -> float:
    """Return the range of the probability along all curves of a case."""
    values = [v for each in test for v in (*each.deletion, *each.insertion)]
    return max(values) - min(values)
