"""Localisation of a cue: the smallest part of a swap that alone explains most of its effect."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from satseg.attribution.composites import swap_weight
from satseg.data.rasters.header import Window
from satseg.diagnosis.parts import (
    PartialSwap,
    box_mask,
    content_swaps,
    full_swap,
    lesser_swaps,
    location_swaps,
    overlapping_quarters,
    rectangle,
    valid_extent,
)
from satseg.diagnosis.swaps import Change, SwapCase, shares_by_class
from satseg.models import SegmentationNetwork

MIN_EXPLAINED = 0.7  # share of an effect that a part must explain to be reported
MAX_TRIPLES = 6  # on which parts are tried
MAX_PIXELS = 200_000  # of these triples together: fewer for large images
MAX_SHARE = 0.5  # of the surroundings, for a part to count as a location
MIN_EFFECT = 0.05  # share of a region; smaller effects are not localised
HALVINGS = 3  # of the side lengths, in the search for a location in each image
SMALL = 0.1  # share above which a separate location in each image is searched for, too
MIN_LABEL_SHIFT = 0.25  # total variation distance of labels from which the cue counts as labelled content

Triple = tuple[SwapCase, SwapCase, SwapCase]  # recipient, a donor that should change nothing, one that changes it
Target = Callable[[np.ndarray], float]


@dataclass(frozen=True, eq=False)
class Part:
    """The part of a swap that explains an effect.

    Attributes:
        description: Such as "the lowest 22 rows".
        share: Share of the swapped pixels; 1 if it is not a location.
        explains: Share of the effect that it explains.
        box: In pixels of the case; None if it is not a box or differs between images.
        masks: Replaced pixels of each example (H, W), boolean.
        composition: Shares by true class (K,), then unlabelled, in the images that carry the cue.
        labelled: True if the labels there differ between images with and without the cue.
    """

    description: str
    share: float
    explains: float
    box: Window | None
    masks: tuple[np.ndarray, ...]
    composition: tuple[float, ...]
    labelled: bool


def locate_cue(
    network: SegmentationNetwork,
    change: Change,
    gained: bool,
    triples: Sequence[Triple],
    target: Target,
    whole_images: bool,
    search: bool = True,
) -> Part:
    """Find the part of a swap that explains its effect.

    Args:
        network: In evaluation mode.
        change: Kind of swap.
        gained: True if the donors carry the cue, not the recipients.
        triples: Largest effect first.
        target: Maps shares by class (K,) to the outcome.
        whole_images: True if cases are whole images, so that their edges and corners are meaningful.
        search: False to return the complete swap without a search.
    """
    few = triples[: max(3, min(MAX_TRIPLES, MAX_PIXELS // triples[0][0].picture.valid.size))]
    evaluator = _SwapEvaluator(network, few, target)
    complete = full_swap(change)
    effect = evaluator.excess(complete) if search else 0.0
    if effect <= MIN_EFFECT:
        return _make_part(complete.description, 1.0, 1.0, None, None, triples, gained, network.spec.num_classes)
    if change is not Change.SURROUNDINGS:
        some = [(t, evaluator.excess(t) / effect) for t in lesser_swaps(change, network.spec.inputs[0].bands)]
        telling = [(t, e) for t, e in some if e >= MIN_EXPLAINED]
        best, explains = telling[0] if telling else (complete, 1.0)
        return _make_part(best.description, 1.0, explains, None, None, triples, gained, network.spec.num_classes)
    best, explains, share = _smallest(evaluator, location_swaps(few[0][0].picture, whole_images), effect) or (
        complete,
        1.0,
        1.0,
    )
    if share > SMALL:
        local = evaluator.per_image_places(effect)
        if local is not None and local[2] < share / 2:
            return _make_part(*local[:1], local[2], local[1], None, local[3], triples, gained, network.spec.num_classes)
    kinds = [
        t
        for t in content_swaps(network.spec.inputs[0].bands, best.mask)
        if evaluator.excess(t) >= MIN_EXPLAINED * effect
    ]
    description = _with_kind(best.description, kinds)
    return _make_part(description, share, explains, best, None, triples, gained, network.spec.num_classes)


class _SwapEvaluator:
    """Measures the outcome of partial swaps with either donor of each triple."""

    def __init__(self, network: SegmentationNetwork, triples: Sequence[Triple], target: Target) -> None:
        self.network, self.triples, self.target = network, triples, target

    def outcomes(self, swaps: Sequence[PartialSwap], donor: int) -> np.ndarray:
        """Return the outcome by swap and triple (N, T), with the second (1) or third (2) of each triple as donor."""
        return self.each([[t] * len(self.triples) for t in swaps], donor)

    def each(self, swaps: Sequence[Sequence[PartialSwap]], donor: int) -> np.ndarray:
        """Return the same with separate swaps for each triple."""
        variants = (
            t.make(triple[0].picture, triple[donor].picture)
            for row in swaps
            for t, triple in zip(row, self.triples, strict=True)
        )
        made = [self.target(shares) for shares in shares_by_class(self.network, variants)]
        result: np.ndarray = np.nan_to_num(np.reshape(made, (len(swaps), len(self.triples))))
        return result

    def excess(self, one: PartialSwap) -> float:
        """Return the mean outcome beyond that of donors that should change nothing."""
        return float(self.outcomes([one], 2).mean() - self.outcomes([one], 1).mean())

    def share(self, one: PartialSwap) -> float:
        """Return the mean share of swapped pixels over the triples."""
        assert one.mask is not None
        amounts = [(swap_weight(r.picture, d.picture), one.mask(r.picture)) for r, _, d in self.triples]
        return float(np.mean([(a * m).sum() / max(a.sum(), 1e-9) for a, m in amounts]))

    def per_image_places(self, effect: float) -> tuple[str, float, float, tuple[np.ndarray, ...]] | None:
        """Return description, explained share, size and masks of the smallest location in each image.

        The overlapping quarter with the largest effect is halved further as long as the effect is large enough.
        Choosing the largest of several is no bias: it must exceed the effect of the same box from the other donor.
        """
        height, width = valid_extent(self.triples[0][0].picture)
        boxes, best = [Window(0, 0, width, height)] * len(self.triples), None
        for _ in range(HALVINGS):
            smaller = [list(overlapping_quarters(box)) for box in boxes]
            tried = [[rectangle("", some[n]) for some in smaller] for n in range(len(smaller[0]))]
            most = self.each(tried, 2)
            chosen = most.argmax(0)
            boxes = [some[n] for some, n in zip(smaller, chosen, strict=True)]
            kept = [rectangle("", box) for box in boxes]
            gain = float((most.max(0) - self.each([kept], 1)[0]).mean())
            if gain < MIN_EXPLAINED * effect:
                break
            description = (
                f"an area of {boxes[0].width} x {boxes[0].height} pixels, at a different position in each image"
            )
            masks = tuple(box_mask(t[0].picture, box) for t, box in zip(self.triples, boxes, strict=True))
            best = description, gain / effect, boxes[0].width * boxes[0].height / (height * width), masks
        return best


def _smallest(
    evaluator: _SwapEvaluator, swaps: Sequence[PartialSwap], effect: float
) -> tuple[PartialSwap, float, float] | None:
    outcomes = evaluator.outcomes(swaps, 2).mean(1)
    enough = [
        (evaluator.share(t), t) for t, outcome in zip(swaps, outcomes, strict=True) if outcome >= MIN_EXPLAINED * effect
    ]
    for share, one in sorted(enough, key=lambda pair: pair[0]):
        if 0 < share <= MAX_SHARE and evaluator.excess(one) >= MIN_EXPLAINED * effect:
            return one, evaluator.excess(one) / effect, share
    return None


def _with_kind(description: str, kinds: Sequence[PartialSwap]) -> str:
    """Return a description with the kind of content, if one kind alone explains the effect."""
    content = [t.description for t in kinds if not t.description.startswith("band ")]
    bands = [t.description for t in kinds if t.description.startswith("band ")]
    if "brightness and colour" in content:
        description += ", by its brightness and colour alone"
    elif len(content) == 1:
        description += f", by its {content[0]} alone"
    return description + (f", in {bands[0]} alone" if len(bands) == 1 else "")


def _make_part(
    description: str,
    share: float,
    explains: float,
    best: PartialSwap | None,
    masks: tuple[np.ndarray, ...] | None,
    triples: Sequence[Triple],
    gained: bool,
    num_classes: int,
) -> Part:
    """Return a part with its composition by label."""
    if masks is None:
        mask = best.mask if best is not None else None
        masks = tuple(np.ones_like(r.picture.valid) if mask is None else mask(r.picture) for r, _, _ in triples)
    carrying, lacking = [], []
    for (recipient, _, donor), inside in zip(triples, masks, strict=False):
        amount = swap_weight(recipient.picture, donor.picture) * inside
        both = [_composition(a, amount, num_classes) for a in (recipient, donor)]
        carrying.append(both[1] if gained else both[0])
        lacking.append(both[0] if gained else both[1])
    with_cue, without = np.mean(carrying, 0), np.mean(lacking, 0)
    label_shift = float(np.abs(with_cue - without).sum() / 2)
    box = best.box if best is not None else None
    return Part(description, share, explains, box, masks, tuple(with_cue.tolist()), label_shift >= MIN_LABEL_SHIFT)


def _composition(one: SwapCase, amount: np.ndarray, num_classes: int) -> np.ndarray:
    labels = np.minimum(one.case.truth.cpu().numpy(), num_classes)
    counts = np.bincount(labels.ravel(), amount.ravel(), num_classes + 1)
    made: np.ndarray = counts / max(counts.sum(), 1e-9)
    return made
