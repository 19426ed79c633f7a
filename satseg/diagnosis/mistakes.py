"""Simple labelling mistakes: displaced, rotated, mirrored or scaled masks, and swapped classes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from satseg.data.rasters.header import Window
from satseg.diagnosis.displacement import Displacement, Offset, displacements

MIN_PROBABILITY = 0.02  # probabilities are clipped to it, so that no pixel outvotes many
TOLERANCE = 0.1  # nats of contradiction that need no explanation
MIN_CLASS_SHARE = 0.01  # share of the labelled pixels that each of two swapped classes must have
MIN_EXPLAINED = 0.25  # share of the contradiction that a mistake other than a displacement must explain
SCALES = (0.9, 1.1)
STEP = 2  # rows and columns are subsampled by it: a quarter of the pixels shows what happened to a whole mask
TURNS = {
    (1, False): "rotated by 90° to the left",
    (2, False): "rotated by 180°",
    (3, False): "rotated by 90° to the right",
    (0, True): "mirrored left to right",
    (1, True): "mirrored across a diagonal",
    (2, True): "mirrored top to bottom",
    (3, True): "mirrored across a diagonal",
}


@dataclass(frozen=True)
class Mistake:
    """A mistake that may have happened to an image's labels.

    Attributes:
        box: The affected part of the image.
        gain: In mean log-probability of the labels when it is undone.
        contradicted: Lead of the predicted classes over the labelled ones in mean log-probability.
        offset: Offset of the labels; None for other mistakes.
        partial: True if the offset affects only a part of the image.
        scale: Ratio of the drawn to the true size; None for other mistakes.
        turn: One of TURNS; None for other mistakes.
        exchanged: The two swapped classes; None for other mistakes.
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
        """Share of the contradiction that goes away; lower if there is little contradiction."""
        return self.gain / (self.contradicted + TOLERANCE)


@dataclass(frozen=True)
class Fit:
    """Fit of an image's labels under each simple mistake.

    Attributes:
        image: Name.
        whole: Gains from displacing all labels.
        part: Gains of the part of the image that gains most beyond that.
        other: The best of the other mistakes; None if none gains anything.
    """

    image: str
    whole: Displacement
    part: Displacement
    other: Mistake | None

    def mistake(self, usual: Offset) -> Mistake | None:
        """Return the best explanation for the whole image, beyond an offset that most images share."""
        offset, gain = self.whole.best(usual)
        found = [Mistake(self.whole.box, gain, self.whole.contradicted, offset)] if gain > 0 else []
        if self.other and self.other.explained >= MIN_EXPLAINED and self.other.gain > self.whole.gain(usual):
            found.append(self.other)
        return max(found, key=lambda m: m.gain, default=None)

    def mistake_in_part(self, usual: Offset) -> Mistake | None:
        """Return the offset of a part of the image that the whole does not share; None if there is none."""
        offset, gain = self.part.best(usual)
        shared, _ = self.whole.best(usual)
        gain = min(gain, self.part.gain(offset) - self.part.gain(shared))
        return Mistake(self.part.box, gain, self.part.contradicted, offset, partial=True) if gain > 0 else None


def fit_labels(name: str, probabilities: Tensor, truth: Tensor, counted: Tensor, valid: Tensor) -> Fit | None:
    """Return the fit of an image's labels under each mistake; None if they are of one class.

    Args:
        name: Name of the image.
        probabilities: Class probabilities (K, H, W).
        truth: Class indices (H, W), 0 to K - 1 where counted.
        counted: True where there is a label (H, W), boolean.
        valid: True where the image has data (H, W), boolean.
    """
    scores = probabilities.clamp_min(MIN_PROBABILITY).log()
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
    """Yield candidate mistakes other than a displacement."""
    labels = torch.where(counted, truth, -1).long()
    thin = slice(None, None, STEP), slice(None, None, STEP)
    few, seen, own = scores[:, *thin], valid[thin], _drawn(scores[:, *thin], labels[thin])
    for (turns, mirrored), name in TURNS.items():
        # undone in reverse order: first rotated back, then mirrored back
        drawn = torch.rot90(labels, -turns)
        drawn = drawn.flip(1) if mirrored else drawn
        if drawn.shape == labels.shape:
            yield Mistake(whole.box, _gain(few, drawn[thin], own, seen), whole.contradicted, turn=name)
    for scale in SCALES:
        drawn = _resized(labels, 1 / scale)
        yield Mistake(whole.box, _gain(few, drawn[thin], own, seen), whole.contradicted, scale=scale)
    yield from _exchanges(few, labels[thin], whole)


def _drawn(scores: Tensor, labels: Tensor) -> Tensor:
    """Return the log-probability of the labels (H, W); NaN where there is none."""
    return scores.gather(0, labels.clamp_min(0)[None])[0].where(labels >= 0, torch.nan)


def _gain(scores: Tensor, drawn: Tensor, own: Tensor, valid: Tensor) -> float:
    """Return the mean gain over the pixels labelled in both masks; 0 if there are none."""
    gained = (_drawn(scores, drawn) - own).where(valid, torch.nan).nanmean()
    return float(gained.nan_to_num(0.0))


def _resized(labels: Tensor, scale: float) -> Tensor:
    """Return labels (H, W) scaled about their centre; -1 where undefined."""
    height, width = labels.shape
    rows, cols = (
        ((torch.arange(n, device=labels.device) + 0.5 - n / 2) / scale + n / 2).floor().long() for n in (height, width)
    )
    inside = ((rows >= 0) & (rows < height))[:, None] & ((cols >= 0) & (cols < width))
    drawn = labels[rows.clamp(0, height - 1)][:, cols.clamp(0, width - 1)]
    return torch.where(inside, drawn, -1)


def _exchanges(scores: Tensor, labels: Tensor, whole: Displacement) -> Iterator[Mistake]:
    """Yield the pairs of classes each of which fits where the other is drawn."""
    classes = len(scores)
    drawn = torch.stack([(labels == k).flatten() for k in range(classes)]).float()
    sums = (drawn @ scores.flatten(1).T).cpu().numpy()  # rows: labelled class
    pixels = drawn.sum(1).cpu().numpy()
    present = np.flatnonzero(pixels >= MIN_CLASS_SHARE * pixels.sum())
    for one in present.tolist():
        for other in present[present > one].tolist():
            gains = sums[one, other] - sums[one, one], sums[other, one] - sums[other, other]
            if min(gains) > 0:
                gain = sum(gains) / pixels.sum()
                yield Mistake(whole.box, float(gain), whole.contradicted, exchanged=(one, other))
