"""What was found, in plain words."""

from __future__ import annotations

from collections.abc import Sequence

from satseg.attribution.bands import BandImportance
from satseg.diagnosis.diagnose import Diagnosis, Pair
from satseg.diagnosis.displacement import SAID, Offset
from satseg.diagnosis.doubts import Doubt
from satseg.diagnosis.evidence import mean_shares
from satseg.diagnosis.leaning_words import UNLABELLED, lean_words, listed, tested_words
from satseg.diagnosis.mistakes import Mistake
from satseg.diagnosis.suspects import Suspects
from satseg.diagnosis.trust import NEEDED, RANGE, Rival, Trust, Verdict

SLIGHT = 0.01  # loss of mIoU below which no band stands out
SLIGHTLY = 0.125  # share of an offset below which its part to one side is not worth a word
LISTED = 3  # findings of a kind in the summary
INSTEAD = (
    "No kind of maps could be shown to be right here, so go by what replacing parts of the picture does (see "
    "Shortcuts), which needs no map; labelled images in which the classes lie in more places make the test sharper."
)


def summary(found: Diagnosis, class_names: Sequence[str]) -> list[str]:
    """Return the findings that matter most, one sentence or two each."""
    lines = [lean_words(leaning, class_names) for leaning in [*found.shortcuts, *found.surroundings]]
    lines.append(tested_words(found, class_names))
    lines += [pair_words(pair, found, class_names) for pair in _by_gain(found.pairs)[:LISTED]]
    lines += band_words(found.bands)
    lines += trust_words(found.trust)
    lines += usual_offset_words(found.suspects)
    usual, shown = found.suspects.usual_share, found.doubts[:LISTED]
    lines += [doubt_words(doubt, usual, class_names) for doubt in shown if doubt is shown[0] or doubt.found.mistake]
    return lines


def _by_gain(pairs: Sequence[Pair]) -> list[Pair]:
    return sorted(pairs, key=lambda pair: -pair.confused.gain)


def pair_words(pair: Pair, found: Diagnosis, class_names: Sequence[str]) -> str:
    """Say how much is confused, and where the evidence lies if the maps can be trusted."""
    confused = pair.confused
    truth, predicted = class_names[confused.truth], class_names[confused.predicted]
    line = f"{truth} taken for {predicted}: {confused.share:.1%} of {truth} ({confused.pixels:,} pixels)"
    read = [maps.shares for _, maps in pair.errors if maps.shares] if found.maps_are_read else []
    if not read:
        return f"{line}."
    shares = mean_shares(read)
    names = [*class_names, UNLABELLED]
    most = max(range(len(names)), key=lambda k: shares.by_truth[k])
    return (
        f"{line}. {shares.by_truth[most]:.0%} of the evidence for {predicted} against {truth} lies on {names[most]} "
        f"({shares.pixels_by_truth[most]:.0%} of the picture): {shares.inside:.0%} inside the error, "
        f"{shares.border:.0%} at its border, {shares.outside:.0%} outside."
    )


def band_words(bands: Sequence[BandImportance]) -> list[str]:
    """Say which bands matter most, where there is a choice and the images tell them apart."""
    groups = [b for b in bands if len(b.bands) > 1]
    grouped = {name for group in groups for name in group.bands}
    # Of bands that say nearly the same, a model may use any one; the group is what can be compared.
    units = [b for b in bands if len(b.bands) > 1 or b.bands[0] not in grouped]
    if sum(len(b.bands) for b in units) < 2:
        return []
    if units[0].loss < SLIGHT:
        return [f"No band costs {SLIGHT} of mIoU when it is spoilt, alone or with those that say the same."]
    alike = [unit for unit in units if not units[0].exceeds(unit)]
    lines = [_unit_words(units, alike)]
    lines += [f"{listed(g.bands)} say nearly the same here, and are not ranked among each other." for g in groups]
    return lines


def _unit_words(units: Sequence[BandImportance], alike: Sequence[BandImportance]) -> str:
    first = units[0]
    low, high = first.interval
    if len(units) == 1:
        return f"Spoiling {_name(first)} together costs {first.loss:.3f} of mIoU."
    if len(alike) > 1 and not len(first.drawn):
        return f"Too few images to tell whether {listed([_name(b) for b in units])} matter differently."
    if len(alike) > 1:
        worth = f"{min(b.loss for b in alike):.3f} to {first.loss:.3f}"
        return (
            f"{listed([_name(b) for b in alike])} matter alike: spoiling one of them costs {worth} of mIoU, and other "
            "images of the kind could well put them in another order."
        )
    return (
        f"{_name(first)} matters most: spoiling it costs {first.loss:.3f} of mIoU ({low:.3f} to {high:.3f} on images "
        f"drawn anew), {_name(units[1])} {units[1].loss:.3f}."
    )


def _name(band: BandImportance) -> str:
    return " + ".join(band.bands)


