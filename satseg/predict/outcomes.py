"""What came of scenes, and how it is said."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from satseg.inference.pipeline import Stopwatch
from satseg.mapping.areas import ClassArea


@dataclass(frozen=True)
class Outcome:
    """What came of a scene.

    Attributes:
        name: The scene's.
        files: What was written, the map first; none where it failed.
        pixels: Of the scene.
        watch: Seconds by part of the work, and `all`; and how many pixels were computed.
        warnings: What was found before it began, and in its map.
        error: Why it failed, on one line.
        areas: Of the classes in the map, where they were asked for.
        vectors: The file of its polygons, where they were asked for.
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
        """Return what to say of it."""
        if self.error:
            return f"failed: {self.error}"
        if not self.watch.pixels:
            return f"{self.files[0]} (was there already)"
        seconds, computed = max(self.watch.seconds["all"], 1e-9), self.watch.pixels / 1e6
        of = "" if self.watch.pixels == self.pixels else f" of {self.pixels / 1e6:.3g}"
        return f"{self.files[0]} ({computed:.3g}{of} Mpx in {seconds:.3g} s, {computed / seconds:.3g} Mpx/s)"

    def tell(self) -> None:
        """Say on stderr what another process found."""
        tell(self.warnings)
        if self.error:
            print(self.error, file=sys.stderr)


def tell(warnings: Sequence[str]) -> None:
    """Print warnings of a scene."""
    for warning in warnings:
        print(f"Warning: {warning}", file=sys.stderr)


def table(outcomes: Collection[Outcome]) -> str:
    """Return a line a scene, and how many failed."""
    lines = [f"- {outcome.name}: {outcome.line()}" for outcome in outcomes]
    failed = sum(bool(outcome.error) for outcome in outcomes)
    return "\n".join([*lines, f"{len(outcomes) - failed} of {len(outcomes)} scenes segmented"])
