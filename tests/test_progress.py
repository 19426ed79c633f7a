"""Progress lines."""

import logging
import re
import time

import pytest

from satseg import progress
from satseg.progress import Progress, duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0 s"), (4.25, "4.2 s"), (45.4, "45 s"), (91, "2 min"), (3599, "60 min"), (12_000, "3 h 20 min")],
)
def test_durations_are_formatted_in_suitable_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_progress_is_printed_at_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    printed: list[str] = []
    scoring, open_end = (Progress("Scoring", total, "images", printed.append) for total in (20_000, None))
    for _ in range(5):
        now += progress.INTERVAL_S / 4
        scoring.add(1000)
        open_end.add(0.25)
    assert printed == ["Scoring: 4000 of 20000 images, about 4 min left", "Scoring: 1 images"]


def test_progress_outside_training_is_printed_to_stderr(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("satseg"), "handlers", [])
    progress.log_line("Checking: 1 of 2 images")
    printed = capsys.readouterr()
    assert re.fullmatch(r"Checking: 1 of 2 images\n", printed.err) and not printed.out
