"""Recommended actions of a diagnosis, most important first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from satseg.diagnosis.confusion import MIN_PIXELS
from satseg.diagnosis.dependence import Dependence
from satseg.diagnosis.dependence_descriptions import describe_dependence, join_names
from satseg.diagnosis.descriptions import describe_box, describe_mistake, describe_usual_offset
from satseg.diagnosis.diagnose import Diagnosis
from satseg.diagnosis.label_issues import LabelIssue

MIN_RECALL = 0.5  # of a class; below it the class as a whole needs attention
MIN_GAIN = 0.002  # gain of mIoU below which an error needs no action
MAX_ACTIONS = 6  # besides those about shortcuts and labels
MAX_NAMED = 3  # images named in a line
RARE_FACTOR = 0.5  # a class is rare below this fraction of an even share of the labelled pixels


@dataclass(frozen=True)
class Action:
    """A recommended action.

    Attributes:
        what: The action in one line.
        why: The reason, with its numbers.
        classes: Names of the classes concerned.
        images: Names of the images to look at.
        gain: Upper bound of the gain in mIoU, all else being equal; None for a shortcut, which the scores do not show.
    """

    what: str
    why: str
    classes: tuple[str, ...]
    images: tuple[str, ...]
    gain: float | None


def actions(found: Diagnosis, class_names: Sequence[str]) -> list[Action]:
    """Return the recommended actions, by gain in mIoU within each group.

    Shortcuts come first, as they invalidate scores elsewhere; then labels, as wrong ones show up as errors that no
    training can mend; then the rest.
    """
    shortcuts = [_for_shortcut(dependence, class_names) for dependence in found.shortcuts]
    missed = [_for_class(found, k, class_names) for k in _missed_classes(found)]
    pairs = _for_pairs(found, class_names)
    others = sorted([*missed, *pairs], key=lambda action: -(action.gain or 0))[:MAX_ACTIONS]
    labels = [*_for_labels(found, class_names), *_for_registration(found)]
    return [*shortcuts, *sorted(labels, key=lambda action: -(action.gain or 0)), *others]


def _missed_classes(found: Diagnosis) -> list[int]:
    """Return the classes with a recall below MIN_RECALL."""
    matrix = found.survey.matrix
    totals = matrix.sum(1)
    return [k for k in range(len(matrix)) if totals[k] >= MIN_PIXELS and matrix[k, k] < MIN_RECALL * totals[k]]


def _for_shortcut(dependence: Dependence, names: Sequence[str]) -> Action:
    name = names[dependence.predicted]
    images = _unique([example.recipient.case.component.image for example in dependence.examples])
    cue = dependence.part.description if dependence.part else "its surroundings"
    return Action(
        f"Add training images of {name} without the cue that it depends on ({cue}), or of other classes with it; "
        f"see {join_names(images)}.",
        describe_dependence(dependence, names),
        (name,),
        images,
        None,
    )


def _for_class(found: Diagnosis, index: int, names: Sequence[str]) -> Action:
    matrix, name = found.survey.matrix, names[index]
    pairs = [pair for pair in found.confused if pair.truth == index]
    images = _unique([image for pair in pairs[:MAX_NAMED] for image, _ in found.survey.worst[pair.key]])
    gain = sum(pair.gain for pair in pairs)
    total, share = int(matrix[index].sum()), matrix[index].sum() / matrix.sum()
    weight = " and give it more weight (loss.class_weights=balanced)" if share < RARE_FACTOR / len(names) else ""
    taken = join_names([f"{names[pair.predicted]} ({pair.share:.1%})" for pair in pairs[:2]])
    return Action(
        f"Add training images with {name}{weight}: {1 - matrix[index, index] / total:.0%} of it is missed.",
        f"{total - int(matrix[index, index]):,} of {total:,} pixels are missed, mostly as {taken}; {name} is "
        f"{share:.1%} of the labelled pixels. Start with {join_names(images)}. {_describe_gain(gain)}",
        (name,),
        images,
        gain,
    )


def _for_pairs(found: Diagnosis, names: Sequence[str]) -> list[Action]:
    """Return an action for each examined pair that is worth it, unless its class is missed as a whole."""
    made, missed = [], _missed_classes(found)
    for pair in found.pairs:
        confused = pair.confused
        if confused.truth in missed or confused.gain < MIN_GAIN:
            continue
        truth, predicted = names[confused.truth], names[confused.predicted]
        made.append(
            Action(
                f"Help the model distinguish {truth} from {predicted}: look at {join_names(pair.images)}.",
                f"{confused.share:.1%} of {truth} ({confused.pixels:,} pixels) is taken for {predicted}, mostly in "
                "these images. Where the labels are right, add training images that show both. "
                f"{_describe_gain(confused.gain)}",
                (truth, predicted),
                pair.images,
                confused.gain,
            )
        )
    return made


def _for_labels(found: Diagnosis, names: Sequence[str]) -> list[Action]:
    """Return one action for all images with displaced masks, and one for the others whose labels stand out."""
    moved = [issue for issue in found.label_issues if issue.found.mistake and issue.found.mistake.offset]
    others = [issue for issue in found.label_issues if issue not in moved]
    made = []
    if moved:
        which = _describe_images(moved)
        made.append(
            _issue_action(found, moved, f"Move the masks of {which} into place, or check the georeferencing.", names)
        )
    if others:
        made.append(_issue_action(found, others, f"Check the labels of {_describe_images(others)}.", names))
    return made


def _describe_images(label_issues: Sequence[LabelIssue]) -> str:
    images = _unique([issue.found.image for issue in label_issues])
    return join_names(images) + (
        f" ({len(label_issues)} in all, listed below)" if len(label_issues) > len(images) else ""
    )


def _issue_action(found: Diagnosis, label_issues: Sequence[LabelIssue], what: str, names: Sequence[str]) -> Action:
    """Return an action about images whose labels stand out, with the first of them as the reason."""
    contradicted = [d.found.disagreement for d in label_issues if d.found.disagreement]
    pairs = {pair.key: pair for pair in found.confused}
    gain = sum(
        pairs[d.truth, d.predicted].gain * min(1.0, d.pixels / pairs[d.truth, d.predicted].pixels) for d in contradicted
    )
    first = label_issues[0]
    why = f"In {first.found.image}, "
    if first.found.mistake:
        why += f"{describe_mistake(first.found.mistake, first.pixel_m, names)}. "
    elif first.found.disagreement:
        other = first.found.disagreement
        why += (
            f"{describe_box(other.box)}, the label is {names[other.truth]} and the model confidently predicts "
            f"{names[other.predicted]}; this contradicts {other.share:.1%} of the image, against a median of "
            f"{found.suspects.median_share:.1%}. "
        )
    return Action(
        what,
        why + _describe_gain(gain),
        tuple(dict.fromkeys(names[k] for d in contradicted for k in (d.truth, d.predicted))),
        tuple(issue.found.image for issue in label_issues),
        gain,
    )


def _for_registration(found: Diagnosis) -> list[Action]:
    """Return an action if most masks are displaced alike."""
    return [
        Action(
            "Check how the masks of this split were aligned with their images (pixel corner or centre, resampling).",
            words,
            (),
            (),
            0.0,
        )
        for words in describe_usual_offset(found.suspects)
    ]


def _describe_gain(gain: float) -> str:
    return f"Worth up to {gain:.3f} of mIoU."


def _unique(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))[:MAX_NAMED]
