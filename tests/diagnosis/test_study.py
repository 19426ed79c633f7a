"""The study of planted shortcuts, once: real training, the real command."""

import json
import os
import sys
from pathlib import Path

import pytest
from commands import run_program

SCRIPT = Path(__file__).parents[2] / "scripts" / "study_shortcut.py"


@pytest.mark.slow
def test_what_is_planted_is_named(tmp_path: Path) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    arguments = [sys.executable, str(SCRIPT), "--seeds", "1", "--kinds", "marked", "--output", str(tmp_path)]
    done = run_program(arguments, ranks=2, env=environment)  # it starts two commands
    assert done.returncode == 0, done.stderr
    (marked,) = json.loads((tmp_path / "study.json").read_text())
    assert {name.rpartition(" as ")[2] for name in marked["flagged"]} == {"first"} and marked["on_the_mark"] > 0.5
