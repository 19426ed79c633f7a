"""Where a cue lies, and what it is: the smallest part of what was taken over that alone does most of the harm."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.ndimage import distance_transform_edt

from satseg.attribution.composites import (
    MARGIN,
    Picture,
    shared,
    swapped,
    swapped_bands,
    swapped_coarse,
    swapped_fine,
    swapped_level,
    toned,
)
from satseg.data.raster import Window
from satseg.diagnosis.swaps import Actor, Change, Variant, changed, shares_by_class
from satseg.models import SegmentationNetwork

MOST = 0.7  # of an effect, that a part must account for to be named
TRIED = 6  # recipients on which parts are tried
PIXELS = 200_000  # of them together: fewer where images are large
LARGEST = 0.5  # share of the surroundings beyond which a part is no place
EDGES = (0.03, 0.06, 0.12, 0.25, 0.5)  # of the rows, or columns
CORNERS = (0.1, 0.2, 0.3, 0.5)  # of the sides
FRAMES = (0.03, 0.06, 0.12)  # of the shorter side
HALVINGS = 3  # of the sides, down to a place of each image's own
SMALL = 0.1  # share beyond which a place of its own in each image is looked for, too
RING = 24  # pixels beyond the object's margin that count as beside it
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


class Try(NamedTuple):
    """One way to take over only some of it: its words, a box or None, and how to make it."""

    words: str
    box: Window | None
    mask: Callable[[Picture], np.ndarray] | None
    make: Callable[[Picture, Picture], Variant]


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
    everything = _everything(change)
    if not closely:
        return _part(everything.words, 1.0, 1.0, None, None, triples, gained, network.spec.num_classes)
    effect = asker.excess(everything)
    if change is not Change.SURROUNDINGS:
        some = [(t, asker.excess(t) / effect) for t in _of_whole(change, network.spec.inputs[0].bands)]
        telling = [(t, e) for t, e in some if e >= MOST]
        best, explains = telling[0] if telling else (everything, 1.0)
        return _part(best.words, 1.0, explains, None, None, triples, gained, network.spec.num_classes)
    best, explains, share = _smallest(asker, _places(few[0][0].picture, whole), effect) or (everything, 1.0, 1.0)
    if share > SMALL:
        apart = asker.own_places(effect)
        if apart is not None and apart[2] < share / 2:
            return _part(*apart[:1], apart[2], apart[1], None, apart[3], triples, gained, network.spec.num_classes)
    kinds = [t for t in _kinds(network.spec.inputs[0].bands, best.mask) if asker.excess(t) >= MOST * effect]
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
        height, width = _size(self.triples[0][0].picture)
        boxes, best = [Window(0, 0, width, height)] * len(self.triples), None
        for _ in range(HALVINGS):
            quarters = [list(_quarters(box)) for box in boxes]
            tried = [[_rectangle("", q[n]) for q in quarters] for n in range(len(quarters[0]))]
            most = self.each(tried, 2)
            chosen = most.argmax(0)
            boxes = [q[n] for q, n in zip(quarters, chosen, strict=True)]
            kept = [_rectangle("", box) for box in boxes]
            gain = float((most.max(0) - self.each([kept], 1)[0]).mean())
            if gain < MOST * effect:
                break
            words = f"a place of {boxes[0].width} x {boxes[0].height} pixels, another in each image"
            masks = tuple(_inside(t[0].picture, box) for t, box in zip(self.triples, boxes, strict=True))
            best = words, gain / effect, boxes[0].width * boxes[0].height / (height * width), masks
        return best


def _smallest(asker: _Asker, tries: Sequence[Try], effect: float) -> tuple[Try, float, float] | None:
    outcomes = asker.outcomes(tries, 2).mean(1)
    enough = [(asker.share(t), t) for t, outcome in zip(tries, outcomes, strict=True) if outcome >= MOST * effect]
    for share, one in sorted(enough, key=lambda pair: pair[0]):
        if 0 < share <= LARGEST and asker.excess(one) >= MOST * effect:
            return one, asker.excess(one) / effect, share
    return None


def _everything(change: Change) -> Try:
    words = {
        Change.SURROUNDINGS: "the surroundings as a whole",
        Change.TONE: "the brightness, colour and contrast of the whole picture",
        Change.SPECTRUM: "the sharpness, grain or pattern of the whole picture",
        Change.POSITION: "the place in the picture",
    }[change]
    return Try(words, None, None, lambda r, d: changed(change, r, d))


def _of_whole(change: Change, bands: Sequence[str]) -> Iterator[Try]:
    """Give simpler ways than a change, the simplest first."""

    def tone(chosen: Sequence[int] | None) -> Callable[[Picture, Picture], Variant]:
        return lambda r, d: (toned(r, d, chosen, spread=False), r.valid, r.region)

    if change is Change.TONE:
        if len(bands) > 1:
            for index, band in enumerate(bands):
                yield Try(f"the brightness of the whole picture in band {band}", None, None, tone([index]))
        yield Try("the brightness and colour of the whole picture", None, None, tone(None))


def _kinds(bands: Sequence[str], mask: Callable[[Picture], np.ndarray] | None) -> Iterator[Try]:
    """Give ways to take over one kind of content of a part, or of all of the surroundings."""

    def within(make: Callable[[Picture, Picture], np.ndarray]) -> Callable[[Picture, Picture], Variant]:
        def made(r: Picture, d: Picture) -> Variant:
            image = make(r, d)
            return (image if mask is None else np.where(mask(r), image, r.image)), r.valid, r.region

        return made

    yield Try("brightness and colour", None, None, within(swapped_level))
    yield Try("coarse content", None, None, within(swapped_coarse))
    yield Try("fine texture", None, None, within(swapped_fine))
    if len(bands) > 1:
        for index, band in enumerate(bands):
            yield Try(f"band {band}", None, None, within(lambda r, d, index=index: swapped_bands(r, d, [index])))  # type: ignore[misc]


def _with_kind(words: str, kinds: Sequence[Try]) -> str:
    """Add what kind of content it is, where one alone does it."""
    content = [t.words for t in kinds if not t.words.startswith("band ")]
    bands = [t.words for t in kinds if t.words.startswith("band ")]
    if "brightness and colour" in content:
        words += ", by its brightness and colour alone"
    elif len(content) == 1:
        words += f", by its {content[0]} alone"
    return words + (f", in {bands[0]} alone" if len(bands) == 1 else "")


def _size(picture: Picture) -> tuple[int, int]:
    """Return height and width of what is valid."""
    return int(picture.valid.any(1).sum()), int(picture.valid.any(0).sum())


def _quarters(box: Window) -> Iterator[Window]:
    """Give nine overlapping boxes of half the sides."""
    height, width = max(1, box.height // 2), max(1, box.width // 2)
    for down in (0, height // 2, box.height - height):
        for right in (0, width // 2, box.width - width):
            yield Window(box.col + right, box.row + down, width, height)


def _inside(picture: Picture, box: Window) -> np.ndarray:
    inside = np.zeros(picture.valid.shape, bool)
    inside[box.row : box.row + box.height, box.col : box.col + box.width] = True
    return inside


def edges_of(first: Picture) -> list[Try]:
    """Return a quarter of the picture along each edge, its border, and a corner of a quarter of the sides each."""
    return [*_along_edges(first, (0.25,)), *_borders(first, (0.08,)), *_corners(first, (0.25,))]


def _places(first: Picture, whole: bool) -> list[Try]:
    """Return parts of the picture, by their place."""
    found = [*_blocks(first, 4), *_blocks(first, 3), *_blocks(first, 2), *rings()]
    if not whole:
        return found
    return [*found, *_along_edges(first, EDGES), *_corners(first, CORNERS), *_borders(first, FRAMES)]


def _along_edges(first: Picture, shares: Sequence[float]) -> Iterator[Try]:
    height, width = _size(first)
    for share in shares:
        rows, cols = max(1, round(share * height)), max(1, round(share * width))
        yield _rectangle(f"the highest {rows} rows", Window(0, 0, width, rows))
        yield _rectangle(f"the lowest {rows} rows", Window(0, height - rows, width, rows))
        yield _rectangle(f"the leftmost {cols} columns", Window(0, 0, cols, height))
        yield _rectangle(f"the rightmost {cols} columns", Window(width - cols, 0, cols, height))


def _corners(first: Picture, shares: Sequence[float]) -> Iterator[Try]:
    height, width = _size(first)
    for share in shares:
        rows, cols = max(1, round(share * height)), max(1, round(share * width))
        for up, row in (("upper", 0), ("lower", height - rows)):
            for side, col in (("left", 0), ("right", width - cols)):
                words = f"the {up} {side} corner, {cols} x {rows} pixels"
                yield _rectangle(words, Window(col, row, cols, rows))


def _borders(first: Picture, shares: Sequence[float]) -> Iterator[Try]:
    for share in shares:
        depth = max(1, round(share * min(_size(first))))
        yield _masked(f"the border, {depth} pixels deep", None, _frame(depth))


def _blocks(first: Picture, number: int) -> Iterator[Try]:
    height, width = _size(first)
    for i in range(number):
        for j in range(number):
            top, bottom = round(i * height / number), round((i + 1) * height / number)
            left, right = round(j * width / number), round((j + 1) * width / number)
            box = Window(left, top, right - left, bottom - top)
            yield _rectangle(f"columns {left} to {right - 1}, rows {top} to {bottom - 1}", box)


def rings() -> list[Try]:
    """Return what lies beside objects, and what lies farther away."""

    def ring(picture: Picture) -> np.ndarray:
        beside: np.ndarray = distance_transform_edt(~picture.own) <= MARGIN + RING
        return beside

    return [
        _masked(f"what lies within {MARGIN + RING} pixels of the object", None, ring),
        _masked(f"what lies farther than {MARGIN + RING} pixels from the object", None, lambda p: ~ring(p)),
    ]


def _rectangle(words: str, box: Window) -> Try:
    return _masked(words, box, lambda picture: _inside(picture, box))


def _frame(depth: int) -> Callable[[Picture], np.ndarray]:
    def mask(picture: Picture) -> np.ndarray:
        outer = np.ones(picture.valid.shape, bool)
        height, width = _size(picture)
        outer[depth : height - depth, depth : width - depth] = False
        return outer

    return mask


def _masked(words: str, box: Window | None, mask: Callable[[Picture], np.ndarray]) -> Try:
    return Try(words, box, mask, lambda r, d: (swapped(r, d, mask(r)), r.valid, r.region))


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
