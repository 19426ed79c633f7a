"""The wheel contains the configuration and works from any folder."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest


def run(*command: str, cwd: Path, **environment: str) -> str:
    done = subprocess.run(command, cwd=cwd, env=os.environ | environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_an_installed_wheel_trains_from_any_folder(root_dir: Path, tmp_path: Path) -> None:
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), cwd=root_dir)
    (wheel,) = tmp_path.glob("*.whl")
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    python = (sys.executable, "-P")
    path = {"PYTHONPATH": str(site)}
    where = run(*python, "-c", "import satseg; print(satseg.__file__)", cwd=elsewhere, **path)
    assert where.strip().startswith(str(site))
    run(*python, "-m", "satseg.train", "--cfg", "job", cwd=elsewhere, **path)
    tiny = ["experiment=demo", "trainer=debug", "dataset.size=128", "dataset.cache_dir=cache", "dataset.patch_size=64"]
    run(*python, "-m", "satseg.train", *tiny, "run_dir=run", cwd=elsewhere, **path)
    assert (elsewhere / "run" / "summary.json").is_file()
