"""Progress of long operations as lines of text, where no progress bar is shown."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable

INTERVAL_S = 60.0  # between progress lines


def log_line(line: str) -> None:
    """Write a line to the training log, or to stderr outside a training."""
    logger = logging.getLogger("satseg")
    if logger.handlers:
        logger.info("%s", line)
    else:
        print(line, file=sys.stderr, flush=True)


class Progress:
    """Reports progress and the estimated time left once a minute.

    Args:
        what: The operation, such as `Scoring val`.
        total: Total amount of work; None if unknown.
        unit: Unit of the work.
        write: Called with each line.
    """

    def __init__(self, what: str, total: float | None, unit: str, write: Callable[[str], object] = log_line) -> None:
        self.what, self.total, self.unit, self.write = what, total, unit, write
        self.done = 0.0
        self.started = self.last_line_s = time.monotonic()

    def add(self, done: float = 1) -> None:
        """Add completed work."""
        self.done += done
        now = time.monotonic()
        if now - self.last_line_s >= INTERVAL_S:
            self.last_line_s = now
            self.write(f"{self.what}: {_number(self.done)}{self._rest(now)}")

    def _rest(self, now: float) -> str:
        """Return the total and the estimated time left, as text."""
        if self.total is None:
            return f" {self.unit}"
        seconds = (now - self.started) / max(self.done, 1e-9) * max(self.total - self.done, 0)
        return f" of {_number(self.total)} {self.unit}, about {duration(seconds)} left"


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 1000 or value == int(value) else f"{value:.3g}"


def duration(seconds: float) -> str:
    """Return a duration as text, such as `45 s`, `12 min` or `3 h 20 min`."""
    if seconds < 90:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
