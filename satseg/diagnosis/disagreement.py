"""How much the model contradicts each image's labels, and which images stand out by it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import find_objects, label

from satseg.data.raster import Window

CONFIDENT = 0.5  # lead over the labelled class from which a pixel contradicts its label
SUSPICIOUS = 0.01  # share of an image's labelled pixels below which it is not worth a look
CHANCE = 0.05  # that a split whose labels are all as good lists an image
FEW = 5  # images below which none can stand out from the rest
LISTED = 12  # images at most


@dataclass(frozen=True)
class Disagreement:
    """How much an image's labels are contradicted with confidence.

    Attributes:
        image: Name.
        share: Of the labelled pixels, those where the predicted class leads the labelled one by CONFIDENT or more.
        truth: Class that is most contradicted.
        predicted: Class that most contradicts it.
        box: The largest connected part of that, in pixels of the image.
        pixels: How many pixels that part has.
    """

    image: str
    share: float
    truth: int
    predicted: int
    box: Window
    pixels: int


def disagreement_in(
    name: str, predicted: np.ndarray, truth: np.ndarray, counted: np.ndarray, lead: np.ndarray, *, num_classes: int
) -> Disagreement | None:
    """Return how much an image's labels are contradicted; None where they are not.

    Args:
        name: Of the image.
        predicted: Class indices (H, W).
        truth: Class indices (H, W).
        counted: Where there is a label (H, W), boolean.
        lead: Of the predicted class over the labelled one (H, W).
        num_classes: K.
    """
    doubtful = counted & (predicted != truth) & (lead >= CONFIDENT)
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


def standing_out(disagreements: Sequence[Disagreement], images: int) -> list[Disagreement]:
    """Return the images that are contradicted more than the rest of the split explains, the largest share first.

    A model that errs here and there contradicts many images a little and few much. Such shares fall off about
    exponentially, and then the largest of n exceeds scale · ln(n / CHANCE) with a probability of CHANCE. The scale is
    read from the middle of the split (median, and upper quartile where most images are not contradicted at all), which
    a few wrong labels do not move.

    Args:
        disagreements: Of the images that are contradicted at all.
        images: How many images have labels.
    """
    if images < FEW:
        return []
    limit = max(SUSPICIOUS, _scale(disagreements, images) * math.log(images / CHANCE))
    found = [d for d in disagreements if d.share >= limit]
    return sorted(found, key=lambda d: -d.share)[:LISTED]


def usual_share(disagreements: Sequence[Disagreement], images: int) -> float:
    """Return the median share over all images with labels; 0 where there is none."""
    return float(np.median(_shares(disagreements, images))) if images else 0.0


def _scale(disagreements: Sequence[Disagreement], images: int) -> float:
    """Return the scale of an exponential distribution with the same median or upper quartile, the larger one."""
    median, upper = np.quantile(_shares(disagreements, images), (0.5, 0.75))
    return float(max(median / math.log(2), upper / math.log(4)))


def _shares(disagreements: Sequence[Disagreement], images: int) -> list[float]:
    return [d.share for d in disagreements] + [0.0] * (images - len(disagreements))
