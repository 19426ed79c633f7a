"""Simple mistakes that would explain why labels do not fit: displaced, turned, mirrored, scaled, classes exchanged."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from satseg.data.rasters.raster import Window
from satseg.diagnosis.displacement import Displacement, Offset, displacements

FLOOR = 0.02  # probability below which a class is as good as excluded: no pixel may outvote many
DOUBT = 0.1  # nats by which a label may be contradicted for no reason: less is not explained by anything
SMALL = 0.01  # share of the labelled pixels that each of two exchanged classes must have
LEAST = 0.25  # share of the contradiction that anything but a displacement must explain: there are many to choose from
SCALES = (0.9, 1.1)
STEP = 2  # every which row and column is looked at: what turns a whole mask shows in a quarter of its pixels
TURNS = {
    (1, False): "turned a quarter to the left",
    (2, False): "turned upside down",
    (3, False): "turned a quarter to the right",
    (0, True): "mirrored left to right",
    (1, True): "mirrored across a diagonal",
    (2, True): "mirrored top to bottom",
    (3, True): "mirrored across a diagonal",
}


@dataclass(frozen=True)
class Mistake:
    """What may have happened to an image's labels.

    Attributes:
        box: The part of the image that it happened to.
        gain: Of the mean log-probability of the labels, if it is undone.
        contradicted: How far the predicted classes lead the labelled ones in mean log-probability.
        offset: By how much the labels lie off; None where it is something else.
        partial: Whether they do in a part of the image alone.
        scale: Size of what is drawn against what is seen; None where it is something else.
        turn: One of TURNS; None where it is something else.
        exchanged: Two classes; None where it is something else.
    """

    box: Window
    gain: float
    contradicted: float
    offset: Offset | None = None
    partial: bool = False
    scale: float | None = None
    turn: str | None = None
    exchanged: tuple[int, int] | None = None

    @property
    def explained(self) -> float:
        """Share of what contradicts the labels that goes away, less where they are hardly contradicted."""
        return self.gain / (self.contradicted + DOUBT)


@dataclass(frozen=True)
class Fit:
    """How an image's labels would fit if they were drawn otherwise.

    Attributes:
        image: Name.
        whole: What displacing all of them gains.
        part: The same of the part of the image that gains most beyond that.
        other: The best of the other mistakes; None where none gains anything.
    """

    image: str
    whole: Displacement
    part: Displacement
    other: Mistake | None

    def mistake(self, usual: Offset) -> Mistake | None:
        """Return what explains most in all of the image, beyond an offset that most images share."""
        offset, gain = self.whole.best(usual)
        found = [Mistake(self.whole.box, gain, self.whole.contradicted, offset)] if gain > 0 else []
        if self.other and self.other.explained >= LEAST and self.other.gain > self.whole.gain(usual):
            found.append(self.other)
        return max(found, key=lambda m: m.gain, default=None)

    def mistake_in_part(self, usual: Offset) -> Mistake | None:
        """Return the offset of a part of the image that the whole of it does not share; None where there is none."""
        offset, gain = self.part.best(usual)
        shared, _ = self.whole.best(usual)
        gain = min(gain, self.part.gain(offset) - self.part.gain(shared))
        return Mistake(self.part.box, gain, self.part.contradicted, offset, partial=True) if gain > 0 else None


def fit_of(name: str, probabilities: Tensor, truth: Tensor, counted: Tensor, valid: Tensor) -> Fit | None:
    """Return how an image's labels would fit if they were drawn otherwise; None where they are of one class.

    Args:
        name: Of the image.
        probabilities: Of the classes (K, H, W).
        truth: Class indices (H, W), 0 to K - 1 where counted.
        counted: Where there is a label (H, W), boolean.
        valid: Where the image has numbers (H, W), boolean.
    """
    scores = probabilities.clamp_min(FLOOR).log()
    moved = displacements(scores, truth, counted, valid)
    if moved is None:
        return None
    whole, parts = moved
    nothing = Offset(0, 0)
    shared, _ = whole.best(nothing)
    part = max(parts, key=lambda p: p.best(nothing)[1] - p.gain(shared))
    others = _others(scores, truth, counted, valid, whole)
    return Fit(name, whole, part, max(others, key=lambda m: m.gain, default=None))


def _others(scores: Tensor, truth: Tensor, counted: Tensor, valid: Tensor, whole: Displacement) -> Iterator[Mistake]:
    """Give the mistakes other than a displacement that would explain anything."""
    labels = torch.where(counted, truth, -1).long()
    thin = slice(None, None, STEP), slice(None, None, STEP)
    few, seen, own = scores[:, *thin], valid[thin], _drawn(scores[:, *thin], labels[thin])
    for (turns, mirrored), name in TURNS.items():
        # undone in the other order: first turned back, then mirrored back
        drawn = torch.rot90(labels, -turns)
        drawn = drawn.flip(1) if mirrored else drawn
        if drawn.shape == labels.shape:
            yield Mistake(whole.box, _gain(few, drawn[thin], own, seen), whole.contradicted, turn=name)
    for scale in SCALES:
        drawn = _resized(labels, 1 / scale)
        yield Mistake(whole.box, _gain(few, drawn[thin], own, seen), whole.contradicted, scale=scale)
    yield from _exchanges(few, labels[thin], whole)


def _drawn(scores: Tensor, labels: Tensor) -> Tensor:
    """Return the log-probability of labels (H, W); NaN where there is none."""
    return scores.gather(0, labels.clamp_min(0)[None])[0].where(labels >= 0, torch.nan)


def _gain(scores: Tensor, drawn: Tensor, own: Tensor, valid: Tensor) -> float:
    """Return what is gained where both drawings have a label; 0 where there is no such place."""
    gained = (_drawn(scores, drawn) - own).where(valid, torch.nan).nanmean()
    return float(gained.nan_to_num(0.0))


def _resized(labels: Tensor, scale: float) -> Tensor:
    """Draw labels (H, W) larger or smaller around their middle; -1 where nothing is left."""
    height, width = labels.shape
    rows, cols = (
        ((torch.arange(n, device=labels.device) + 0.5 - n / 2) / scale + n / 2).floor().long() for n in (height, width)
    )
    inside = ((rows >= 0) & (rows < height))[:, None] & ((cols >= 0) & (cols < width))
    drawn = labels[rows.clamp(0, height - 1)][:, cols.clamp(0, width - 1)]
    return torch.where(inside, drawn, -1)


def _exchanges(scores: Tensor, labels: Tensor, whole: Displacement) -> Iterator[Mistake]:
    """Give the pairs of classes of which each fits where the other is drawn."""
    classes = len(scores)
    drawn = torch.stack([(labels == k).flatten() for k in range(classes)]).float()
    sums = (drawn @ scores.flatten(1).T).cpu().numpy()  # rows: the drawn class
    pixels = drawn.sum(1).cpu().numpy()
    present = np.flatnonzero(pixels >= SMALL * pixels.sum())
    for one in present.tolist():
        for other in present[present > one].tolist():
            gains = sums[one, other] - sums[one, one], sums[other, one] - sums[other, other]
            if min(gains) > 0:
                gain = sum(gains) / pixels.sum()
                yield Mistake(whole.box, float(gain), whole.contradicted, exchanged=(one, other))
