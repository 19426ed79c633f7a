"""Confident contradiction of an image's labels by the model: how much, and where."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import find_objects, label

from satseg.data.rasters.header import Window

MIN_LEAD = 0.5  # in probability over the labelled class, for a pixel to contradict its label


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
