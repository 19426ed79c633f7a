"""Sweeps with every launcher, and searches with Optuna, on tiny data."""

import json
from pathlib import Path

import optuna
import pytest
import torch
from commands import TINY, command
from optuna.storages.journal import JournalFileBackend

from satseg import load_model
from satseg.models.checkpoint import save_model

SHORT = [*TINY, "trainer.max_epochs=1", "dataset.patches_per_epoch=4", "runs_dir=runs (1)"]
LAUNCHERS = {
    "basic": ["hydra/launcher=basic"],
    "joblib": ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"],
    "submitit": ["hydra/launcher=submitit_local", "hydra.launcher.timeout_min=10"],
    "ray": ["hydra/launcher=ray"],
}


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a model to start from, and one with weights so large that its loss is NaN."""
    folder = tmp_path_factory.mktemp("start")
    done = command("train", *SHORT, f"run_dir={folder / 'run'}", cwd=folder)
    assert done.returncode == 0, done.stderr
    network = load_model(folder / "run")
    save_model(folder / "good.safetensors", network, training={}, protocol={})
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(1e30)
    save_model(folder / "huge.safetensors", network, training={}, protocol={})
    return folder


def outcomes(stdout: str) -> dict[str, str]:
    """Return the outcome of each run by its number."""
    rows = [line.strip("| ").split(" | ") for line in stdout.splitlines() if line.startswith("| 0")]
    return {row[0][:3]: row[1] for row in rows}


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_failed_runs_do_not_stop_a_sweep_and_resuming_it_runs_only_the_missing_ones(
    launcher: str, start: Path, tmp_path: Path
) -> None:
    later = tmp_path / "later.safetensors"
    options = [*LAUNCHERS[launcher], f"init_from={later},{start / 'good.safetensors'},{start / 'huge.safetensors'}"]
    first = command("train", "-m", *SHORT, *options, cwd=tmp_path)
    assert first.returncode == 1 and "Traceback" not in first.stderr, first.stderr
    assert outcomes(first.stdout) == {"000": "failed", "001": "complete", "002": "diverged"}, first.stdout
    assert f"init_from={later} does not exist" in first.stdout or f"{later} does not exist" in first.stdout
    assert first.stderr.splitlines()[-1].startswith("SweepError: 2 of 3 runs have no score. Fix the cause")

    (sweep,) = (tmp_path / "runs (1)" / "sweeps").iterdir()
    runs = {path.name[:3]: path for path in sweep.iterdir() if path.name[:3].isdigit()}
    model = (runs["001"] / "model.safetensors").stat()
    later.write_bytes((start / "good.safetensors").read_bytes())
    second = command("train", "-m", *SHORT, *options, f"resume_sweep={sweep}", cwd=tmp_path)
    assert outcomes(second.stdout) == {"000": "complete", "001": "complete", "002": "diverged"}, second.stderr
    assert second.returncode == 1 and "2 of 3 runs are done" in second.stderr
    assert (runs["001"] / "model.safetensors").stat() == model
    scores = [json.loads((runs[n] / "summary.json").read_text())["score"] for n in ("000", "001")]
    assert scores[0] == scores[1]  # the same start and seed give the same run

    other = command("train", "-m", *SHORT, "seed=1,2", f"resume_sweep={sweep}", cwd=tmp_path)
    assert other.returncode == 1 and "was started by another command" in other.stderr.splitlines()[-1]


@pytest.mark.slow
def test_an_optuna_search_can_be_resumed(start: Path, tmp_path: Path) -> None:
    later = tmp_path / "later.safetensors"
    space = [
        "sweep=search",
        "optimizer.lr=tag(log, interval(1e-4, 1e-2))",
        "dataset.patches_per_epoch=range(2,6,2)",
        f"init_from={start / 'good.safetensors'},{start / 'huge.safetensors'},{later}",
        "hydra.sweeper.seed=4",
    ]
    first = command("train", "-m", *SHORT, *space, "hydra.sweeper.num_trials=4", cwd=tmp_path)
    (sweep,) = (tmp_path / "runs (1)" / "sweeps").iterdir()
    first_outcomes = outcomes(first.stdout)
    assert (
        first.returncode == 1
        and len(first_outcomes) == 4
        and set(first_outcomes.values()) == {"complete", "diverged", "failed"}
    )

    settled = sum(outcome != "failed" for outcome in first_outcomes.values())
    later.write_bytes((start / "good.safetensors").read_bytes())
    options = ["hydra.sweeper.num_trials=6", f"resume_sweep={sweep}"]
    second = command("train", "-m", *SHORT, *space, *options, cwd=tmp_path)
    assert f"{settled} of 6 trials are done" in second.stderr, second.stderr
    assert len(outcomes(second.stdout)) == 6 and set(outcomes(second.stdout).values()) == {"complete", "diverged"}
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(sweep / "search.log")))
    trials = optuna.load_study(study_name="search", storage=storage).trials
    assert len({str(trial.params) for trial in trials}) == 6
    for trial in trials:
        assert 1e-4 <= trial.params["optimizer.lr"] <= 1e-2 and trial.params["dataset.patches_per_epoch"] in (2, 4)
        (run,) = sweep.glob(f"{trial.number:03d}_*")
        if trial.state == optuna.trial.TrialState.COMPLETE:
            assert json.loads((run / "summary.json").read_text())["score"] == trial.value
        else:
            assert trial.state == optuna.trial.TrialState.FAIL and "huge.safetensors" in trial.params["init_from"]


def test_invalid_sweep_options_give_an_error_of_one_line(tmp_path: Path) -> None:
    for options, expected in [
        (["-m", "seed=1,2", f"resume_sweep={tmp_path}"], "there is no sweep.json"),
        (["seed=1", f"resume_sweep={tmp_path}"], "add -m and the options"),
        (["-m", "optimizer.lr=interval(1,2)"], "for an interval use sweep=search"),
        (["-m", "hydra/launcher=slurm"], "satseg[submitit]"),
    ]:
        done = command("train", *options, cwd=tmp_path)
        assert done.returncode == 1 and expected in done.stderr.splitlines()[-1], done.stderr
    assert not (tmp_path / "runs").exists()
