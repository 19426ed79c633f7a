"""Plain-language findings about what classes depend on besides their own objects."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from satseg.attribution.composites import MARGIN
from satseg.diagnosis.dependence import RELEVANT_EFFECT, Dependence
from satseg.diagnosis.diagnose import CLASSES, DONORS, FEWEST, Diagnosis
from satseg.diagnosis.swaps import Change

UNLABELLED = "unlabelled ground"
SWAPPED = {
    Change.SURROUNDINGS: "surroundings",
    Change.TONE: "tone (brightness, colour and contrast)",
    Change.SPECTRUM: "texture (sharpness, grain and pattern)",
    Change.POSITION: "position in the image",
}


def join_names(names: Sequence[str]) -> str:
    """Return names as an enumeration: a, b and c."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def describe_coverage(found: Diagnosis, class_names: Sequence[str]) -> str:
    """Return which classes were tested and how, and what the test could not have found."""
    if not found.classes:
        return (
            "Shortcuts: no class could be tested, because there is no correct region or there are no images without "
            "the class."
        )
    classes = sorted(found.classes, key=lambda v: v.predicted)
    conclusive = [v for v in classes if not v.inconclusive]
    inconclusive = [v for v in classes if v.inconclusive]
    negative = [v for v in conclusive if not v.clear and v.mirror is None]
    line = "Shortcuts:"
    if negative:
        images = [v.recipients for v in negative]
        count = f"{min(images)} to {max(images)}" if min(images) < max(images) else f"{images[0]}"
        names = join_names([class_names[v.predicted] for v in negative])
        line += (
            f" objects of {names} from {count} images per class were given the "
            f"{join_names([SWAPPED[c] for c in negative[0].reportable])} of other images; no loss beyond that with "
            f"images of their own class was significant. {_describe_power(negative)}"
        )
    elif conclusive:
        line += f" see above for {join_names([class_names[v.predicted] for v in conclusive])}."
    if inconclusive:
        line += f" Inconclusive for {join_names([class_names[v.predicted] for v in inconclusive])}."
    untested = [name for k, name in enumerate(class_names) if all(v.predicted != k for v in found.classes)]
    if untested:
        more = f", {CLASSES} more frequent classes" if len(class_names) > CLASSES else ""
        line += (
            f" Not tested, because there are no correct regions{more} or no images without the class: "
            f"{join_names(untested)}."
        )
    return (
        f"{line} This test cannot see a cue on the object itself or within {MARGIN} pixels of it, a cue that the "
        "images of all classes carry, a cue in only a few images of a class, or a smaller effect."
    )


def describe_dependence(dependence: Dependence, class_names: Sequence[str]) -> str:
    """Return what swapping in other images' surroundings, tone, texture or position does to a class or an error."""
    name = class_names[dependence.predicted]
    subject = name if dependence.truth == dependence.predicted else f"{class_names[dependence.truth]} taken for {name}"
    if dependence.mirror is not None:
        return f"{subject}: changes only with what {class_names[dependence.mirror]} depends on (see there)."
    if not dependence.clear:
        describe = _describe_inconclusive if dependence.inconclusive else _describe_no_effect
        return f"{subject}: {describe(dependence, name)}"
    part = dependence.part.description if dependence.part else "the surroundings as a whole"
    effect = _describe_effect(dependence, class_names)
    if dependence.counterparts:
        others = join_names([class_names[k] for k in dependence.counterparts])
        subject += f" (as opposed to {others})"
        if dependence.ambiguous:
            effect += f" Whether images of {name} or of {others} carry the cue is not clear."
    if dependence.labelled_context:
        return (
            f"{subject} depends on {part}. {effect} The labels differ there, too; it is mostly "
            f"{_describe_composition(dependence, class_names)}. This may be legitimate context or a shortcut: look at "
            "the images."
        )
    return (
        f"Shortcut: {subject} depends on something other than the object: {part}. {effect} "
        f"It lies mostly on {_describe_composition(dependence, class_names)}."
    )


