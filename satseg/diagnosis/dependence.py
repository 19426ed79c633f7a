"""Dependence of a class, or an error, on something other than its objects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from scipy.stats import binomtest

from satseg.diagnosis.places import Part
from satseg.diagnosis.swaps import Change, SwapCase

SIGNIFICANT = 0.05  # probability of any false alarm in a whole diagnosis (Holm)
# Smallest mean share of a region lost beyond the loss with donors of its own class that is reported.
MIN_EFFECT = 0.1
RELEVANT_EFFECT = 0.3  # an effect that must not be missed; a class for which it could be is inconclusive
MIN_ROOM = 0.1  # replaceable share of a picture, below which swaps say nothing
MAX_CONTROL_LOSS = 0.5  # share of a region lost with donors of its own class, above which nothing can be concluded


class Question(NamedTuple):
    """The question behind one contrast.

    Attributes:
        change: Kind of swap.
        gained: True if other regions become the class with its donors; False if it is lost with donors of others.
        partner: Index of the other class; None for all others.
    """

    change: Change
    gained: bool
    partner: int | None


@dataclass(frozen=True)
class LossCount:
    """Number of images that lose their class with donors of others but not with those of their own."""

    images: int
    of: int

    @property
    def share(self) -> float:
        """Share of these images."""
        return self.images / self.of if self.of else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """95 % confidence interval of the share (Clopper and Pearson)."""
        if not self.of:
            return 0.0, 1.0
        found = binomtest(self.images, self.of).proportion_ci(method="exact")
        return float(found.low), float(found.high)


@dataclass(frozen=True)
class Example:
    """A recipient with a donor of its own and one of another class."""

    recipient: SwapCase
    same: SwapCase
    other: SwapCase


@dataclass(frozen=True)
class Dependence:
    """Effect of other images' surroundings, tone, spectrum or position on regions of one kind.

    Attributes:
        truth: Index of the true class.
        predicted: Index of the class that is predicted.
        question: The one with the strongest effect; an overall one if nothing is clear.
        effect: Mean share of a region that is lost (or gained) with donors of another class beyond those of its own.
        median: The same, median over recipients.
        p_value: p-value of the effect, corrected for all tests of the diagnosis.
        strength: Largest difference between donors, over its standard deviation under permutation.
        lost: Number of images that lose (or become) the class.
        control: Share of a region that is lost in the surroundings of other images of its own class.
        detectable: Smallest effect found with a power of 90 %, by kind of swap; infinite if there are too few images.
        recipients: Number of recipient images.
        donors: Number of donor images of the class, and of others.
        needed: Images of the class, and of others, that would be enough; 0 if there are enough.
        room: Mean share of the picture that may be replaced around a region.
        part: The smallest part that explains most of the effect; None if nothing is clear.
        mirror: Class with whose cue this effect goes away: the other side of the same shortcut.
        counterparts: Classes whose effects are the other side of this one.
        ambiguous: True if one of these may carry the cue instead, as its effect is nearly as strong.
        examples: Largest effect first.
        reverse: Examples of the reverse question, if that is as certain.
    """

    truth: int
    predicted: int
    question: Question
    effect: float
    median: float
    p_value: float
    strength: float
    lost: LossCount
    control: float
    detectable: Mapping[Change, float]
    recipients: int
    donors: tuple[int, int]
    needed: int
    room: float
    part: Part | None = None
    mirror: int | None = None
    counterparts: tuple[int, ...] = ()
    ambiguous: bool = False
    examples: tuple[Example, ...] = ()
    reverse: tuple[Example, ...] = ()

    @property
    def clear(self) -> bool:
        """True if the effect is significant and large enough to report."""
        return self.p_value <= SIGNIFICANT and max(self.effect, self.lost.share) >= MIN_EFFECT

    @property
    def shortcut(self) -> bool:
        """True if it is clear, not the mirror of another, and not on content that is labelled differently."""
        return self.clear and self.mirror is None and not self.labelled_context

    @property
    def labelled_context(self) -> bool:
        """True if it depends on content that is labelled differently: context or shortcut is for a person to judge."""
        return self.part is not None and self.part.labelled

    @property
    def fragile(self) -> bool:
        """True if any other surroundings destroy the prediction, even those of the class's own images."""
        return self.control > MAX_CONTROL_LOSS

    @property
    def cramped(self) -> bool:
        """True if objects leave too little of their pictures to replace."""
        return self.room < MIN_ROOM

    @property
    def composition(self) -> tuple[float, ...]:
        """Composition of the part that matters by true class (K,), then unlabelled; empty if nothing is clear."""
        return self.part.composition if self.part else ()

    @property
    def reportable(self) -> dict[Change, float]:
        """Smallest effect that would have been reported, by kind of swap."""
        return {change: max(MIN_EFFECT, effect) for change, effect in self.detectable.items()}

    @property
    def weakly_tested(self) -> dict[Change, float]:
        """Kinds of swap for which a relevant effect could have been missed, with the smallest effect found."""
        return {change: effect for change, effect in self.reportable.items() if effect > RELEVANT_EFFECT}

    @property
    def inconclusive(self) -> bool:
        """True if a relevant effect could have been missed."""
        return not self.clear and (self.needed > 0 or self.fragile or self.cramped)
