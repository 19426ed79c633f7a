"""The experiment: objects of one image in the surroundings, tone, spectrum or place of others of either class."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import islice

import numpy as np
import torch
from scipy.ndimage import binary_dilation

from satseg.attribution.composites import COVER, FOOTPRINT, MARGIN, Picture, filtered, moved, swapped, toned
from satseg.attribution.replacement import together
from satseg.diagnosis.cases import Case
from satseg.models import SegmentationNetwork

VAST = 0.35  # share of a part beyond which an object is cut down, as nothing would be left to replace
HELD = 0.005  # share of a part beyond which a class is in it
NARROWEST = 12.0  # pixels: radius of what is left of it


class Change(StrEnum):
    """What a recipient takes over from a donor."""

    SURROUNDINGS = "surroundings"
    TONE = "tone"
    SPECTRUM = "spectrum"
    POSITION = "position"


Variant = tuple[np.ndarray, np.ndarray, np.ndarray]  # image (C, H, W), valid (H, W), region (H, W)


@dataclass(frozen=True, eq=False)
class Actor:
    """A case as recipient and donor; `holds` are the classes that are seen in its part."""

    case: Case
    picture: Picture
    holds: frozenset[int]

    @property
    def truth(self) -> int:
        """True class of the region."""
        return self.case.spot.truth

    @property
    def predicted(self) -> int:
        """Predicted class of the region."""
        return self.case.spot.predicted


@dataclass(frozen=True, eq=False)
class Trials:
    """What recipients' regions are after each change.

    Attributes:
        recipients: R of them.
        donors: D of them.
        outcomes: Share of the region that is predicted as each class (R, D, K); NaN where it was not tried.
        odds: Logarithm of the odds of each class, mean over the region (R, D, K): moves before any pixel changes.
    """

    recipients: Sequence[Actor]
    donors: Sequence[Actor]
    outcomes: Mapping[Change, np.ndarray]
    odds: Mapping[Change, np.ndarray]

    @property
    def num_classes(self) -> int:
        """K."""
        count: int = next(iter(self.outcomes.values())).shape[-1]
        return count


def actor(case: Case, ignore_index: int) -> Actor:
    """Return a case with its object, and with the objects in its part that are not given to others."""
    valid, truth, predicted = (t.cpu().numpy() for t in (case.valid[0], case.truth, case.predicted))
    seen = np.where(truth == ignore_index, predicted, truth)
    area, own, region = int(valid.sum()), case.own.cpu().numpy(), case.pixels.cpu().numpy()
    if own.sum() > VAST * area:
        row, col = case.spot.centre[0] - case.window.row, case.spot.centre[1] - case.window.col
        rows, cols = np.ogrid[: len(own), : len(own[0])]
        close = np.hypot(rows - row, cols - col) <= max(NARROWEST, (VAST * area / np.pi) ** 0.5 - MARGIN)
        objects, own, region = np.zeros_like(own), own & close, region & close
    else:
        objects = own
    counts = np.bincount(seen[valid])
    others = valid & (seen != counts.argmax()) | objects
    if binary_dilation(others, iterations=FOOTPRINT).sum() <= COVER * area:
        objects = others
    rows, cols = np.nonzero(region)
    centre = int(rows.mean()), int(cols.mean())
    picture = Picture(case.image[0].float().cpu().numpy(), valid, region, own, objects, centre)
    return Actor(case, picture, frozenset(np.flatnonzero(counts > HELD * area).tolist()))


def as_donors(actors: Sequence[Actor], seed: int = 0) -> list[Actor]:
    """Return the actors as donors: those without objects leave out another's, so that all give about as much."""
    generator = np.random.default_rng(seed)
    lent = [a.picture.objects for a in actors if a.picture.objects.any()]
    return [
        a
        if a.picture.objects.any() or not lent
        else replace(a, picture=replace(a.picture, objects=lent[int(generator.integers(len(lent)))]))
        for a in actors
    ]


def choose(
    recipients: Sequence[Actor], donors: Sequence[Actor], counts: Mapping[int, Mapping[int, int]], seed: int = 0
) -> list[tuple[int, int]]:
    """Return pairs of recipient and donor of other images, each donor about as often as the others of its class.

    Args:
        recipients: In any order.
        donors: Right cases.
        counts: Donors of each class that a recipient meets, by the recipient's number.
        seed: Of the choice among those that were used as often.
    """
    generator, pairs = np.random.default_rng(seed), []
    uses: dict[int, np.ndarray] = {}  # by class of the recipient, as each is a question of its own
    of_class = {k: [d for d, a in enumerate(donors) if a.truth == k] for k in {a.truth for a in donors}}
    for i, recipient in enumerate(recipients):
        used = uses.setdefault(recipient.predicted, np.zeros(len(donors), int))
        for k, count in counts[i].items():
            allowed = [d for d in of_class.get(k, []) if donors[d].case.spot.image != recipient.case.spot.image]
            order = generator.permutation(len(allowed))
            for at in sorted(order, key=lambda n: used[allowed[n]])[:count]:
                used[allowed[at]] += 1
                pairs.append((i, allowed[at]))
    return pairs


def changed(change: Change, recipient: Picture, donor: Picture) -> Variant:
    """Return the recipient as it is after a change."""
    if change is Change.POSITION:
        return moved(recipient, donor)
    makers: dict[Change, Callable[[Picture, Picture], np.ndarray]] = {
        Change.SURROUNDINGS: swapped,
        Change.TONE: toned,
        Change.SPECTRUM: filtered,
    }
    return makers[change](recipient, donor), recipient.valid, recipient.region


def shares_by_class(network: SegmentationNetwork, variants: Iterable[Variant]) -> Iterator[np.ndarray]:
    """Give the share of each variant's region that is predicted as each class (K,); see `regions`."""
    for shares, _ in regions(network, variants):
        yield shares


def regions(network: SegmentationNetwork, variants: Iterable[Variant]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Give the share of each variant's region that is predicted as each class, and its mean log odds (K,).

    All variants have one size; some are computed at once. NaN where no region is left.
    """
    remaining, device = iter(variants), next(network.parameters()).device
    some, size = list(islice(remaining, 1)), 1
    while some:
        size = together(device, some[0][1].size)
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
    recipients: Sequence[Actor],
    donors: Sequence[Actor],
    pairs: Mapping[Change, Sequence[tuple[int, int]]],
) -> Trials:
    """Make each change of its pairs of recipient and donor, and segment."""
    outcomes, odds = {}, {}
    for change, some in pairs.items():
        tables = [np.full((len(recipients), len(donors), network.spec.num_classes), np.nan) for _ in range(2)]
        variants = (changed(change, recipients[i].picture, donors[j].picture) for i, j in some)
        for (i, j), found in zip(some, regions(network, variants), strict=True):
            for table, values in zip(tables, found, strict=True):
                table[i, j] = values
        outcomes[change], odds[change] = tables
    return Trials(recipients, donors, outcomes, odds)
