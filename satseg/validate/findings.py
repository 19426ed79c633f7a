"""Findings about a dataset, with the files concerned and a remedy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

MAX_EXAMPLES = 3  # in a line of text; report.json has all


class Severity(IntEnum):
    """Severity of a finding; all but notes make a dataset unsound."""

    NOTE = 0
    WARNING = 1
    ERROR = 2


@dataclass(frozen=True)
class Finding:
    """One finding.

    Attributes:
        check: Short name of the check.
        severity: An error prevents or invalidates training, a warning invalidates scores, a note is good to know.
        message: Description with numbers.
        expected: Expectation of a sound dataset.
        repair: The remedy.
        files: The files or samples concerned.
    """

    check: str
    severity: Severity
    message: str
    expected: str = ""
    repair: str = ""
    files: tuple[str, ...] = ()

    def line(self) -> str:
        """Return the finding as one line of text."""
        named = f" ({abbreviate(self.files)})" if self.files else ""
        remedy = f" {self.repair}" if self.repair else ""
        return f"{self.severity.name.lower()}: {self.message}{named}.{remedy}"

    def relative_to(self, root: str) -> Finding:
        """Return the finding with file names relative to a folder, each once."""
        start = root.rstrip("/") + "/"
        files = tuple(dict.fromkeys(file.removeprefix(start) for file in self.files))
        return replace(self, message=self.message.replace(start, ""), files=files)


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """Return findings by decreasing severity, then by decreasing number of files."""
    return sorted(findings, key=lambda f: (-f.severity, -len(f.files)))


def abbreviate(names: Sequence[str]) -> str:
    """Return the first names, and the number of the others."""
    more = f" and {len(names) - MAX_EXAMPLES} more" if len(names) > MAX_EXAMPLES else ""
    return ", ".join(names[:MAX_EXAMPLES]) + more


def count(number: int, one: str, several: str = "") -> str:
    """Return a number with its noun: 1 image, 1,024 images."""
    return f"{number:,} {one if number == 1 else several or one + 's'}"


def percent(share: float) -> str:
    """Return a share with as many digits as it needs: 12 %, 0.6 %, 0.0002 %."""
    return f"{100 * share:.2g} %" if share < 0.1 else f"{100 * share:.0f} %"
