"""Lines that say how far something is."""

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
def test_times_are_said_as_people_say_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_line_is_said_only_when_its_time_has_come(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    said: list[str] = []
    scoring, open_end = (Progress("Scoring", total, "images", said.append) for total in (20_000, None))
    for _ in range(5):
        now += progress.INTERVAL_S / 4
        scoring.add(1000)
        open_end.add(0.25)
    assert said == ["Scoring: 4000 of 20000 images, about 4 min left", "Scoring: 1 images"]


def test_without_a_training_it_is_said_on_stderr(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("satseg"), "handlers", [])
    progress.log_line("Checking: 1 of 2 images")
    said = capsys.readouterr()
    assert re.fullmatch(r"Checking: 1 of 2 images\n", said.err) and not said.out
