"""What was found, in plain words."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean, median

from satseg.attribution.context import SHARE
from satseg.diagnosis.diagnose import Diagnosis, Pair
from satseg.diagnosis.evidence import mean_shares
from satseg.diagnosis.leaning import Leaning

UNLABELLED = "unlabelled ground"
SUSPICIOUS = 0.01  # share of an image's pixels from which its labels are worth a look
SLIGHT = 0.01  # loss of mIoU below which no band stands out
LISTED = 3  # findings of a kind in the summary


def summary(found: Diagnosis, class_names: Sequence[str]) -> list[str]:
    """Return the findings that matter most, one sentence or two each."""
    lines = [lean_words(leaning, class_names) for leaning in found.shortcuts] or [_no_shortcut(found, class_names)]
    lines += [pair_words(pair, found, class_names) for pair in found.pairs[:LISTED]]
    lines += band_words(found)
    lines += trust_words(found)
    doubtful = [d for d in found.survey.disagreements if d.share >= SUSPICIOUS]
    if doubtful:
        first = doubtful[0]
        lines.append(
            f"Labels to check first: {first.image}. On {first.share:.1%} of its pixels the model is sure of another "
            f"class, mostly of {class_names[first.predicted]} where the label says {class_names[first.truth]}."
        )
    return lines


def _no_shortcut(found: Diagnosis, class_names: Sequence[str]) -> str:
    if not found.classes:
        return "Shortcuts: no class has a region that could be tested."
    unclear = [class_names[leaning.predicted] for leaning in found.classes if leaning.unclear]
    line = f"No shortcut was found in the {len(found.classes)} of {len(class_names)} classes that could be tested"
    return f"{line}; too few regions to tell for {', '.join(unclear)}." if unclear else f"{line}."


def lean_words(leaning: Leaning, class_names: Sequence[str]) -> str:
    """Say what replacing the loudest context does."""
    what = class_names[leaning.predicted]
    if leaning.truth != leaning.predicted:
        what = f"{class_names[leaning.truth]} taken for {what}"
    harms = [check.harm for _, check in leaning.checks]
    chances = [c for _, check in leaning.checks for c in check.chance]
    names = [*class_names, UNLABELLED]
    most = max(range(len(names)), key=lambda k: leaning.lies_on[k])
    if leaning.unclear:
        return f"{what}: {leaning.excess:.0%} of a region is lost beyond chance, in too few ({len(harms)}) to tell."
    if leaning.clear and leaning.nearby:
        return f"{what}: no shortcut; it hangs on other {class_names[leaning.predicted]} nearby."
    if not leaning.shortcut:
        lost = f"{median(harms):.0%} of a region (median of {len(harms)})"
        return f"{what}: no shortcut; replacing the loudest context costs {lost}."
    return (
        f"Shortcut: {what} hangs on something beside it. Replacing the {SHARE:.0%} of the picture that speak loudest, "
        f"outside a region, costs {mean(harms):.0%} of its pixels, as much elsewhere {mean(chances):.0%} "
        f"(mean of {len(harms)} regions). They lie mostly on {names[most]} ({leaning.lies_on[most]:.0%})."
    )


def pair_words(pair: Pair, found: Diagnosis, class_names: Sequence[str]) -> str:
    """Say how much is confused, and where the evidence lies if the maps can be trusted."""
    truth, predicted = class_names[pair.truth], class_names[pair.predicted]
    share = pair.pixels / max(int(found.survey.matrix[pair.truth].sum()), 1)
    line = f"{truth} taken for {predicted}: {share:.1%} of {truth} ({pair.pixels} pixels)"
    passing = {t.layer for t in found.trust if t.passes}
    read = [m for _, maps in pair.errors for m in maps if m.layer in passing and m.shares]
    if not read:
        return f"{line}."
    # one layer, so that its cases are comparable
    shares = mean_shares([m.shares for m in read if m.layer == read[0].layer and m.shares])
    names = [*class_names, UNLABELLED]
    most = max(range(len(names)), key=lambda k: shares.by_truth[k])
    return (
        f"{line}. {shares.by_truth[most]:.0%} of the evidence for {predicted} against {truth} lies on {names[most]} "
        f"({shares.pixels_by_truth[most]:.0%} of the picture): {shares.inside:.0%} inside the error, "
        f"{shares.border:.0%} at its border, {shares.outside:.0%} outside."
    )


def band_words(found: Diagnosis) -> list[str]:
    """Say which band matters most, where there is a choice."""
    alone = [b for b in found.bands if len(b.bands) == 1]
    if len(alone) < 2:
        return []
    first, last = alone[0], alone[-1]
    if max(first.permuted, first.filled) < SLIGHT:
        return [f"No band alone costs {SLIGHT} of mIoU when it is spoilt."]
    return [
        f"The band {first.bands[0]} matters most: mIoU falls by {first.permuted:.3f} with another image's, by "
        f"{first.filled:.3f} with its mean. {last.bands[0]} matters least ({last.permuted:.3f} and {last.filled:.3f})."
    ]


def trust_words(found: Diagnosis) -> list[str]:
    """Say which layers' maps cannot be trusted."""
    if not found.trust:
        return ["The model has no region right to test its maps on: they are pictures, not reasons."]
    failing = [t.layer for t in found.trust if not t.passes]
    if not failing:
        return []
    if len(failing) == len(found.trust):
        return ["No layer's maps pass the tests of trust: read the maps below as pictures, not as reasons."]
    return [f"Maps at {', '.join(failing)} fail the tests of trust, and are not read as reasons."]
