"""Outcomes of predicted scenes, and their output as text."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from satseg.inference.pipeline import Stopwatch
from satseg.mapping.areas import ClassArea


@dataclass(frozen=True)
class Outcome:
    """Outcome of a scene.

    Attributes:
        name: Name of the scene.
        files: Written files, the map first; empty if it failed.
        pixels: Number of pixels of the scene.
        watch: Seconds by stage, and `all`; and the number of computed pixels.
        warnings: Warnings about the scene and its map.
        error: Reason of a failure, on one line.
        areas: Class areas, if requested.
        vectors: File of the polygons, if requested.
    """

    name: str
    files: Sequence[Path]
    pixels: int
    watch: Stopwatch
    warnings: Sequence[str] = ()
    error: str = ""
    areas: Sequence[ClassArea] = ()
    vectors: Path | None = None

    def line(self) -> str:
        """Return the outcome as one line."""
        if self.error:
            return f"failed: {self.error}"
        if not self.watch.pixels:
            return f"{self.files[0]} (already complete)"
        seconds, computed = max(self.watch.seconds["all"], 1e-9), self.watch.pixels / 1e6
        of = "" if self.watch.pixels == self.pixels else f" of {self.pixels / 1e6:.3g}"
        return f"{self.files[0]} ({computed:.3g}{of} Mpx in {seconds:.3g} s, {computed / seconds:.3g} Mpx/s)"

    def print_warnings(self) -> None:
        """Print warnings and error of another process to stderr."""
        print_warnings(self.warnings)
        if self.error:
            print(self.error, file=sys.stderr)


def print_warnings(warnings: Sequence[str]) -> None:
    """Print warnings to stderr."""
    for warning in warnings:
        print(f"Warning: {warning}", file=sys.stderr)


def table(outcomes: Collection[Outcome]) -> str:
    """Return a line per scene, and the number that succeeded."""
    lines = [f"- {outcome.name}: {outcome.line()}" for outcome in outcomes]
    failed = sum(bool(outcome.error) for outcome in outcomes)
    return "\n".join([*lines, f"{len(outcomes) - failed} of {len(outcomes)} scenes segmented"])
