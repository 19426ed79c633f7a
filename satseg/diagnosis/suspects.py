"""The images of a split in the order in which their labels deserve another look."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from satseg.data.rasters.raster import Window
from satseg.diagnosis.disagreement import Disagreement
from satseg.diagnosis.displacement import Offset, usual_offset
from satseg.diagnosis.mistakes import Fit, Mistake

SUSPICIOUS = 0.01  # share of an image's labelled pixels below which it is not worth a look
EXPLAINED = 0.1  # share of what contradicts an image's labels below which nothing is explained
IN_PART = 0.25  # the same of a part, where less is drawn that could tell
CHANCE = 0.05  # that a split whose labels are all as good lists an image
SIGNS = 3  # by which an image can stand out
FEW = 5  # images below which none can stand out from the rest
LISTED = 12  # images at most


@dataclass(frozen=True)
class Suspect:
    """An image whose labels may be wrong.

    Attributes:
        image: Name.
        surprise: The negative logarithm of the probability that an image of this split whose labels are as good as the
            rest's shows as much; by the sign that is strongest.
        disagreement: How much is contradicted; None where nothing is.
        mistake: What would explain it; None where nothing stands out.
        box: The place to look at, in pixels of the image.
    """

    image: str
    surprise: float
    disagreement: Disagreement | None
    mistake: Mistake | None
    box: Window

    @property
    def share(self) -> float:
        """Share of the labelled pixels that are contradicted with confidence."""
        return self.disagreement.share if self.disagreement else 0.0


@dataclass(frozen=True)
class Suspects:
    """What a split's images show together.

    Attributes:
        ranked: All images that show anything, the most surprising first.
        images: How many have labels.
        usual_share: Median share of an image's labelled pixels that are contradicted.
        usual_offset: By how much the labels of most images lie off.
    """

    ranked: tuple[Suspect, ...]
    images: int
    usual_share: float
    usual_offset: Offset

    @property
    def standing_out(self) -> list[Suspect]:
        """The images that show more than the rest of the split explains; none where there are too few to tell."""
        if self.images < FEW:
            return []
        return [each for each in self.ranked if each.surprise >= limit(self.images)][:LISTED]


def limit(images: int) -> float:
    """Return the surprise that the largest of so many images exceeds, by any sign, with a probability of CHANCE."""
    return math.log(SIGNS * max(1, images) / CHANCE)


def rank(disagreements: Sequence[Disagreement], fits: Sequence[Fit], images: int) -> Suspects:
    """Order images by how far they stand out from the split, by the sign in which they do so most.

    The signs: how much is contradicted, and how much of that a simple mistake explains, in the whole image and in a
    part of it. A model that errs here and there shows each of them a little in many images and much in few. They fall
    off about exponentially, and then the largest of n exceeds scale · ln(n / CHANCE) with a probability of CHANCE. The
    scale is read from the middle of the split (median, and upper quartile where most images show nothing), which a few
    wrong labels do not move.

    Args:
        disagreements: Of the images that are contradicted at all.
        fits: Of the images whose labels are of more than one class.
        images: How many images have labels.
    """
    usual = usual_offset([fit.whole for fit in fits])
    shares = {d.image: d for d in disagreements}
    wholes = {fit.image: mistake for fit in fits if (mistake := fit.mistake(usual))}
    parts = {fit.image: mistake for fit in fits if (mistake := fit.mistake_in_part(usual))}
    by_share = _surprises({name: d.share for name, d in shares.items()}, images, SUSPICIOUS)
    by_whole = _surprises({name: m.explained for name, m in wholes.items()}, images, EXPLAINED)
    by_part = _surprises({name: m.explained for name, m in parts.items()}, images, IN_PART)
    found = []
    for name in dict.fromkeys([*shares, *wholes, *parts]):
        whole, part = by_whole.get(name, 0.0), by_part.get(name, 0.0)
        likeliest = (wholes if whole >= part else parts).get(name)
        mistake = likeliest if max(whole, part) >= limit(images) else None
        boxes = [m.box for m in (mistake if mistake and mistake.offset else None, shares.get(name), likeliest) if m]
        found.append(Suspect(name, max(by_share.get(name, 0.0), whole, part), shares.get(name), mistake, boxes[0]))
    found.sort(key=lambda suspect: (-suspect.surprise, -suspect.share))
    known = _filled([d.share for d in disagreements], images)
    return Suspects(tuple(found), images, float(np.median(known)) if images else 0.0, usual)


def _surprises(values: dict[str, float], images: int, least: float) -> dict[str, float]:
    """Return how surprising each value is; one below `least` never is so surprising that it is listed."""
    if not values:
        return {}
    median, upper = np.quantile(_filled(list(values.values()), images), (0.5, 0.75))
    scale = max(median / math.log(2), upper / math.log(4), least / limit(images))
    return {name: value / scale for name, value in values.items()}


def _filled(values: Sequence[float], images: int) -> list[float]:
    return [*values, *[0.0] * (images - len(values))]
