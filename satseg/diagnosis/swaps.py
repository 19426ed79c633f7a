"""Swap experiments: objects with the surroundings, tone, spectrum or position of other images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import islice

import numpy as np
import torch
from scipy.ndimage import binary_dilation

from satseg.attribution.composites import (
    FOOTPRINT,
    MARGIN,
    MAX_OBJECT_COVER,
    Picture,
    match_spectrum,
    match_tone,
    move_object,
    swap_surroundings,
)
from satseg.attribution.replacement import batch_size
from satseg.diagnosis.cases import Case
from satseg.models import SegmentationNetwork

MAX_OBJECT_SHARE = 0.35  # of a case; larger objects are cut down, or nothing would be left to replace
MIN_CLASS_SHARE = 0.005  # of a case above which it holds a class
MIN_RADIUS = 12.0  # in pixels, of what remains of a cut object


class Change(StrEnum):
    """Kind of swap: the content that a recipient takes from a donor."""

    SURROUNDINGS = "surroundings"
    TONE = "tone"
    SPECTRUM = "spectrum"
    POSITION = "position"


Variant = tuple[np.ndarray, np.ndarray, np.ndarray]  # image (C, H, W), valid (H, W), region (H, W)


@dataclass(frozen=True, eq=False)
class SwapCase:
    """A case prepared as recipient or donor; `holds` are the classes in its part of the image."""

    case: Case
    picture: Picture
    holds: frozenset[int]

    @property
    def truth(self) -> int:
        """True class of the region."""
        return self.case.component.truth

    @property
    def predicted(self) -> int:
        """Predicted class of the region."""
        return self.case.component.predicted

    def has(self, k: int) -> bool:
        """Return True if a class is in its part of the image, or is that of its region."""
        return k == self.truth or k in self.holds


@dataclass(frozen=True, eq=False)
class Trials:
    """Predictions of recipients' regions after each change.

    Attributes:
        recipients: R cases.
        donors: D cases.
        outcomes: Share of the region that is predicted as each class (R, D, K); NaN where not tried.
        odds: Mean log odds of each class over the region (R, D, K), which respond before any pixel's class changes.
    """

    recipients: Sequence[SwapCase]
    donors: Sequence[SwapCase]
    outcomes: Mapping[Change, np.ndarray]
    odds: Mapping[Change, np.ndarray]

    @property
    def num_classes(self) -> int:
        """K."""
        count: int = next(iter(self.outcomes.values())).shape[-1]
        return count


def swap_case(case: Case, ignore_index: int) -> SwapCase:
    """Return a case prepared for swaps: with its own object, and the objects that are not passed on as a donor."""
    valid, truth, predicted = (t.cpu().numpy() for t in (case.valid[0], case.truth, case.predicted))
    seen = np.where(truth == ignore_index, predicted, truth)
    area, own, region = int(valid.sum()), case.own.cpu().numpy(), case.pixels.cpu().numpy()
    if own.sum() > MAX_OBJECT_SHARE * area:
        row, col = case.component.centre[0] - case.window.row, case.component.centre[1] - case.window.col
        rows, cols = np.ogrid[: len(own), : len(own[0])]
        close = np.hypot(rows - row, cols - col) <= max(MIN_RADIUS, (MAX_OBJECT_SHARE * area / np.pi) ** 0.5 - MARGIN)
        objects, own, region = np.zeros_like(own), own & close, region & close
    else:
        objects = own
    counts = np.bincount(seen[valid])
    others = valid & (seen != counts.argmax()) | objects
    if binary_dilation(others, iterations=FOOTPRINT).sum() <= MAX_OBJECT_COVER * area:
        objects = others
    rows, cols = np.nonzero(region)
    centre = int(rows.mean()), int(cols.mean())
    picture = Picture(case.image[0].float().cpu().numpy(), valid, region, own, objects, centre)
    return SwapCase(case, picture, frozenset(np.flatnonzero(counts > MIN_CLASS_SHARE * area).tolist()))


def as_donors(swap_cases: Sequence[SwapCase], seed: int = 0) -> list[SwapCase]:
    """Return cases as donors: those without objects leave out those of another, so that all give about as much."""
    generator = np.random.default_rng(seed)
    lent = [a.picture.objects for a in swap_cases if a.picture.objects.any()]
    return [
        a
        if a.picture.objects.any() or not lent
        else replace(a, picture=replace(a.picture, objects=lent[int(generator.integers(len(lent)))]))
        for a in swap_cases
    ]


def choose_pairs(
    recipients: Sequence[SwapCase], donors: Sequence[SwapCase], counts: Mapping[int, Mapping[int, int]], seed: int = 0
) -> list[tuple[int, int]]:
    """Return pairs of recipient and donor from different images, using the donors of a class about equally often.

    Args:
        recipients: In any order.
        donors: In any order.
        counts: Number of donors of each class, by the recipient's index.
        seed: Seed of the choice among equally used donors.
    """
    generator, pairs = np.random.default_rng(seed), []
    uses: dict[int, np.ndarray] = {}  # by class of the recipient, each of which is tested separately
    of_class = {k: [d for d, a in enumerate(donors) if a.truth == k] for k in {a.truth for a in donors}}
    for i, recipient in enumerate(recipients):
        used = uses.setdefault(recipient.predicted, np.zeros(len(donors), int))
        for k, count in counts[i].items():
            allowed = [
                d for d in of_class.get(k, []) if donors[d].case.component.image != recipient.case.component.image
            ]
            order = generator.permutation(len(allowed))
            for at in sorted(order, key=lambda n: used[allowed[n]])[:count]:
                used[allowed[at]] += 1
                pairs.append((i, allowed[at]))
    return pairs


def apply_change(change: Change, recipient: Picture, donor: Picture) -> Variant:
    """Return the recipient after a change."""
    if change is Change.POSITION:
        return move_object(recipient, donor)
    makers: dict[Change, Callable[[Picture, Picture], np.ndarray]] = {
        Change.SURROUNDINGS: swap_surroundings,
        Change.TONE: match_tone,
        Change.SPECTRUM: match_spectrum,
    }
    return makers[change](recipient, donor), recipient.valid, recipient.region


def shares_by_class(network: SegmentationNetwork, variants: Iterable[Variant]) -> Iterator[np.ndarray]:
    """Yield the share of each variant's region that is predicted as each class (K,); see `evaluate_regions`."""
    for shares, _ in evaluate_regions(network, variants):
        yield shares


