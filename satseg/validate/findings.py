"""What is wrong with a dataset, in words that name files and the remedy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

SHOWN = 3  # examples in a line of text; report.json has them all


class Severity(IntEnum):
    """How bad a finding is; all but a note make a dataset unsound."""

    NOTE = 0
    WARNING = 1
    ERROR = 2


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Attributes:
        check: Short name of what was looked at.
        severity: An error stops or spoils a training, a warning spoils its scores, a note is good to know.
        message: What was found, with numbers.
        expected: What a sound dataset has instead.
        repair: What to do.
        files: The files or samples that it is about.
    """

    check: str
    severity: Severity
    message: str
    expected: str = ""
    repair: str = ""
    files: tuple[str, ...] = ()

    def line(self) -> str:
        """Return the finding as one line of text."""
        named = f" ({some(self.files)})" if self.files else ""
        remedy = f" {self.repair}" if self.repair else ""
        return f"{self.severity.name.lower()}: {self.message}{named}.{remedy}"

    def below(self, root: str) -> Finding:
        """Return the finding with files named as they lie below a folder, each once."""
        start = root.rstrip("/") + "/"
        files = tuple(dict.fromkeys(file.removeprefix(start) for file in self.files))
        return replace(self, message=self.message.replace(start, ""), files=files)


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """Return findings by severity, and among equals those about more files first."""
    return sorted(findings, key=lambda f: (-f.severity, -len(f.files)))


def some(names: Sequence[str]) -> str:
    """Return the first names, and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def count(number: int, one: str, several: str = "") -> str:
    """Return a number with its noun: 1 image, 1,024 images."""
    return f"{number:,} {one if number == 1 else several or one + 's'}"


def percent(share: float) -> str:
    """Return a share with as many digits as it needs: 12 %, 0.6 %, 0.0002 %."""
    return f"{100 * share:.2g} %" if share < 0.1 else f"{100 * share:.0f} %"
