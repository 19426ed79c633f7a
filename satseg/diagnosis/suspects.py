"""Confident contradiction of labels by the model, and a split's images ranked by how likely theirs are wrong."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import find_objects, label

from satseg.data.rasters.header import Window
from satseg.diagnosis.displacement import Offset, usual_offset
from satseg.diagnosis.mistakes import Fit, Mistake

MIN_LEAD = 0.5  # in probability over the labelled class, for a pixel to contradict its label
MIN_CONTRADICTED = 0.01  # share of an image's labelled pixels below which it is not listed
MIN_EXPLAINED = 0.1  # share of the contradiction below which a mistake is not listed
MIN_EXPLAINED_IN_PART = 0.25  # the same for a part of an image, which holds less evidence
FALSE_ALARM = 0.05  # probability that a split with uniformly good labels lists an image
NUM_SIGNS = 3  # statistics by which an image can stand out
MIN_IMAGES = 5  # with fewer, none can stand out from the rest
MAX_LISTED = 12  # images


@dataclass(frozen=True)
class Disagreement:
    """Confident contradiction of an image's labels.

    Attributes:
        image: Name.
        share: Share of the labelled pixels where the predicted class leads the labelled one by MIN_LEAD or more.
        truth: Labelled class of the most frequent contradiction.
        predicted: Its predicted class.
        box: Its largest connected part, in pixels of the image.
        pixels: Number of pixels of that part.
    """

    image: str
    share: float
    truth: int
    predicted: int
    box: Window
    pixels: int


def find_disagreement(
    name: str, predicted: np.ndarray, truth: np.ndarray, counted: np.ndarray, lead: np.ndarray, *, num_classes: int
) -> Disagreement | None:
    """Return the contradiction of an image's labels; None if there is none.

    Args:
        name: Name of the image.
        predicted: Class indices (H, W).
        truth: Class indices (H, W).
        counted: True where there is a label (H, W), boolean.
        lead: Lead in probability of the predicted class over the labelled one (H, W).
        num_classes: K.
    """
    doubtful = counted & (predicted != truth) & (lead >= MIN_LEAD)
    if not doubtful.any():
        return None
    pairs = truth.astype(np.int64) * num_classes + predicted
    pair = int(np.bincount(pairs[doubtful], minlength=num_classes**2).argmax())
    parts, _ = label(doubtful & (pairs == pair))
    largest = int(np.bincount(parts[parts > 0]).argmax())
    rows, cols = find_objects(parts)[largest - 1]
    box = Window(cols.start, rows.start, cols.stop - cols.start, rows.stop - rows.start)
    share = np.count_nonzero(doubtful) / np.count_nonzero(counted)
    return Disagreement(name, share, *divmod(pair, num_classes), box, int(np.count_nonzero(parts == largest)))


@dataclass(frozen=True)
class Suspect:
    """An image whose labels may be wrong.

    Attributes:
        image: Name.
        surprisal: Negative logarithm of the probability that an image of this split whose labels are as good as the
            rest's shows as much, by its strongest sign.
        disagreement: Confident contradiction; None if there is none.
        mistake: The mistake that would explain it; None if nothing stands out.
        box: The area to look at, in pixels of the image.
    """

    image: str
    surprisal: float
    disagreement: Disagreement | None
    mistake: Mistake | None
    box: Window

    @property
    def share(self) -> float:
        """Share of the labelled pixels that are confidently contradicted."""
        return self.disagreement.share if self.disagreement else 0.0


@dataclass(frozen=True)
class Suspects:
    """The ranked images of a split.

    Attributes:
        ranked: All images that show any sign, most surprising first.
        images: Number of labelled images.
        median_share: Median share of an image's labelled pixels that are contradicted.
        usual_offset: Offset that the labels of most images share.
    """

    ranked: tuple[Suspect, ...]
    images: int
    median_share: float
    usual_offset: Offset

    @property
    def outliers(self) -> list[Suspect]:
        """Images that show more than the rest of the split explains; empty if there are too few images."""
        if self.images < MIN_IMAGES:
            return []
        return [each for each in self.ranked if each.surprisal >= surprisal_threshold(self.images)][:MAX_LISTED]


def surprisal_threshold(images: int) -> float:
    """Return the surprisal that the maximum over the images, by any sign, exceeds with probability FALSE_ALARM."""
    return math.log(NUM_SIGNS * max(1, images) / FALSE_ALARM)


def rank_suspects(disagreements: Sequence[Disagreement], fits: Sequence[Fit], images: int) -> Suspects:
    """Rank images by how far they stand out from the split, by their strongest sign.

    The signs are the contradicted share, and the share of the contradiction that a simple mistake explains, in the
    whole image and in a part of it. A model's ordinary errors show each of them a little in many images and strongly in
    few. They are about exponentially distributed, so that the largest of n exceeds scale · ln(n / FALSE_ALARM) with
    probability FALSE_ALARM. The scale is estimated from the median (and from the upper quartile if most images show
    nothing), which a few wrong labels do not affect.

    Args:
        disagreements: Disagreements of the images with any contradiction.
        fits: Fits of the images with labels of more than one class.
        images: Number of labelled images.
    """
    usual = usual_offset([fit.whole for fit in fits])
    shares = {d.image: d for d in disagreements}
    wholes = {fit.image: mistake for fit in fits if (mistake := fit.mistake(usual))}
    parts = {fit.image: mistake for fit in fits if (mistake := fit.mistake_in_part(usual))}
    by_share = _surprisals({name: d.share for name, d in shares.items()}, images, MIN_CONTRADICTED)
    by_whole = _surprisals({name: m.explained for name, m in wholes.items()}, images, MIN_EXPLAINED)
    by_part = _surprisals({name: m.explained for name, m in parts.items()}, images, MIN_EXPLAINED_IN_PART)
    found = []
    for name in dict.fromkeys([*shares, *wholes, *parts]):
        whole, part = by_whole.get(name, 0.0), by_part.get(name, 0.0)
        likeliest = (wholes if whole >= part else parts).get(name)
        mistake = likeliest if max(whole, part) >= surprisal_threshold(images) else None
        boxes = [m.box for m in (mistake if mistake and mistake.offset else None, shares.get(name), likeliest) if m]
        found.append(Suspect(name, max(by_share.get(name, 0.0), whole, part), shares.get(name), mistake, boxes[0]))
    found.sort(key=lambda suspect: (-suspect.surprisal, -suspect.share))
    known = _filled([d.share for d in disagreements], images)
    return Suspects(tuple(found), images, float(np.median(known)) if images else 0.0, usual)


def _surprisals(values: dict[str, float], images: int, least: float) -> dict[str, float]:
    """Return each value's surprisal; a value below `least` stays below the threshold."""
    if not values:
        return {}
    median, upper = np.quantile(_filled(list(values.values()), images), (0.5, 0.75))
    scale = max(median / math.log(2), upper / math.log(4), least / surprisal_threshold(images))
    return {name: value / scale for name, value in values.items()}


def _filled(values: Sequence[float], images: int) -> list[float]:
    return [*values, *[0.0] * (images - len(values))]
