"""Plain-language findings of a diagnosis."""

from __future__ import annotations

from collections.abc import Sequence

from satseg.attribution.bands import BandImportance
from satseg.diagnosis.dependence_descriptions import UNLABELLED, describe_coverage, describe_dependence, join_names
from satseg.diagnosis.diagnose import Diagnosis, Pair
from satseg.diagnosis.displacement import MIN_OFFSET, Offset
from satseg.diagnosis.evidence import mean_shares
from satseg.diagnosis.label_issues import LabelIssue
from satseg.diagnosis.mistakes import Mistake
from satseg.diagnosis.suspects import Suspects
from satseg.diagnosis.trust import MIN_CASES, MIN_RANGE, Rival, Trust, Verdict

MIN_LOSS = 0.01  # loss of mIoU below which no band stands out
MIN_COMPONENT = 0.125  # share of an offset below which its component along one axis is not mentioned
LISTED = 3  # findings of a kind in the summary
NO_TRUSTED_MAPS = (
    "No kind of map could be validated here, so rely on the effects of swapping parts of the image (see Shortcuts), "
    "which need no map. Labelled images with more varied positions of the classes make the test more sensitive."
)


def summary(found: Diagnosis, class_names: Sequence[str]) -> list[str]:
    """Return the most important findings, one or two sentences each."""
    lines = [describe_dependence(each, class_names) for each in [*found.shortcuts, *found.surroundings]]
    lines.append(describe_coverage(found, class_names))
    lines += [describe_pair(pair, found, class_names) for pair in _by_gain(found.pairs)[:LISTED]]
    lines += describe_bands(found.bands)
    lines += describe_trust(found.trust)
    lines += describe_usual_offset(found.suspects)
    usual, shown = found.suspects.median_share, found.label_issues[:LISTED]
    lines += [describe_issue(each, usual, class_names) for each in shown if each is shown[0] or each.found.mistake]
    return lines


def _by_gain(pairs: Sequence[Pair]) -> list[Pair]:
    return sorted(pairs, key=lambda pair: -pair.confused.gain)


def describe_pair(pair: Pair, found: Diagnosis, class_names: Sequence[str]) -> str:
    """Return how much is confused, and where the evidence lies if the maps can be trusted."""
    confused = pair.confused
    truth, predicted = class_names[confused.truth], class_names[confused.predicted]
    line = f"{truth} taken for {predicted}: {confused.share:.1%} of {truth} ({confused.pixels:,} pixels)"
    read = [maps.shares for _, maps in pair.errors if maps.shares] if found.maps_are_trusted else []
    if not read:
        return f"{line}."
    shares = mean_shares(read)
    names = [*class_names, UNLABELLED]
    most = max(range(len(names)), key=lambda k: shares.by_truth[k])
    return (
        f"{line}. {shares.by_truth[most]:.0%} of the evidence for {predicted} over {truth} lies on {names[most]} "
        f"({shares.pixels_by_truth[most]:.0%} of the image): {shares.inside:.0%} inside the error, "
        f"{shares.border:.0%} at its border, {shares.outside:.0%} outside."
    )


def describe_bands(bands: Sequence[BandImportance]) -> list[str]:
    """Return which bands matter most, where there is a choice and the images distinguish them."""
    groups = [b for b in bands if len(b.bands) > 1]
    grouped = {name for group in groups for name in group.bands}
    # A model may use any one of several redundant bands; only the group can be compared.
    units = [b for b in bands if len(b.bands) > 1 or b.bands[0] not in grouped]
    if sum(len(b.bands) for b in units) < 2:
        return []
    if units[0].loss < MIN_LOSS:
        return [f"Perturbing any one band, alone or with its redundant bands, costs less than {MIN_LOSS} of mIoU."]
    tied = [unit for unit in units if not units[0].exceeds(unit)]
    lines = [_describe_units(units, tied)]
    lines += [f"{join_names(g.bands)} are nearly redundant here and are not ranked against each other." for g in groups]
    return lines


def _describe_units(units: Sequence[BandImportance], tied: Sequence[BandImportance]) -> str:
    first = units[0]
    low, high = first.interval
    if len(units) == 1:
        return f"Perturbing {_name(first)} together costs {first.loss:.3f} of mIoU."
    if len(tied) > 1 and not len(first.drawn):
        return f"There are too few images to say whether {join_names([_name(b) for b in units])} differ in importance."
    if len(tied) > 1:
        cost = f"{min(b.loss for b in tied):.3f} to {first.loss:.3f}"
        return (
            f"{join_names([_name(b) for b in tied])} matter about equally: perturbing one of them costs {cost} of "
            "mIoU, and similar images could well rank them differently."
        )
    return (
        f"{_name(first)} matters most: perturbing it costs {first.loss:.3f} of mIoU (bootstrap interval {low:.3f} to "
        f"{high:.3f}), {_name(units[1])} {units[1].loss:.3f}."
    )


def _name(band: BandImportance) -> str:
    return " + ".join(band.bands)


