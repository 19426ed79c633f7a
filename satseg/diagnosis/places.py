"""Where a cue lies, and what it is: the smallest part of what was taken over that alone does most of the harm."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from satseg.attribution.composites import shared
from satseg.data.rasters.raster import Window
from satseg.diagnosis.parts import (
    Try,
    everything,
    kinds_of,
    places_of,
    quarters,
    rectangle,
    simpler,
    size_of,
    within_box,
)
from satseg.diagnosis.swaps import Actor, Change, shares_by_class
from satseg.models import SegmentationNetwork

MOST = 0.7  # of an effect, that a part must account for to be named
TRIED = 6  # recipients on which parts are tried
PIXELS = 200_000  # of them together: fewer where images are large
LARGEST = 0.5  # share of the surroundings beyond which a part is no place
FAINT = 0.05  # share of a region: an effect of no more has no place
HALVINGS = 3  # of the sides, down to a place of each image's own
SMALL = 0.1  # share beyond which a place of its own in each image is looked for, too
DIFFERENT = 0.25  # share of labels that differ (total variation) from which labelled content is what goes with a class

Triple = tuple[Actor, Actor, Actor]  # recipient, a donor that changes nothing, one that does
Target = Callable[[np.ndarray], float]


@dataclass(frozen=True, eq=False)
class Part:
    """What accounts for an effect.

    Attributes:
        words: What it is: "the lowest 22 rows".
        share: Of the pixels that were taken over; 1 where it is no place.
        explains: Share of the effect that it accounts for.
        box: In the part of the image; None where it is no place, or another in each image.
        masks: What was replaced in each example (H, W), boolean.
        lies_on: Share of it by true class (K,), then unlabelled, in the images that carry the cue.
        labelled: Whether the labels there differ between the images that carry it and those that do not.
    """

    words: str
    share: float
    explains: float
    box: Window | None
    masks: tuple[np.ndarray, ...]
    lies_on: tuple[float, ...]
    labelled: bool


def locate(
    network: SegmentationNetwork,
    change: Change,
    gained: bool,
    triples: Sequence[Triple],
    target: Target,
    whole: bool,
    closely: bool = True,
) -> Part:
    """Find what accounts for an effect.

    Args:
        network: In evaluation mode.
        change: What was taken over.
        gained: Whether the donors carry the cue, not the recipients.
        triples: The most telling first.
        target: The outcome, from shares by class (K,).
        whole: Whether the parts are whole images, so that their edges and corners mean something.
        closely: Whether it is looked for; else all that was taken over is the part.
    """
    few = triples[: max(3, min(TRIED, PIXELS // triples[0][0].picture.valid.size))]
    asker = _Asker(network, few, target)
    complete = everything(change)
    effect = asker.excess(complete) if closely else 0.0
    if effect <= FAINT:
        return _part(complete.words, 1.0, 1.0, None, None, triples, gained, network.spec.num_classes)
    if change is not Change.SURROUNDINGS:
        some = [(t, asker.excess(t) / effect) for t in simpler(change, network.spec.inputs[0].bands)]
        telling = [(t, e) for t, e in some if e >= MOST]
        best, explains = telling[0] if telling else (complete, 1.0)
        return _part(best.words, 1.0, explains, None, None, triples, gained, network.spec.num_classes)
    best, explains, share = _smallest(asker, places_of(few[0][0].picture, whole), effect) or (complete, 1.0, 1.0)
    if share > SMALL:
        apart = asker.own_places(effect)
        if apart is not None and apart[2] < share / 2:
            return _part(*apart[:1], apart[2], apart[1], None, apart[3], triples, gained, network.spec.num_classes)
    kinds = [t for t in kinds_of(network.spec.inputs[0].bands, best.mask) if asker.excess(t) >= MOST * effect]
    words = _with_kind(best.words, kinds)
    return _part(words, share, explains, best, None, triples, gained, network.spec.num_classes)


class _Asker:
    """Measures what a way of taking over does, with donors that change something and with those that should not."""

    def __init__(self, network: SegmentationNetwork, triples: Sequence[Triple], target: Target) -> None:
        self.network, self.triples, self.target = network, triples, target

    def outcomes(self, tries: Sequence[Try], donor: int) -> np.ndarray:
        """Return the outcome by try and triple (N, T), with the second (1) or third (2) of each triple."""
        return self.each([[t] * len(self.triples) for t in tries], donor)

    def each(self, tries: Sequence[Sequence[Try]], donor: int) -> np.ndarray:
        """Return the same where each triple has its own tries."""
        variants = (
            t.make(triple[0].picture, triple[donor].picture)
            for row in tries
            for t, triple in zip(row, self.triples, strict=True)
        )
        made = [self.target(shares) for shares in shares_by_class(self.network, variants)]
        result: np.ndarray = np.nan_to_num(np.reshape(made, (len(tries), len(self.triples))))
        return result

    def excess(self, one: Try) -> float:
        """Return the mean outcome beyond that with donors that should change nothing."""
        return float(self.outcomes([one], 2).mean() - self.outcomes([one], 1).mean())

    def share(self, one: Try) -> float:
        """Return the share of what is taken over, mean over the triples."""
        assert one.mask is not None
        amounts = [(shared(r.picture, d.picture), one.mask(r.picture)) for r, _, d in self.triples]
        return float(np.mean([(a * m).sum() / max(a.sum(), 1e-9) for a, m in amounts]))

    def own_places(self, effect: float) -> tuple[str, float, float, tuple[np.ndarray, ...]] | None:
        """Return words, explained share, size and masks of the smallest places, each image's own, that do most.

        Of overlapping quarters the one that does most is taken, and of its quarters, as long as it does enough; that
        it is the worst of several is no merit, as it must do so beyond the same place from the other donor.
        """
        height, width = size_of(self.triples[0][0].picture)
        boxes, best = [Window(0, 0, width, height)] * len(self.triples), None
        for _ in range(HALVINGS):
            smaller = [list(quarters(box)) for box in boxes]
            tried = [[rectangle("", some[n]) for some in smaller] for n in range(len(smaller[0]))]
            most = self.each(tried, 2)
            chosen = most.argmax(0)
            boxes = [some[n] for some, n in zip(smaller, chosen, strict=True)]
            kept = [rectangle("", box) for box in boxes]
            gain = float((most.max(0) - self.each([kept], 1)[0]).mean())
            if gain < MOST * effect:
                break
            words = f"a place of {boxes[0].width} x {boxes[0].height} pixels, another in each image"
            masks = tuple(within_box(t[0].picture, box) for t, box in zip(self.triples, boxes, strict=True))
            best = words, gain / effect, boxes[0].width * boxes[0].height / (height * width), masks
        return best


def _smallest(asker: _Asker, tries: Sequence[Try], effect: float) -> tuple[Try, float, float] | None:
    outcomes = asker.outcomes(tries, 2).mean(1)
    enough = [(asker.share(t), t) for t, outcome in zip(tries, outcomes, strict=True) if outcome >= MOST * effect]
    for share, one in sorted(enough, key=lambda pair: pair[0]):
        if 0 < share <= LARGEST and asker.excess(one) >= MOST * effect:
            return one, asker.excess(one) / effect, share
    return None


def _with_kind(words: str, kinds: Sequence[Try]) -> str:
    """Add what kind of content it is, where one alone does it."""
    content = [t.words for t in kinds if not t.words.startswith("band ")]
    bands = [t.words for t in kinds if t.words.startswith("band ")]
    if "brightness and colour" in content:
        words += ", by its brightness and colour alone"
    elif len(content) == 1:
        words += f", by its {content[0]} alone"
    return words + (f", in {bands[0]} alone" if len(bands) == 1 else "")


def _part(
    words: str,
    share: float,
    explains: float,
    best: Try | None,
    masks: tuple[np.ndarray, ...] | None,
    triples: Sequence[Triple],
    gained: bool,
    num_classes: int,
) -> Part:
    """Return a part with what the labels say of it."""
    if masks is None:
        mask = best.mask if best is not None else None
        masks = tuple(np.ones_like(r.picture.valid) if mask is None else mask(r.picture) for r, _, _ in triples)
    carrying, lacking = [], []
    for (recipient, _, donor), inside in zip(triples, masks, strict=False):
        amount = shared(recipient.picture, donor.picture) * inside
        both = [_composition(a, amount, num_classes) for a in (recipient, donor)]
        carrying.append(both[1] if gained else both[0])
        lacking.append(both[0] if gained else both[1])
    with_cue, without = np.mean(carrying, 0), np.mean(lacking, 0)
    apart = float(np.abs(with_cue - without).sum() / 2)
    box = best.box if best is not None else None
    return Part(words, share, explains, box, masks, tuple(with_cue.tolist()), apart >= DIFFERENT)


def _composition(one: Actor, amount: np.ndarray, num_classes: int) -> np.ndarray:
    labels = np.minimum(one.case.truth.cpu().numpy(), num_classes)
    counts = np.bincount(labels.ravel(), amount.ravel(), num_classes + 1)
    made: np.ndarray = counts / max(counts.sum(), 1e-9)
    return made
