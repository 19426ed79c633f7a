"""Recovery from faults at random moments: a few trials of `scripts/benchmarks/faults.py`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROWS = ("kill_predict", "sigterm_predict", "disk_predict", "readonly_predict")


@pytest.mark.slow
def test_prediction_resumes_after_any_fault(tmp_path: Path, root_dir: Path) -> None:
    options = [f"rows=[{','.join(ROWS)}]", "trials=1", f"work={tmp_path}"]
    script = root_dir / "scripts/benchmarks/faults.py"
    done = subprocess.run([sys.executable, str(script), *options], cwd=tmp_path, capture_output=True, text=True)
    assert (tmp_path / "results.jsonl").exists(), done.stdout + done.stderr
    trials = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert done.returncode == 0 and not any(trial["problems"] for trial in trials), done.stdout + done.stderr
    assert sorted(trial["row"] for trial in trials) == sorted(ROWS)