def describe_trust(trust: Sequence[Trust]) -> list[str]:
    """Return which maps can be trusted, by tests on how many regions, and what to do where none can."""
    if not trust:
        return [
            "The model gets no region right on which maps could be tested, so they are not used as explanations. "
            f"{NO_TRUSTED_MAPS}"
        ]
    lines = [f"Maps of {map_label(t)} {describe_verdict(t)}." for t in trust]
    return lines if any(t.passes for t in trust) else [*lines, NO_TRUSTED_MAPS]


def map_label(trust: Trust) -> str:
    """Return the name of a kind of map: its method and, where it has one, its layer."""
    short = trust.layer.removeprefix("encoder.model.").removeprefix("encoder.")
    return trust.method if trust.layer == "input" else f"{trust.method} at {short}"


def describe_verdict(trust: Trust) -> str:
    """Return the outcome of the tests of a kind of map, and the reason."""
    if trust.verdict is Verdict.UNTESTED:
        return (
            "could not be tested and are not used as explanations: replacing pixels changes the probability of the "
            f"class by {MIN_RANGE} or more in {trust.cases} of {trust.looked_at} regions (by at most "
            f"{trust.widest:.3f}), and {MIN_CASES} are needed"
        )
    moved, shuffled, region = (f"{trust.wins[rival]} of {trust.cases}" for rival in Rival)
    found = (
        f"the pixels they mark change the prediction more than those of the same map in a wrong place in {moved} "
        f"regions, and more than those of the map of a network with shuffled weights in {shuffled}"
    )
    if not trust.passes:
        return f"are not used as explanations: {found}, which could be chance"
    better = "better" if trust.beats(Rival.REGION) else "not demonstrably better"
    return f"are trustworthy as far as tested: {found}; {better} than marking the region itself ({region})"


def describe_issue(issue: LabelIssue, usual: float, class_names: Sequence[str]) -> str:
    """Return what seems wrong with an image's labels, and how far it exceeds the rest of the split.

    Args:
        issue: The image and its labels.
        usual: Median share over the images of the split that is contradicted.
        class_names: Class names of the model.
    """
    found = issue.found
    lines = [f"Labels to check: {found.image}."]
    if found.mistake:
        lines.append(sentence(describe_mistake(found.mistake, issue.pixel_m, class_names)))
    if found.disagreement:
        other = found.disagreement
        lines.append(
            f"On {other.share:.1%} of its labelled pixels the model confidently predicts another class (median of all "
            f"images {usual:.1%}), mostly {class_names[other.predicted]} where the label is "
            f"{class_names[other.truth]}; the largest such area is {describe_box(other.box)}."
        )
    return " ".join(lines)


def describe_mistake(mistake: Mistake, pixel_m: tuple[float, float] | None, class_names: Sequence[str]) -> str:
    """Return what seems to have happened to a mask, and how much of the contradiction it explains."""
    explained = f"correcting this removes {min(1.0, mistake.explained):.0%} of the contradiction"
    if mistake.offset:
        where = describe_offset(mistake.offset, pixel_m)
        if mistake.partial:
            return f"in {describe_box(mistake.box)} the mask seems to lie {where} the image; {explained} there"
        return f"the mask seems to lie {where} the image; {explained}"
    if mistake.scale:
        size = f"{abs(mistake.scale - 1):.0%} too {'large' if mistake.scale > 1 else 'small'}"
        return f"the mask seems to be drawn {size}; {explained}"
    if mistake.exchanged:
        classes = join_names([class_names[k] for k in mistake.exchanged])
        return f"{classes} seem to be swapped in the mask; {explained}"
    return f"the mask seems to be {mistake.turn}; {explained}"


def describe_offset(offset: Offset, pixel_m: tuple[float, float] | None = None) -> str:
    """Return an offset as text: 12 pixels to the right of and 3 pixels below; in metres, too, where they are known."""
    parts = []
    for count, positive, negative, size in zip(
        offset, ("to the right of", "below"), ("to the left of", "above"), pixel_m or (None, None), strict=True
    ):
        if abs(count) > MIN_COMPONENT * offset.pixels:
            metres = f" ({abs(count) * size:.3g} m)" if size else ""
            unit = "pixel" if abs(count) == 1 else "pixels"
            parts.append(f"{abs(count)} {unit}{metres} {positive if count > 0 else negative}")
    return " and ".join(parts) or "right on"


def describe_usual_offset(suspects: Suspects) -> list[str]:
    """Return the offset of the masks of the whole split as a sentence, if there is one."""
    if suspects.usual_offset.pixels < MIN_OFFSET:
        return []
    return [
        f"Most masks of this split lie about {describe_offset(suspects.usual_offset)} their images. Single images are "
        "judged relative to that."
    ]


def sentence(text: str) -> str:
    """Return text as a sentence."""
    return f"{text[0].upper()}{text[1:]}."


def describe_box(box: Sequence[int]) -> str:
    """Return the position of a box (column, row, width, height) in its image as text."""
    col, row, width, height = box
    return f"columns {col} to {col + width - 1}, rows {row} to {row + height - 1}"
