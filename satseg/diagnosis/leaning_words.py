"""What was found about the surroundings of classes, in plain words."""

from __future__ import annotations

from collections.abc import Sequence

from satseg.attribution.composites import MARGIN
from satseg.diagnosis.diagnose import CLASSES, DONORS, FEWEST, Diagnosis
from satseg.diagnosis.leaning import WEAK, Leaning
from satseg.diagnosis.swaps import Change

UNLABELLED = "unlabelled ground"
TAKEN = {
    Change.SURROUNDINGS: "surroundings",
    Change.TONE: "tone (brightness, colour and contrast)",
    Change.SPECTRUM: "texture (sharpness, grain and pattern)",
    Change.POSITION: "place in the picture",
}


def listed(names: Sequence[str]) -> str:
    """Return names as an enumeration: a, b and c."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def tested_words(found: Diagnosis, class_names: Sequence[str]) -> str:
    """Say which classes were tested and how, and what could not have been found."""
    if not found.classes:
        return "Shortcuts: no class could be tested, for want of a region that is right or of images without the class."
    classes = sorted(found.classes, key=lambda v: v.predicted)
    told = [v for v in classes if not v.unclear]
    unclear = [v for v in classes if v.unclear]
    quiet = [v for v in told if not v.clear and v.mirror is None]
    line = "Shortcuts:"
    if quiet:
        images = [v.recipients for v in quiet]
        count = f"{min(images)} to {max(images)}" if min(images) < max(images) else f"{images[0]}"
        line += (
            f" objects of {listed([class_names[v.predicted] for v in quiet])} from {count} images a class were given "
            f"the {listed([TAKEN[c] for c in quiet[0].least])} of others, and other classes' cost them no more than "
            f"their own class's. A loss of {_least_words(quiet)} would have been found."
        )
    elif told:
        line += f" what was found of {listed([class_names[v.predicted] for v in told])} stands above."
    if unclear:
        line += f" Could not be told for {listed([class_names[v.predicted] for v in unclear])}."
    untested = [name for k, name in enumerate(class_names) if all(v.predicted != k for v in found.classes)]
    line += (
        f" Not tested, for want of regions that are right or of images without the class, or as {CLASSES} others are "
        f"more frequent: {listed(untested)}."
        if untested
        else ""
    )
    return (
        f"{line} A cue on the object itself or within {MARGIN} pixels of it, one that the images of all classes carry, "
        "one in few images of a class, or a smaller effect would not be seen by this test."
    )


def lean_words(leaning: Leaning, class_names: Sequence[str]) -> str:
    """Say what other images' surroundings, tone, spectrum or places do."""
    name = class_names[leaning.predicted]
    what = name if leaning.truth == leaning.predicted else f"{class_names[leaning.truth]} taken for {name}"
    if leaning.mirror is not None:
        return f"{what}: changes only by what {class_names[leaning.mirror]} leans on (see there)."
    if not leaning.clear:
        return f"{what}: {_unclear_words(leaning, name) if leaning.unclear else _quiet_words(leaning, name)}"
    part = leaning.part.words if leaning.part else "the surroundings as a whole"
    numbers = _effect_words(leaning, class_names)
    if leaning.told_from:
        sides = listed([class_names[k] for k in leaning.told_from])
        what += f" (told from {sides})"
        numbers += f" Whether images of {name} or of {sides} carry it could not be told." if leaning.unsure else ""
    if leaning.nearby:
        return (
            f"{what} leans on {part}. {numbers} By its labels that is ground of another kind, too, mostly "
            f"{_lies_on(leaning, class_names)}: it may belong there, or be a shortcut. Look at the pictures."
        )
    return (
        f"Shortcut: {what} hangs on something beside it: {part}. {numbers} "
        f"It lies mostly on {_lies_on(leaning, class_names)}."
    )


def _effect_words(leaning: Leaning, class_names: Sequence[str]) -> str:
    """Say how much is lost, in how many images."""
    name, (change, gained, partner) = class_names[leaning.predicted], leaning.question
    other = class_names[partner] if partner is not None else "other classes"
    taken, lost = TAKEN[change], leaning.lost
    low, high = lost.interval
    of = f"{lost.images} of {lost.of} images ({low:.0%} to {high:.0%} of such images)"
    chance = "under 0.001" if leaning.probability < 0.001 else f"{leaning.probability:.3f}"
    if gained:
        return (
            f"With the {taken} of images of {name}, {leaning.effect:.0%} more of a region of {other} becomes {name} "
            f"than with the same from others (median {leaning.median:.0%}); {of} become {name} (probability by chance "
            f"{chance})."
        )
    return (
        f"With the {taken} of images of {other}, {leaning.effect:.0%} more of a region is lost than with the same from "
        f"other images of {name} (median {leaning.median:.0%}); {of} lose it (probability by chance {chance})."
    )


def _unclear_words(leaning: Leaning, name: str) -> str:
    if leaning.broken:
        return (
            f"could not be told: in the surroundings of other images of {name}, {leaning.control:.0%} of a region is "
            "lost, so that any change breaks the prediction."
        )
    if leaning.cramped:
        return (
            f"could not be told: with {MARGIN} pixels around them, objects leave {leaning.room:.0%} of their pictures "
            "to replace. Larger pictures would do."
        )
    own, other = leaning.donors
    if leaning.needed > DONORS and min(own, other) >= FEWEST:  # more would not be looked at
        return (
            f"could not be told: predictions change so much with any other image that an effect of {WEAK:.0%} of a "
            f"region could be missed from the {own} images of {name} that are looked at."
        )
    return (
        f"could not be told from {own} images of {name} and {other} of others: an effect of {WEAK:.0%} of a region "
        f"could be missed. About {min(leaning.needed, DONORS)} images of each would do."
    )


def _quiet_words(leaning: Leaning, name: str) -> str:
    return (
        f"the {listed([TAKEN[c] for c in leaning.least])} of other classes' images ({leaning.donors[1]}) cost "
        f"{leaning.recipients} images no more than those of images of {name} ({leaning.donors[0]}). A loss of "
        f"{_least_words([leaning])} would have been found."
    )


def _least_words(leanings: Sequence[Leaning]) -> str:
    """Say which effects would have been found in all of some classes, the smallest first."""
    least = {c: max(v.least.get(c, 0.0) for v in leanings) for c in leanings[0].least}
    ways: dict[str, list[str]] = {}
    for change in sorted(least, key=lambda c: least[c]):
        ways.setdefault(f"{min(1.0, least[change]):.0%}", []).append(TAKEN[change].split(" (")[0])
    return listed([f"{share} of a region (by {', '.join(names)})" for share, names in ways.items()])


def _lies_on(leaning: Leaning, class_names: Sequence[str]) -> str:
    names = [*class_names, UNLABELLED]
    shares = leaning.lies_on
    most = max(range(len(names)), key=lambda k: shares[k])
    return f"{names[most]} ({shares[most]:.0%})"