def trust_words(trust: Sequence[Trust]) -> list[str]:
    """Say which maps can be believed, by what tests on how many regions, and what to do where none can."""
    if not trust:
        return [
            f"The model has no region right on which maps could be tested: they are pictures, not reasons. {INSTEAD}"
        ]
    lines = [f"Maps of {maps_words(t)} {verdict_words(t)}." for t in trust]
    return lines if any(t.passes for t in trust) else [*lines, INSTEAD]


def maps_words(trust: Trust) -> str:
    """Return what maps are called: their method, and where they are made at a layer, that."""
    short = trust.layer.removeprefix("encoder.model.").removeprefix("encoder.")
    return trust.method if trust.layer == "input" else f"{trust.method} at {short}"


def verdict_words(trust: Trust) -> str:
    """Say what came of the tests of a kind of maps, and why."""
    if trust.verdict is Verdict.UNTESTED:
        return (
            f"could not be tested, and are not read as reasons: with pixels replaced, the class's probability moves by "
            f"{RANGE} or more in {trust.cases} of {trust.looked_at} regions (at most by {trust.widest:.3f}); "
            f"{NEEDED} are needed"
        )
    moved, shuffled, region = (f"{trust.wins[rival]} of {trust.cases}" for rival in Rival)
    found = (
        f"what they mark moves the prediction more than the same map in a wrong place in {moved} regions, and more "
        f"than the map of a network with shuffled weights in {shuffled}"
    )
    if not trust.passes:
        return f"are not read as reasons: {found}, which chance could do"
    more = "more" if trust.beats(Rival.REGION) else "no more for certain"
    return f"can be believed as far as this was tested: {found}; {more} than marking the region itself ({region})"


def doubt_words(doubt: Doubt, usual: float, class_names: Sequence[str]) -> str:
    """Say what is wrong with an image's labels, as far as that shows, and how far beyond the rest of the split.

    Args:
        doubt: The image.
        usual: Median share over the images of the split that is contradicted.
        class_names: Of the model.
    """
    found = doubt.found
    lines = [f"Labels to check: {found.image}."]
    if found.mistake:
        lines.append(sentence(mistake_words(found.mistake, doubt.pixel_m, class_names)))
    if found.disagreement:
        other = found.disagreement
        lines.append(
            f"On {other.share:.1%} of its labelled pixels the model is sure of another class (median of all images "
            f"{usual:.1%}), mostly of {class_names[other.predicted]} where the label says {class_names[other.truth]}, "
            f"the largest part in {box_words(other.box)}."
        )
    return " ".join(lines)


def mistake_words(mistake: Mistake, pixel_m: tuple[float, float] | None, class_names: Sequence[str]) -> str:
    """Say what seems to have happened to a mask, and how much of what contradicts it that explains."""
    explained = f"undone, {min(1.0, mistake.explained):.0%} of what speaks against the labels goes away"
    if mistake.offset:
        where = offset_words(mistake.offset, pixel_m)
        if mistake.partial:
            return f"in {box_words(mistake.box)} the mask seems to lie {where} the image: {explained} there"
        return f"the mask seems to lie {where} the image: {explained}"
    if mistake.scale:
        size = f"{abs(mistake.scale - 1):.0%} too {'large' if mistake.scale > 1 else 'small'}"
        return f"the mask seems to be drawn {size}: {explained}"
    if mistake.exchanged:
        return f"{listed([class_names[k] for k in mistake.exchanged])} seem to be exchanged in the mask: {explained}"
    return f"the mask seems to be {mistake.turn}: {explained}"


def offset_words(offset: Offset, pixel_m: tuple[float, float] | None = None) -> str:
    """Say where something lies: 12 pixels to the right of and 3 pixels below; in metres, too, where they are known."""
    ways = []
    for count, ahead, behind, size in zip(
        offset, ("to the right of", "below"), ("to the left of", "above"), pixel_m or (None, None), strict=True
    ):
        if abs(count) > SLIGHTLY * offset.pixels:
            metres = f" ({abs(count) * size:.3g} m)" if size else ""
            unit = "pixel" if abs(count) == 1 else "pixels"
            ways.append(f"{abs(count)} {unit}{metres} {ahead if count > 0 else behind}")
    return " and ".join(ways) or "right on"


def usual_offset_words(suspects: Suspects) -> list[str]:
    """Say by how much the masks of the whole split lie off, where they do."""
    if suspects.usual_offset.pixels < SAID:
        return []
    return [
        f"Most masks of this split lie about {offset_words(suspects.usual_offset)} their images. Single images are "
        "judged beside that."
    ]


def sentence(words: str) -> str:
    """Return words as a sentence."""
    return f"{words[0].upper()}{words[1:]}."


def box_words(box: Sequence[int]) -> str:
    """Say where a box (column, row, width, height) lies in its image."""
    col, row, width, height = box
    return f"columns {col} to {col + width - 1}, rows {row} to {row + height - 1}"
