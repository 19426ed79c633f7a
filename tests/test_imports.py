"""Imports of commands: `--help` does not import torch, and predicting does not import Lightning or Matplotlib."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = ("train", "evaluate", "explain", "predict", "export", "app", "serve", "report", "validate")


def test_help_does_not_import_torch(tmp_path: Path) -> None:
    for command in COMMANDS:
        code = (
            "import sys, runpy\n"
            f"sys.argv = ['{command}', '--help']\n"
            "try:\n"
            f"    runpy.run_module('satseg.{command}', run_name='__main__')\n"
            "except SystemExit:\n"
            "    pass\n"
            "sys.exit('torch' in sys.modules or 'pytorch_lightning' in sys.modules)"
        )
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert "dataset" in done.stdout


def test_predicting_does_not_import_lightning_torchmetrics_or_matplotlib() -> None:
    """Each would cost memory and about a second at start."""
    code = (
        "import sys, satseg.predict.run, satseg.predict.models\n"
        "sys.exit(' '.join({'pytorch_lightning', 'torchmetrics', 'matplotlib'} & sys.modules.keys()) or 0)"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
