"""How far something long is, said now and then, where no bar shows it."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable

INTERVAL_S = 60.0  # between two lines


def log_line(line: str) -> None:
    """Write a line to the log of a training, or else to stderr."""
    logger = logging.getLogger("satseg")
    if logger.handlers:
        logger.info("%s", line)
    else:
        print(line, file=sys.stderr, flush=True)


class Progress:
    """Says once a minute how far something is, and how long the rest will take.

    Args:
        what: What is done, such as `Scoring val`.
        total: How much there is to do; None where that is not known.
        unit: What is counted.
        write: Is told each line.
    """

    def __init__(self, what: str, total: float | None, unit: str, write: Callable[[str], object] = log_line) -> None:
        self.what, self.total, self.unit, self.write = what, total, unit, write
        self.done = 0.0
        self.started = self.last_line_s = time.monotonic()

    def add(self, done: float = 1) -> None:
        """Count what has been done."""
        self.done += done
        now = time.monotonic()
        if now - self.last_line_s >= INTERVAL_S:
            self.last_line_s = now
            self.write(f"{self.what}: {_number(self.done)}{self._rest(now)}")

    def _rest(self, now: float) -> str:
        """Return how much there is, and how long the rest will take if it goes on as it did."""
        if self.total is None:
            return f" {self.unit}"
        seconds = (now - self.started) / max(self.done, 1e-9) * max(self.total - self.done, 0)
        return f" of {_number(self.total)} {self.unit}, about {duration(seconds)} left"


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 1000 or value == int(value) else f"{value:.3g}"


def duration(seconds: float) -> str:
    """Return a time as people write it, such as `45 s`, `12 min` or `3 h 20 min`."""
    if seconds < 90:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