def evaluate_regions(
    network: SegmentationNetwork, variants: Iterable[Variant]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the share of each variant's region that is predicted as each class, and its mean log odds (K,).

    All variants have the same size and are processed in batches. NaN if no region is left.
    """
    remaining, device = iter(variants), next(network.parameters()).device
    some, size = list(islice(remaining, 1)), 1
    while some:
        size = batch_size(device, some[0][1].size)
        some += list(islice(remaining, size - len(some)))
        images = torch.from_numpy(np.stack([image for image, _, _ in some])).to(device)
        valid = torch.from_numpy(np.stack([valid for _, valid, _ in some])).to(device)
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            logits = network(images, valid)
        for each, (_, _, region) in zip(logits, some, strict=True):
            seen = each[:, torch.from_numpy(region).to(device)].cpu()  # where every device's numbers fit float64
            if not seen.shape[1]:
                yield np.full(len(seen), np.nan), np.full(len(seen), np.nan)
                continue
            shares = torch.bincount(seen.argmax(0), minlength=len(seen)) / seen.shape[1]
            inside = seen.log_softmax(0).double()
            odds = (inside - torch.log1p(-inside.exp().clamp(max=1 - 1e-12))).mean(1)
            yield shares.numpy(), odds.numpy()
        some = list(islice(remaining, size))


def run_trials(
    network: SegmentationNetwork,
    recipients: Sequence[SwapCase],
    donors: Sequence[SwapCase],
    pairs: Mapping[Change, Sequence[tuple[int, int]]],
) -> Trials:
    """Apply each change to its pairs of recipient and donor, and segment the results."""
    outcomes, odds = {}, {}
    for change, some in pairs.items():
        tables = [np.full((len(recipients), len(donors), network.spec.num_classes), np.nan) for _ in range(2)]
        variants = (apply_change(change, recipients[i].picture, donors[j].picture) for i, j in some)
        for (i, j), found in zip(some, evaluate_regions(network, variants), strict=True):
            for table, values in zip(tables, found, strict=True):
                table[i, j] = values
        outcomes[change], odds[change] = tables
    return Trials(recipients, donors, outcomes, odds)
