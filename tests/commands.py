"""Running the commands as people do, in processes of their own, on tiny data."""

import os
import subprocess
import sys
from pathlib import Path

TINY = [
    "experiment=demo",
    "backbone=mobilenetv4_conv_small",
    "dataset.size=128",
    "dataset.scenes={train: 2, val: 1, test: 2}",
    "dataset.patch_size=64",
    "dataset.batch_size=2",
    "dataset.patches_per_epoch=8",
    "trainer.max_epochs=2",
    "trainer.enable_progress_bar=false",
]


def command(name: str, *options: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "SATSEG_CACHE": str(cwd / "cache")}
    environment.pop("WANDB_API_KEY", None)
    return subprocess.run(
        [sys.executable, "-m", f"satseg.{name}", *options], cwd=cwd, env=environment, capture_output=True, text=True
    )


def refused(name: str, *options: str, cwd: Path) -> str:
    """Run a command that must fail with one line; return that line."""
    done = command(name, *options, cwd=cwd)
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert done.returncode in (1, 2), done.stderr
    errors = [line for line in lines if "Error" in line]
    assert "Traceback" not in done.stderr and len(errors) == 1 and lines[-1] == errors[0], done.stderr
    return errors[0]
