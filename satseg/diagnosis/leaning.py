"""What a class, or an error, hangs on beside its objects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from scipy.stats import binomtest

from satseg.diagnosis.places import Part
from satseg.diagnosis.swaps import Actor, Change

SIGNIFICANT = 0.05  # chance of a false alarm in a whole diagnosis (Holm)
CLEAR = 0.1  # mean share of a region, beyond what donors of the own class take, from which an effect is worth a word
WEAK = 0.3  # an effect that must not be missed: a class for which it could be is unclear
CRAMPED = 0.1  # share of a picture that may be replaced, below which replacing it tells nothing
BROKEN = 0.5  # share of a region that is lost with donors of the own class, from which nothing can be told


class Question(NamedTuple):
    """What one contrast asks.

    Attributes:
        change: What is taken over.
        gained: Whether others become the class by what its donors have; else whether it is lost by what others lack.
        partner: The other class; None for all others.
    """

    change: Change
    gained: bool
    partner: int | None


@dataclass(frozen=True)
class Lost:
    """Images that lose their class by other donors but not by those of their own, of how many, and the interval."""

    images: int
    of: int

    @property
    def share(self) -> float:
        """Their share."""
        return self.images / self.of if self.of else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """The shares that such a count is likely for (95 %; Clopper and Pearson)."""
        if not self.of:
            return 0.0, 1.0
        found = binomtest(self.images, self.of).proportion_ci(method="exact")
        return float(found.low), float(found.high)


@dataclass(frozen=True)
class Example:
    """A recipient, what it was with a donor of either class, and where it lies."""

    recipient: Actor
    same: Actor
    other: Actor


@dataclass(frozen=True)
class Leaning:
    """What became of regions of one kind with the surroundings, tone, spectrum or place of other images.

    Attributes:
        truth: Index of the true class.
        predicted: Index of the class that is predicted.
        question: The most telling one; where nothing is clear, by what all others have.
        effect: Share of a region that is lost (or gained) by donors of another class beyond those of the own, mean.
        median: The same, median over recipients.
        probability: Of such an effect by chance, over all that was asked in the whole diagnosis.
        strength: The largest difference by donor, over its standard deviation under permutation.
        lost: Images that lose (or become) the class.
        control: Share of a region that is lost in the surroundings of other images of its own class.
        detectable: Smallest effect that would have been found nine times in ten, by what was taken over; infinite
            where the images are too few for any.
        recipients: Images.
        donors: Images of the class, and of others.
        needed: Images of the class, and of others, that would do; 0 where those that are do.
        room: Share of the picture that may be replaced around a region, mean.
        part: The least part that explains most; None where nothing is clear.
        mirror: Class whose leaning this is the other side of.
        told_from: Classes whose leanings are the other side of this.
        unsure: Whether one of these may carry the cue instead: it is nearly as strong there.
        examples: The most telling first.
        reverse: The same for the question the other way round, where that is as certain.
    """

    truth: int
    predicted: int
    question: Question
    effect: float
    median: float
    probability: float
    strength: float
    lost: Lost
    control: float
    detectable: Mapping[Change, float]
    recipients: int
    donors: tuple[int, int]
    needed: int
    room: float
    part: Part | None = None
    mirror: int | None = None
    told_from: tuple[int, ...] = ()
    unsure: bool = False
    examples: tuple[Example, ...] = ()
    reverse: tuple[Example, ...] = ()

    @property
    def clear(self) -> bool:
        """Whether it does clearly more than chance."""
        return self.probability <= SIGNIFICANT and max(self.effect, self.lost.share) >= CLEAR

    @property
    def shortcut(self) -> bool:
        """Whether it is clear, its own side of the matter, and not what lies beside the class by its labels."""
        return self.clear and self.mirror is None and not self.nearby

    @property
    def nearby(self) -> bool:
        """Whether it hangs on labelled content that goes with the class: nature or a shortcut, for a person to say."""
        return self.part is not None and self.part.labelled

    @property
    def broken(self) -> bool:
        """Whether any other surroundings destroy the prediction, also those of the class's own images."""
        return self.control > BROKEN

    @property
    def cramped(self) -> bool:
        """Whether objects leave too little of their pictures to replace."""
        return self.room < CRAMPED

    @property
    def lies_on(self) -> tuple[float, ...]:
        """Shares of what was found to matter by true class (K,), then unlabelled; empty where nothing is clear."""
        return self.part.lies_on if self.part else ()

    @property
    def least(self) -> dict[Change, float]:
        """Smallest effect that would have been reported, by what was taken over."""
        return {change: max(CLEAR, effect) for change, effect in self.detectable.items()}

    @property
    def unclear(self) -> bool:
        """Whether an effect that matters could have been missed."""
        return not self.clear and (self.needed > 0 or self.broken or self.cramped)
