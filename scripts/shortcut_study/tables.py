"""Tables of the results: recall over models that depend on their cue, false alarms over their twins."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from statistics import median
from typing import Any

from cues import Twin
from scipy.stats import binomtest

DEPENDS = 0.3  # loss of the IoU of a without the cue from which a model counts as dependent on it

VERDICTS = ("named", "another class", "surroundings", "unclear", "silent")

Row = dict[str, Any]


def verdict(row: Row) -> str:
    """Return the verdict of a diagnosis, one of VERDICTS; `named` if a cued model's shortcut involves class a."""
    if row["shortcut"]:
        is_cue = row["twin"] != Twin.CUED or any("a" in found["classes"] for found in row["shortcut"])
        return "named" if is_cue else "another class"
    return next((outcome for outcome in ("surroundings", "unclear") if row[outcome]), "silent")


def depends(row: Row) -> bool:
    """Return whether removing the cue costs so much that it must be named."""
    return bool(row["removal_cost"] >= DEPENDS)


def tables(rows: list[Row]) -> str:
    """Return the tables of a study in Markdown."""
    cued = [row for row in rows if row["twin"] == Twin.CUED and depends(row)]
    groups: dict[str, Callable[[Row], str]] = {
        "cue": lambda row: row["reported"] or row["cue"]["kind"],
        "share of the picture": lambda row: size(row["cue"]["share"]),
        "strength": lambda row: row["cue"]["strength"],
        "background": lambda row: row["background"],
        "all": lambda row: "all",
    }
    parts = [_recall(name, key, cued) for name, key in groups.items()]
    times = [row["cpu_s"] for row in rows]
    return "\n\n".join([*parts, _alarms(rows), f"A diagnosis takes {median(times):.0f} s of one core (median)."])


def size(share: float) -> str:
    """Return the group of sizes that a share of the picture belongs to."""
    return next((name for most, name in ((0.01, "to 1 %"), (0.04, "2 to 4 %"), (0.1, "8 %")) if share <= most), "more")


def _recall(name: str, key: Callable[[Row], str], rows: list[Row]) -> str:
    lines = [f"| {name} | depend on it | {' | '.join(VERDICTS)} | recall (95 %) |"]
    lines.append("| --- |" + " --: |" * (len(VERDICTS) + 2))
    for value in sorted({key(row) for row in rows}):
        found = [verdict(row) for row in rows if key(row) == value]
        counts = " | ".join(str(found.count(each)) for each in VERDICTS)
        lines.append(f"| {value} | {len(found)} | {counts} | {_share(found.count('named'), len(found))} |")
    return "\n".join(lines)


def _alarms(rows: list[Row]) -> str:
    lines = [
        "| twin | models | false alarms | surroundings | unclear | silent | share (95 %) |",
        "| --- | --: | --: | --: | --: | --: | --: |",
    ]
    for twin in (Twin.CLEAN, Twin.RANDOM):
        found = [verdict(row) for row in rows if row["twin"] == twin and not depends(row)]
        if found:
            counts = " | ".join(str(found.count(each)) for each in ("named", "surroundings", "unclear", "silent"))
            lines.append(f"| {twin} | {len(found)} | {counts} | {_share(found.count('named'), len(found))} |")
    return "\n".join(lines)


def _share(count: int, total: int) -> str:
    interval = binomtest(count, total).proportion_ci(method="wilson")
    return f"{count / total:.2f} ({interval.low:.2f} to {interval.high:.2f})"


def missed(rows: Iterable[Row]) -> str:
    """Return a line for each model that depends on its cue which is not named, and for each false alarm."""
    lines = []
    for row in rows:
        outcome = verdict(row)
        if row["twin"] == Twin.CUED and depends(row) and outcome != "named":
            lines.append(f"- {row['name']}: {outcome}; without the cue it loses {row['removal_cost']:.2f}")
        elif row["twin"] != Twin.CUED and outcome == "named" and not depends(row):
            what = ", ".join(f"{found['truth']} as {found['predicted']}" for found in row["shortcut"])
            lines.append(f"- {row['name']}: false alarm ({what})")
    return "\n".join(lines)
