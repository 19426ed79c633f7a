"""What to do about it, the worst first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from satseg.diagnosis.confusion import LEAST
from satseg.diagnosis.diagnose import Diagnosis
from satseg.diagnosis.leaning import Leaning
from satseg.diagnosis.words import box_words, lean_words, listed

LOST = 0.5  # share of a class that must be found, or the class as a whole is the matter
WORTH = 0.002  # gain of mIoU below which an error asks for nothing
MOST = 6  # actions beside those about shortcuts
NAMED = 3  # images in a line
RARE = 0.5  # of an even share of the labelled pixels


@dataclass(frozen=True)
class Action:
    """One thing to do.

    Attributes:
        what: In one line.
        why: With the numbers behind it.
        classes: Names of the classes that it is about.
        images: Names of the images to look at.
        gain: What mIoU could gain by it at most, all else as it is; None for a shortcut, which the scores do not show.
    """

    what: str
    why: str
    classes: tuple[str, ...]
    images: tuple[str, ...]
    gain: float | None


def actions(found: Diagnosis, class_names: Sequence[str]) -> list[Action]:
    """Return what to do: shortcuts first, which make scores worthless elsewhere; then by what mIoU could gain."""
    shortcuts = [_against_shortcut(leaning, class_names) for leaning in found.shortcuts]
    lost = [_for_class(found, k, class_names) for k in _lost(found)]
    pairs = _for_pairs(found, class_names)
    others = sorted([*lost, *pairs], key=lambda action: -(action.gain or 0))[:MOST]
    labels = [_for_labels(found, class_names)] if found.doubts else []
    return [*shortcuts, *sorted([*others, *labels], key=lambda action: -(action.gain or 0))]


def _lost(found: Diagnosis) -> list[int]:
    """Return the classes of which less than LOST is found."""
    matrix = found.survey.matrix
    totals = matrix.sum(1)
    return [k for k in range(len(matrix)) if totals[k] >= LEAST and matrix[k, k] < LOST * totals[k]]


def _against_shortcut(leaning: Leaning, names: Sequence[str]) -> Action:
    name = names[leaning.predicted]
    images = _unique([case.spot.image for case, _ in leaning.checks])
    return Action(
        f"Add training images of {name} without what it hangs on, or with that beside other classes; "
        f"see {listed(images)}.",
        lean_words(leaning, names),
        (name,),
        images,
        None,
    )


def _for_class(found: Diagnosis, index: int, names: Sequence[str]) -> Action:
    matrix, name = found.survey.matrix, names[index]
    pairs = [pair for pair in found.confused if pair.truth == index]
    images = _unique([image for pair in pairs[:NAMED] for image, _ in found.survey.worst[pair.key]])
    gain = sum(pair.gain for pair in pairs)
    total, share = int(matrix[index].sum()), matrix[index].sum() / matrix.sum()
    weight = " and give it more weight (loss.class_weights=balanced)" if share < RARE / len(names) else ""
    taken = listed([f"{names[pair.predicted]} ({pair.share:.1%})" for pair in pairs[:2]])
    return Action(
        f"Add training images with {name}{weight}: {1 - matrix[index, index] / total:.0%} of it is missed.",
        f"{total - int(matrix[index, index]):,} of {total:,} pixels are missed, most as {taken}; {name} is {share:.1%} "
        f"of the labelled pixels. Look first at {listed(images)}. {_worth(gain)}",
        (name,),
        images,
        gain,
    )


def _for_pairs(found: Diagnosis, names: Sequence[str]) -> list[Action]:
    """Return an action for each pair that is looked into and worth it, unless its class is lost as a whole."""
    made, lost = [], _lost(found)
    for pair in found.pairs:
        confused = pair.confused
        if confused.truth in lost or confused.gain < WORTH:
            continue
        truth, predicted = names[confused.truth], names[confused.predicted]
        made.append(
            Action(
                f"Teach the model to tell {truth} from {predicted}: look at {listed(pair.images)}.",
                f"{confused.share:.1%} of {truth} ({confused.pixels:,} pixels) is taken for {predicted}, most of it "
                f"there. Where the labels are right, add training images that show both. {_worth(confused.gain)}",
                (truth, predicted),
                pair.images,
                confused.gain,
            )
        )
    return made


def _for_labels(found: Diagnosis, names: Sequence[str]) -> Action:
    """Return one action for all images whose labels stand out."""
    doubts, gains = [doubt.found for doubt in found.doubts], {pair.key: pair for pair in found.confused}
    pairs = [(gains[d.truth, d.predicted], d) for d in doubts]
    gain = sum(pair.gain * min(1.0, d.pixels / pair.pixels) for pair, d in pairs)
    first, images = doubts[0], _unique([d.image for d in doubts])
    more = f" ({len(doubts)} in all, listed below)" if len(doubts) > len(images) else ""
    return Action(
        f"Check the labels of {listed(images)}{more}.",
        f"In {first.image}, {box_words(first.box)}, the label says {names[first.truth]} and the model is sure of "
        f"{names[first.predicted]}; {first.share:.1%} of the image is contradicted so, against a median of "
        f"{found.doubts[0].usual:.1%}. {_worth(gain)}",
        tuple(dict.fromkeys(names[k] for d in doubts for k in (d.truth, d.predicted))),
        tuple(d.image for d in doubts),
        gain,
    )


def _worth(gain: float) -> str:
    return f"Worth up to {gain:.3f} of mIoU."


def _unique(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))[:NAMED]