def _describe_effect(dependence: Dependence, class_names: Sequence[str]) -> str:
    """Return how much is lost, and in how many images."""
    name, (change, gained, partner) = class_names[dependence.predicted], dependence.question
    other = class_names[partner] if partner is not None else "other classes"
    swapped, lost = SWAPPED[change], dependence.lost
    low, high = lost.interval
    images = f"{lost.images} of {lost.of} images (95 % interval {low:.0%} to {high:.0%})"
    median = f"median {dependence.median:.0%}"
    p = "p < 0.001" if dependence.p_value < 0.001 else f"p = {dependence.p_value:.3f}"
    if gained:
        return (
            f"With the {swapped} of images of {name}, {dependence.effect:.0%} more of a region of {other} becomes "
            f"{name} than with that of other images ({median}); {images} become {name} ({p})."
        )
    return (
        f"With the {swapped} of images of {other}, {dependence.effect:.0%} more of a region is lost than with that of "
        f"other images of {name} ({median}); {images} lose the class ({p})."
    )


def _describe_inconclusive(dependence: Dependence, name: str) -> str:
    if dependence.fragile:
        return (
            f"inconclusive: in the surroundings of other images of {name}, {dependence.control:.0%} of a region is "
            "lost, so any change breaks the prediction."
        )
    if dependence.cramped:
        return (
            f"inconclusive: with {MARGIN} pixels around them, objects leave only {dependence.room:.0%} of their images "
            "to replace. Larger images would settle it."
        )
    own, other = dependence.donors
    if dependence.needed > DONORS and min(own, other) >= FEWEST:  # more would not be used
        return (
            f"inconclusive: predictions change so much with any other image that an effect of {RELEVANT_EFFECT:.0%} of "
            f"a region could be missed with the {own} images of {name} that are used."
        )
    return (
        f"inconclusive with {own} images of {name} and {other} of others: an effect of {RELEVANT_EFFECT:.0%} of a "
        f"region could be missed. About {min(dependence.needed, DONORS)} images of each would be enough."
    )


def _describe_no_effect(dependence: Dependence, name: str) -> str:
    swapped = join_names([SWAPPED[c] for c in dependence.reportable])
    return (
        f"with the {swapped} of other classes' images ({dependence.donors[1]}), {dependence.recipients} images lost no "
        f"significantly larger share than with those of images of {name} ({dependence.donors[0]}). "
        f"{_describe_power([dependence])}"
    )


def _describe_power(dependences: Sequence[Dependence]) -> str:
    """Return which effects would have been found in all of the given classes, and which could have been missed."""
    reportable = {c: max(v.reportable.get(c, 0.0) for v in dependences) for c in dependences[0].reportable}
    found = {c: effect for c, effect in reportable.items() if effect <= RELEVANT_EFFECT}
    missed = {c: effect for c, effect in reportable.items() if effect > RELEVANT_EFFECT}
    sentences = []
    if found:
        sentences.append(f"A loss of {_describe_effects(found)} would have been found.")
    if missed:
        weak = [v for v in dependences if v.weakly_tested]
        enough = max(
            min(v.donors) * (effect / RELEVANT_EFFECT) ** 2 for v in weak for effect in v.weakly_tested.values()
        )
        sentences.append(
            f"A loss below {_describe_effects(missed)} could have been missed; "
            + (
                f"about {math.ceil(enough)} images of each class would show one of {RELEVANT_EFFECT:.0%}."
                if enough <= DONORS
                else "predictions change too much with any other image for more images to help."
            )
        )
    return " ".join(sentences)


def _describe_effects(effects: Mapping[Change, float]) -> str:
    """Return shares of a region with the kinds of swap that they belong to, the smallest first."""
    by_share: dict[str, list[str]] = {}
    for change in sorted(effects, key=lambda c: effects[c]):
        by_share.setdefault(f"{min(1.0, effects[change]):.0%}", []).append(SWAPPED[change].split(" (")[0])
    return join_names([f"{share} of a region (by {', '.join(names)})" for share, names in by_share.items()])


def _describe_composition(dependence: Dependence, class_names: Sequence[str]) -> str:
    names = [*class_names, UNLABELLED]
    shares = dependence.composition
    most = max(range(len(names)), key=lambda k: shares[k])
    return f"{names[most]} ({shares[most]:.0%})"
