"""Whether a class hangs on something beside its objects: shortcuts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
from scipy.stats import binom

from satseg.attribution import Layer, explain
from satseg.attribution.context import CLEAR, DRAWS, ContextCheck, check_context, context_by_occlusion
from satseg.diagnosis.cases import Case
from satseg.models import SegmentationNetwork

FIRST = 3  # cases on which all layers are tried
FOLLOWED = 2  # layers that are tried on the rest
METHOD, OCCLUSION = "hirescam", "occlusion"
SIGNIFICANT = 0.05  # chance of a false alarm in a whole diagnosis (Bonferroni)

Checks = list[tuple[Case, ContextCheck]]


@dataclass(frozen=True)
class Leaning:
    """What happens to regions of one kind when the loudest context is replaced.

    Attributes:
        truth: Index of the true class.
        predicted: Index of the class that is predicted.
        layer: The layer whose maps found the context that matters most, or OCCLUSION.
        checks: Case and check, the most harmed first.
        excess: Share of a region's pixels that are lost beyond chance, median over the cases.
        probability: Of so many cases standing out if the context did not matter, over all that was tried; a bound by
            ranks, which the margin CLEAR makes safe for occlusion too, as that looks for the worst block.
        lies_on: Share of the replaced pixels by true class (K,), then unlabelled; sums to 1, or 0
            where nothing outside spoke for the class.
    """

    truth: int
    predicted: int
    layer: str
    checks: tuple[tuple[Case, ContextCheck], ...]
    excess: float
    probability: float
    lies_on: tuple[float, ...]

    @property
    def shortcut(self) -> bool:
        """Whether it does clearly more harm than chance, and is something else than the class itself."""
        return self.clear and not self.nearby

    @property
    def clear(self) -> bool:
        """Whether it does clearly more harm than chance."""
        return self.excess >= CLEAR and self.probability <= SIGNIFICANT

    @property
    def nearby(self) -> bool:
        """Whether it lies mostly on the predicted class: an error that is the seam of its neighbour, no shortcut."""
        return self.lies_on[self.predicted] >= 0.5

    @property
    def unclear(self) -> bool:
        """Whether it does harm, in too few regions to tell it from chance."""
        return self.excess >= CLEAR and not self.clear


def find_leaning(
    network: SegmentationNetwork, cases: Sequence[Case], layers: Sequence[Layer], questions: int = 1
) -> Leaning | None:
    """Try the maps of each layer, and occlusion; return what matters most, None where no case can be tested.

    All are tried on the first cases, and the most telling ones on the rest where there is anything to
    follow: where none of the first cases is harmed, the rest is left, to save time.

    Args:
        network: In evaluation mode.
        cases: Of one true and one predicted class.
        layers: Whose maps say what is loud.
        questions: How many such kinds of cases are asked about in all.
    """
    ways: dict[str, Layer | None] = {layer.name: layer for layer in layers} | {OCCLUSION: None}
    checks = {name: _check(network, cases[:FIRST], way) for name, way in ways.items()}
    telling = sorted(ways, key=lambda name: -max((c.excess for _, c in checks[name]), default=0.0))[:FOLLOWED]
    for name in telling:
        if any(check.chance for _, check in checks[name]):
            checks[name] += _check(network, cases[FIRST:], ways[name])
    tried = len(ways) * questions
    found = [_judge(name, tested, tried, network.spec.num_classes) for name, tested in checks.items() if tested]
    return max(found, key=lambda leaning: (leaning.shortcut, leaning.excess), default=None)


def _check(network: SegmentationNetwork, cases: Sequence[Case], layer: Layer | None) -> Checks:
    """Replace what a layer's maps say is loud, or without a layer, what occlusion says."""
    checks = []
    for case in cases:
        asked = (case.image, case.valid, case.pixels, case.spot.predicted)
        if layer is None:
            evidence = context_by_occlusion(network, *asked, case.near)
        else:
            evidence = explain(network, *asked, method=METHOD, layer=layer).evidence
        seed = case.window.col + 7919 * case.window.row  # other places in each case
        check = check_context(network, *asked, evidence, case.near, seed)
        if check is not None:
            checks.append((case, check))
    return checks


def _judge(layer: str, checks: Checks, tried: int, num_classes: int) -> Leaning:
    outstanding = sum(check.stands_out for _, check in checks)
    by_chance = float(binom.sf(outstanding - 1, len(checks), 1 / (DRAWS + 1)))
    spot = checks[0][0].spot
    return Leaning(
        spot.truth,
        spot.predicted,
        layer,
        tuple(sorted(checks, key=lambda pair: -pair[1].excess)),
        median(check.excess for _, check in checks),
        min(1.0, by_chance * tried),
        _lies_on(checks, num_classes),
    )


def _lies_on(checks: Checks, count: int) -> tuple[float, ...]:
    truths = np.concatenate([case.truth.cpu().numpy()[check.patch] for case, check in checks])
    counts = np.bincount(np.minimum(truths, count), minlength=count + 1)
    return tuple((counts / max(int(counts.sum()), 1)).tolist())
