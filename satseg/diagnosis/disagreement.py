"""How much the model contradicts each image's labels, and where."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import find_objects, label

from satseg.data.rasters.raster import Window

CONFIDENT = 0.5  # lead over the labelled class from which a pixel contradicts its label


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
