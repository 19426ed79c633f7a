"""What to do about it, the worst first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from satseg.diagnosis.confusion import LEAST
from satseg.diagnosis.diagnose import Diagnosis
from satseg.diagnosis.doubts import Doubt
from satseg.diagnosis.leaning import Leaning
from satseg.diagnosis.leaning_words import lean_words, listed
from satseg.diagnosis.words import box_words, mistake_words, usual_offset_words

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
    labels = [*_for_labels(found, class_names), *_for_registration(found)]
    return [*shortcuts, *sorted([*others, *labels], key=lambda action: -(action.gain or 0))]


def _lost(found: Diagnosis) -> list[int]:
    """Return the classes of which less than LOST is found."""
    matrix = found.survey.matrix
    totals = matrix.sum(1)
    return [k for k in range(len(matrix)) if totals[k] >= LEAST and matrix[k, k] < LOST * totals[k]]


def _against_shortcut(leaning: Leaning, names: Sequence[str]) -> Action:
    name = names[leaning.predicted]
    images = _unique([example.recipient.case.spot.image for example in leaning.examples])
    cue = leaning.part.words if leaning.part else "its surroundings"
    return Action(
        f"Add training images of {name} without what it hangs on ({cue}), or with that beside other classes; "
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


def _for_labels(found: Diagnosis, names: Sequence[str]) -> list[Action]:
    """Return one action for all images whose masks lie off, one for the others whose labels stand out."""
    moved = [doubt for doubt in found.doubts if doubt.found.mistake and doubt.found.mistake.offset]
    others = [doubt for doubt in found.doubts if doubt not in moved]
    made = []
    if moved:
        which = _which(moved)
        made.append(_about(found, moved, f"Put {which} back in place, or check the georeference.", names))
    if others:
        made.append(_about(found, others, f"Check the labels of {_which(others)}.", names))
    return made


def _which(doubts: Sequence[Doubt]) -> str:
    images = _unique([doubt.found.image for doubt in doubts])
    return listed(images) + (f" ({len(doubts)} in all, listed below)" if len(doubts) > len(images) else "")


def _about(found: Diagnosis, doubts: Sequence[Doubt], what: str, names: Sequence[str]) -> Action:
    """Return an action about images whose labels stand out, with the reason that the first of them gives."""
    contradicted = [d.found.disagreement for d in doubts if d.found.disagreement]
    pairs = {pair.key: pair for pair in found.confused}
    gain = sum(
        pairs[d.truth, d.predicted].gain * min(1.0, d.pixels / pairs[d.truth, d.predicted].pixels) for d in contradicted
    )
    first = doubts[0]
    why = f"In {first.found.image}, "
    if first.found.mistake:
        why += f"{mistake_words(first.found.mistake, first.pixel_m, names)}. "
    elif first.found.disagreement:
        other = first.found.disagreement
        why += (
            f"{box_words(other.box)}, the label says {names[other.truth]} and the model is sure of "
            f"{names[other.predicted]}; {other.share:.1%} of the image is contradicted so, against a median of "
            f"{found.suspects.usual_share:.1%}. "
        )
    return Action(
        what,
        why + _worth(gain),
        tuple(dict.fromkeys(names[k] for d in contradicted for k in (d.truth, d.predicted))),
        tuple(doubt.found.image for doubt in doubts),
        gain,
    )


def _for_registration(found: Diagnosis) -> list[Action]:
    """Return an action where most masks lie off together."""
    return [
        Action(
            "Check how the masks of this split were laid on their images (corner or centre of a pixel, resampling).",
            words,
            (),
            (),
            0.0,
        )
        for words in usual_offset_words(found.suspects)
    ]


def _worth(gain: float) -> str:
    return f"Worth up to {gain:.3f} of mIoU."


def _unique(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))[:NAMED]
