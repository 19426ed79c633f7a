"""No lost work: what was killed or asked to end goes on to where it would have ended."""

import csv
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from commands import command, refused
from killing import OPTIONS
from safetensors.numpy import load_file

TESTS = Path(__file__).parent
CLOCKS = ("seconds", "train/images_per_second", "train/memory_gb")


def trained(folder: Path, kills: int) -> str:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "SATSEG_CACHE": str(folder.parent / "cache")}
    arguments = [sys.executable, str(TESTS / "killing.py"), str(folder), str(kills), "0"]
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing interrupts."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    trained(folder, 0)
    return folder / "run"


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if k not in CLOCKS} for row in csv.DictReader(file)]


def assert_same(run: Path, whole: Path) -> None:
    """Best weights, last weights, optimiser, scheduler and metrics: to the last bit."""
    mine, theirs = load_file(run / "model.safetensors"), load_file(whole / "model.safetensors")
    assert all((mine[k] == theirs[k]).all() for k in theirs)
    last, other = (torch.load(r / "checkpoints" / "last.ckpt", weights_only=True) for r in (run, whole))
    for key in ("state_dict", "current_model_state"):
        assert all(torch.equal(last[key][k], other[key][k]) for k in other[key])
    moments, others = (c["optimizer_states"][0]["state"] for c in (last, other))
    assert all(torch.equal(moments[i][k], others[i][k]) for i in others for k in ("exp_avg", "exp_avg_sq"))
    assert last["lr_schedulers"] == other["lr_schedulers"] and last["position"] == other["position"]
    assert rows(run) == rows(whole)
    assert [row["epoch"] for row in rows(run)] == ["0", "1", "2", "3"]


@pytest.mark.slow
def test_a_run_killed_twenty_times_ends_as_one_never_killed(whole: Path) -> None:
    said = trained(whole.parents[1] / "killed", 20)
    assert "20 kills" in said and "in the middle of a save" in said and "on_train_batch_start" in said
    assert_same(whole.parents[1] / "killed" / "run", whole)
    assert not list((whole.parents[1] / "killed").rglob("*.tmp*"))


def start(arguments: list[str], folder: Path, **environment: str) -> subprocess.Popen[str]:
    environment |= {"OMP_NUM_THREADS": "1", "SATSEG_CACHE": str(folder / "cache")}
    return subprocess.Popen(arguments, cwd=folder, env=os.environ | environment, stderr=subprocess.PIPE, text=True)


def wait_for_checkpoint(run: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 300
    while not (run / "checkpoints/last.ckpt").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)


@pytest.mark.slow
def test_sigterm_saves_first_and_says_how_to_go_on(whole: Path) -> None:
    folder = whole.parents[1]
    options = [o for o in OPTIONS if not o.startswith(("save_every_min", "trainer.max_epochs"))]
    process = start(
        [sys.executable, "-m", "satseg.train", *options, "trainer.max_epochs=400", "run_dir=termed"], folder
    )
    wait_for_checkpoint(folder / "termed", process)  # of an epoch's end: within epochs none is due for ten minutes
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130 and "Traceback" not in said, said
    (line,) = [line for line in said.splitlines() if "The system asked the run to end." in line]
    assert shlex.split(line)[-1] == "resume_from=termed"
    saved = torch.load(folder / "termed/checkpoints/last.ckpt", weights_only=True)["position"]
    assert (saved["epoch"], saved["batch"]) >= (1, 0)
    done = command("train", "resume_from=termed", "dataset.batch_size=4", cwd=folder)
    if saved["batch"]:
        assert done.returncode == 1 and "dataset.batch_size was 2 and is 4" in done.stderr


def cluster(folder: Path) -> dict[str, str]:
    """Make a folder with what Slurm has on its machines; return the environment of a job of it."""
    tools = folder / "tools"
    tools.mkdir(parents=True)
    for name, text in (("scontrol", f'echo "$@" >> {shlex.quote(str(folder / "asked"))}'), ("srun", 'exec "$@"')):
        (tools / name).write_text(f"#!/bin/sh\n{text}\n")
        (tools / name).chmod(0o755)
    paths = os.pathsep.join([str(tools), str(Path(sys.executable).parent), os.environ["PATH"]])
    return {"SLURM_JOB_ID": "17", "SLURM_NTASKS": "1", "SLURM_JOB_NAME": "satseg", "PATH": paths}


@pytest.mark.slow
def test_a_slurm_job_is_asked_for_again_and_goes_on(whole: Path, root_dir: Path) -> None:
    folder = whole.parents[1] / "cluster"
    job = cluster(folder)
    script = ["bash", str(root_dir / "scripts/train.sbatch")]
    process = start([*script, *OPTIONS], folder, **job)
    wait_for_checkpoint(folder / "runs/slurm_17", process)
    process.send_signal(signal.SIGUSR1)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130 and (folder / "asked").read_text() == "requeue 17\n", said
    assert not (folder / "runs/slurm_17/summary.json").exists()
    again = start([*script, *OPTIONS], folder, **job)
    assert again.wait(300) == 0, again.communicate()[1]
    assert_same(folder / "runs/slurm_17", whole)
    assert start([*script, *OPTIONS], folder, **job).wait(60) == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("moment", "how_to_go_on"),
    [
        ("the data is measured", "There is no checkpoint yet to go on from; start again."),
        ("the network is built", "There is no checkpoint yet to go on from; start again."),
        ("training starts", "There is no checkpoint yet to go on from; start again."),
        ("an epoch is scored", "resume_from=run"),
        ("the last epoch has been scored", "resume_from=run"),
        ("the model is scored", "resume_from=run"),
        ("the report is written", "resume_from=run"),
    ],
)
def test_a_run_ends_wherever_it_is_asked_to(moment: str, how_to_go_on: str, whole: Path) -> None:
    folder = whole.parents[1] / moment.replace(" ", "_")
    job = cluster(folder)
    process = start([sys.executable, str(TESTS / "asking.py"), moment, *OPTIONS, "run_dir=run"], folder, **job)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 130 and "Traceback" not in said, said
    assert "The system asked the run to end. " in said and said.strip().endswith(how_to_go_on)
    assert (folder / "asked").read_text() == "requeue 17\n"
    assert not (folder / "run/summary.json").exists() and not (folder / "run/failure.json").exists()
    if "resume_from" not in how_to_go_on:
        assert not (folder / "run/checkpoints/last.ckpt").exists()
        return
    done = command("train", "resume_from=run", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert_same(folder / "run", whole)


@pytest.mark.slow
def test_a_complete_run_is_not_asked_for_again(whole: Path) -> None:
    folder = whole.parents[1] / "complete"
    job = cluster(folder)
    options = [*OPTIONS, "run_dir=runs/slurm_17"]
    process = start([sys.executable, str(TESTS / "asking.py"), "the run is complete", *options], folder, **job)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0 and not (folder / "asked").exists(), said
    assert_same(folder / "runs/slurm_17", whole)


@pytest.mark.slow
def test_one_cycle_is_not_stretched(whole: Path) -> None:
    folder = whole.parents[1]
    process = start([sys.executable, str(TESTS / "asking.py"), "an epoch is scored", *OPTIONS, "run_dir=cycle"], folder)
    assert process.wait(300) == 130
    line = refused("train", "resume_from=cycle", "trainer.max_epochs=5", cwd=folder)
    assert "scheduler=onecycle is one cycle over all steps of the training" in line
