"""Writing a comparison as Markdown, CSV and HTML."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from satseg.files import write_text
from satseg.report.boards import Board, Entry
from satseg.report.choices import Effect
from satseg.visualization.figures import Ranked, plot_effects, plot_leaderboard
from satseg.visualization.page import read_picture, render_page

FEW_GROUPS = 10
MISSING = "–"


def write_comparison(boards: Sequence[Board], left_out: Mapping[str, str], folder: Path) -> str:
    """Write leaderboard.md, leaderboard.csv and report.html; return the Markdown.

    Args:
        boards: Largest first; one per scoring protocol.
        left_out: Runs that could not be compared, with the reasons.
        folder: Output folder.
    """
    sections = [_markdown(board, boards[0], number) for number, board in enumerate(boards, 1)]
    if left_out:
        sections.append("\n".join(["Left out:", "", *(f"- {path}: {why}" for path, why in left_out.items())]))
    text = "\n\n".join(sections)
    write_text(folder / "leaderboard.md", text + "\n")
    write_text(folder / "leaderboard.csv", _csv(boards))
    write_text(folder / "report.html", _page(boards, left_out, folder))
    return text


def protocol_differences(board: Board, first: Board) -> list[str]:
    """Return the differences in protocol between a board and the first one."""
    return [
        f"{key}: {value}, not {first.protocol[key]}"
        for key, value in board.protocol.items()
        if value != first.protocol[key]
    ]


def verdict(board: Board) -> str:
    """Return a summary: which configuration leads, and whether the lead is significant."""
    best, rest = board.entries[0], board.entries[1:]
    if not rest:
        return "There is one configuration only, and nothing to compare it with."
    noise = board.within_noise
    text = f"{best.name} leads with a mean mIoU of {best.mean:.4f}. "
    if noise == len(rest):
        text += "No other configuration is significantly worse: every difference is within noise."
    elif noise:
        text += f"{noise} of the {len(rest)} others are not significantly worse (the difference is within noise)."
    else:
        text += "All others are significantly worse (at 95 %, for all comparisons together)."
    if board.num_groups < FEW_GROUPS:
        text += f" The test images form only {board.num_groups} independent groups: the intervals are approximate."
    if max(len(entry.runs) for entry in board.entries) == 1:
        text += " There is one seed each: the intervals do not include the variation between seeds."
    return text


def lead_text(entry: Entry) -> str:
    """Return the difference of an entry to the best, with its interval, as text."""
    if entry.lead is None:
        return "leads"
    lead, low, high = entry.lead
    return _difference(-lead, -high, -low) + (", noise" if entry.is_noise else "")


def effect_text(effect: Effect) -> str:
    """Return the effect of a value of a choice on the score, as text."""
    if effect.difference is None:
        return "best" if effect.pairs == effect.runs and effect.pairs else "no run differs in this choice only"
    mean, low, high = effect.difference
    return _difference(mean, low, high) + (", noise" if low <= 0 <= high else "")


def _difference(mean: float, low: float, high: float) -> str:
    return f"{mean:+.4f} ({low:+.4f} to {high:+.4f})".replace("-", "−")


def _markdown(board: Board, first: Board, number: int) -> str:
    lines = [f"## Leaderboard{f' {number}' if board is not first else ''}", ""]
    if board is not first:
        lines += [
            f"Ranked separately, as they were scored differently ({'; '.join(protocol_differences(board, first))}).",
            "",
        ]
    lines += [verdict(board), ""]
    header = ["", "configuration", "seeds", "mIoU", "95 % interval", "behind the best", *board.class_names]
    header += ["M parameters", "minutes", "Mpx/s"]
    lines += ["| " + " | ".join(header) + " |", "| --: | --- |" + " --: |" * (len(header) - 2)]
    for rank, entry in enumerate(board.entries, 1):
        lines.append("| " + " | ".join([str(rank), *_cells(entry, board.class_names)]) + " |")
    if board.effects:
        lines += ["", "Effect of each choice, all else being equal:", ""]
        lines += ["| choice | value | runs | mean mIoU | against the best value |", "| --- | --- | --: | --: | --- |"]
        lines += [f"| {e.key} | {e.value} | {e.runs} | {e.mean:.4f} | {effect_text(e)} |" for e in board.effects]
    return "\n".join(lines)


def _cells(entry: Entry, class_names: Sequence[str]) -> list[str]:
    spread = "" if entry.deviation is None else f" ± {entry.deviation:.4f}"
    low, high = entry.interval
    ious = [_mean(entry.values(f"iou/{name}")) for name in class_names]
    run = entry.runs[0]
    return [
        entry.name.replace("|", "/"),
        str(len(entry.runs)),
        f"{entry.mean:.4f}{spread}",
        f"{low:.4f} to {high:.4f}",
        lead_text(entry),
        *(f"{iou:.3f}" if np.isfinite(iou) else MISSING for iou in ious),
        f"{run.parameters / 1e6:.1f}" if run.parameters else MISSING,
        _shown(_mean([r.minutes for r in entry.runs]), 1),
        _shown(_mean([r.speed for r in entry.runs]), 2),
    ]


def _mean(values: Any) -> float:
    known = [float(v) for v in values if v is not None and np.isfinite(v)]
    return float(np.mean(known)) if known else float("nan")


def _shown(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if np.isfinite(value) else MISSING


def _csv(boards: Sequence[Board]) -> str:
    """Return CSV with a row for each run, ranked by its configuration within its board."""
    text = io.StringIO(newline="")
    keys = list(dict.fromkeys(key for board in boards for entry in board.entries for key in entry.chosen))
    scores = list(dict.fromkeys(key for b in boards for e in b.entries for run in e.runs for key in run.scores))
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["board", "rank", "run", *keys, "seed", *scores, "parameters", "minutes", "megapixels_per_second"])
    for number, board in enumerate(boards, 1):
        for rank, entry in enumerate(board.entries, 1):
            for run in entry.runs:
                chosen = [entry.chosen.get(key, "") for key in keys]
                values = [run.scores.get(key, "") for key in scores]
                row = [number, rank, run.path, *chosen, run.seed, *values, run.parameters, run.minutes, run.speed]
                table.writerow(["" if v is None or v != v else v for v in row])
    return text.getvalue()


def _page(boards: Sequence[Board], left_out: Mapping[str, str], folder: Path) -> str:
    parts = []
    for number, board in enumerate(boards, 1):
        ranked = [Ranked(e.name, e.values("miou").tolist(), e.mean, *e.interval, e.is_noise) for e in board.entries]
        pictures = [folder / "figures" / f"leaderboard_{number}.png"]
        plot_leaderboard(ranked, pictures[0])
        if board.effects:
            pictures.append(folder / "figures" / f"effects_{number}.png")
            plot_effects([(e.key, str(e.value), e.mean, e.difference) for e in board.effects], pictures[1])
        parts.append(
            {
                "verdict": verdict(board),
                "apart": protocol_differences(board, boards[0]),
                "protocol": board.protocol,
                "class_names": board.class_names,
                "rows": [_cells(entry, board.class_names) for entry in board.entries],
                "paths": [[str(run.path) for run in entry.runs] for entry in board.entries],
                "effects": [(e.key, e.value, e.runs, f"{e.mean:.4f}", effect_text(e)) for e in board.effects],
                "pictures": [read_picture(path.stem, "", path) for path in pictures],
            }
        )
    return render_page("comparison.html", {}, boards=parts, left_out=left_out)
