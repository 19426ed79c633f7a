"""Resuming: runs that were killed or asked to stop end like uninterrupted ones."""

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
from commands import Forked, command, error_line, fake_slurm, run_program
from kill_and_resume import OPTIONS
from safetensors.numpy import load_file

from satseg.records.resuming import how_to_resume, modules_to_trust

HELPERS = Path(__file__).parents[1] / "helpers"
CLOCKS = ("seconds", "train/images_per_second", "train/memory_gb")


def train_with_kills(folder: Path, kills: int) -> str:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "SATSEG_CACHE": str(folder.parent / "cache")}
    arguments = [sys.executable, str(HELPERS / "kill_and_resume.py"), str(folder), str(kills), "0"]
    done = run_program(arguments, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train a run without interruption."""
    folder = tmp_path_factory.mktemp("runs") / "uninterrupted"
    train_with_kills(folder, 0)
    return folder / "run"


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if k not in CLOCKS} for row in csv.DictReader(file)]


def assert_same(run: Path, uninterrupted: Path) -> None:
    """Compare best and last weights, optimiser, scheduler and metrics exactly."""
    mine, theirs = load_file(run / "model.safetensors"), load_file(uninterrupted / "model.safetensors")
    assert all((mine[k] == theirs[k]).all() for k in theirs)
    last, other = (torch.load(r / "checkpoints" / "last.ckpt", weights_only=True) for r in (run, uninterrupted))
    for key in ("state_dict", "current_model_state"):
        assert all(torch.equal(last[key][k], other[key][k]) for k in other[key])
    moments, others = (c["optimizer_states"][0]["state"] for c in (last, other))
    assert all(torch.equal(moments[i][k], others[i][k]) for i in others for k in ("exp_avg", "exp_avg_sq"))
    assert last["lr_schedulers"] == other["lr_schedulers"] and last["position"] == other["position"]
    assert rows(run) == rows(uninterrupted)
    assert [row["epoch"] for row in rows(run)] == ["0", "1", "2", "3"]


@pytest.mark.slow
def test_resuming_after_twenty_kills_gives_the_same_weights(uninterrupted: Path) -> None:
    printed = train_with_kills(uninterrupted.parents[1] / "killed", 20)
    assert "20 kills" in printed and "in the middle of a save" in printed and "on_train_batch_start" in printed
    assert_same(uninterrupted.parents[1] / "killed" / "run", uninterrupted)
    assert not list((uninterrupted.parents[1] / "killed").rglob("*.tmp*"))


def start(arguments: list[str], folder: Path, **environment: str) -> subprocess.Popen[str]:
    environment |= {"OMP_NUM_THREADS": "1", "SATSEG_CACHE": str(folder / "cache")}
    start_process = Forked if arguments[0] == sys.executable else subprocess.Popen
    return start_process(arguments, cwd=folder, env=os.environ | environment, stderr=subprocess.PIPE, text=True)


def wait_for_checkpoint(run: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 300
    while not (run / "checkpoints/last.ckpt").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)


@pytest.mark.slow
def test_a_stopped_slurm_job_is_requeued_and_resumes(uninterrupted: Path, root_dir: Path) -> None:
    folder = uninterrupted.parents[1] / "fake_slurm"
    job = fake_slurm(folder)
    script = ["bash", str(root_dir / "scripts/train.sbatch")]
    process = start([*script, *OPTIONS], folder, **job)
    wait_for_checkpoint(folder / "runs/slurm_17", process)
    process.send_signal(signal.SIGUSR1)
    _, printed = process.communicate(timeout=120)
    assert process.returncode == 130 and (folder / "scontrol_calls").read_text() == "requeue 17\n", printed
    assert not (folder / "runs/slurm_17/summary.json").exists()
    again = start([*script, *OPTIONS], folder, **job)
    assert again.wait(300) == 0, again.communicate()[1]
    assert_same(folder / "runs/slurm_17", uninterrupted)
    assert start([*script, *OPTIONS], folder, **job).wait(60) == 0


def stop_at(folder: Path, signal_name: str, moment: str, *options: str) -> str:
    """Train as a Slurm job, signal all its processes at a moment, and return exit code and standard error."""
    command = [
        sys.executable,
        str(HELPERS / "stop_requests.py"),
        signal_name,
        moment,
        *sorted((*OPTIONS, *options), key=lambda option: option != "-m"),
    ]
    process = start(command, folder, **fake_slurm(folder))
    _, printed = process.communicate(timeout=300)
    return f"{process.returncode}\n{printed}"


@pytest.mark.slow
def test_sigterm_saves_a_checkpoint_and_prints_how_to_resume(uninterrupted: Path) -> None:
    folder = uninterrupted.parents[1] / "termed"
    printed = stop_at(
        folder, "SIGTERM", "a batch is computed", "dataset.num_workers=2", "save_every_min=10", "run_dir=run"
    )
    assert printed.startswith("130\n") and "Traceback" not in printed, printed
    (line,) = [line for line in printed.splitlines() if "The system asked the run to stop." in line]
    assert shlex.split(line)[-1] == "resume_from=run" and not (folder / "scontrol_calls").exists()
    saved = torch.load(folder / "run/checkpoints/last.ckpt", weights_only=True)["position"]
    assert (saved["epoch"], saved["batch"]) == (2, 6)  # the 25th batch, with ten per epoch and two per step
    line = error_line("train", "resume_from=run", "dataset.batch_size=4", cwd=folder)
    assert "dataset.batch_size was 2 and is 4" in line
    assert command("train", "resume_from=run", cwd=folder).returncode == 0
    assert_same(folder / "run", uninterrupted)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("moment", "has_checkpoint"),
    [
        ("the data is measured", False),
        ("training starts", False),
        ("an epoch is scored", True),
        ("the last epoch has been scored", True),
        ("the model is scored", True),
        ("a loader is made", False),
        ("a loader's processes end", True),
    ],
)
def test_a_run_can_be_stopped_at_any_moment_and_resumed(moment: str, has_checkpoint: bool, uninterrupted: Path) -> None:
    folder = uninterrupted.parents[1] / moment.replace(" ", "_")
    printed = stop_at(folder, "SIGUSR1", moment, "run_dir=run", "dataset.num_workers=2")
    assert printed.startswith("130\n") and "Traceback" not in printed, printed
    advice = "resume_from=run" if has_checkpoint else "There is no checkpoint yet to resume from; start again."
    assert "The system asked the run to stop. " in printed and printed.strip().endswith(advice)
    assert (folder / "scontrol_calls").read_text() == "requeue 17\n"
    assert not (folder / "run/summary.json").exists() and not (folder / "run/failure.json").exists()
    assert (folder / "run/checkpoints/last.ckpt").exists() == has_checkpoint
    if moment == "an epoch is scored":
        line = error_line("train", "resume_from=run", "trainer.max_epochs=5", cwd=folder)
        assert "scheduler=onecycle is one cycle over all training steps" in line
    if has_checkpoint:
        done = command("train", "resume_from=run", cwd=folder)
        assert done.returncode == 0, done.stderr
        assert_same(folder / "run", uninterrupted)


def test_a_command_can_be_stopped_before_the_run_begins(tmp_path: Path) -> None:
    printed = stop_at(tmp_path / "job", "SIGUSR1", "the options are checked", "run_dir=run")
    line = "InterruptedRunError: The system asked the run to stop. To continue, repeat the command."
    assert printed.splitlines() == ["130", line]
    assert (tmp_path / "job/scontrol_calls").read_text() == "requeue 17\n" and not (tmp_path / "job/run").exists()


@pytest.mark.slow
def test_a_complete_run_is_not_requeued(uninterrupted: Path) -> None:
    folder = uninterrupted.parents[1] / "complete"
    printed = stop_at(folder, "SIGUSR1", "the run is complete", "run_dir=run")
    assert printed.startswith("0\n") and not (folder / "scontrol_calls").exists(), printed
    assert_same(folder / "run", uninterrupted)


@pytest.mark.slow
@pytest.mark.parametrize(("moment", "complete"), [("the trainer is built", 0), ("the run is complete", 1)])
def test_a_stop_request_to_a_run_ends_the_whole_sweep(moment: str, complete: int, tmp_path: Path) -> None:
    printed = stop_at(tmp_path / "sweep", "SIGUSR1", moment, "-m", "seed=1,2", "trainer.max_epochs=1")
    assert printed.startswith("130\n") and "Traceback" not in printed, printed
    assert len(list(tmp_path.rglob("summary.json"))) == complete
    assert (tmp_path / "sweep/scontrol_calls").read_text() == "requeue 17\n"
    assert not list(tmp_path.rglob("failure.json"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("moment", "has_checkpoint"),
    [
        ("a loader is made", False),
        ("the first batch is computed", False),
        ("a batch is computed", True),
        ("an epoch is scored", True),
        ("an image of a split is scored", True),
    ],
)
def test_a_killed_data_loader_ends_the_run_with_one_line_and_it_can_be_resumed(
    moment: str, has_checkpoint: bool, uninterrupted: Path
) -> None:
    folder = uninterrupted.parents[1] / f"lost_while_{moment.replace(' ', '_')}"
    printed = stop_at(folder, "LOSE", moment, "run_dir=run", "dataset.num_workers=2")
    assert printed.startswith("1\n") and "Traceback" not in printed, printed
    (line,) = [line for line in printed.splitlines() if "Error" in line]
    assert line.startswith("WorkerLostError: A data loading process was killed, most likely because memory ran out")
    advice = "resume_from=run" if has_checkpoint else "There is no checkpoint yet to resume from; start again."
    assert line.endswith(advice) and "set dataset.num_workers or dataset.cache_gb lower" in line
    assert (folder / "run/checkpoints/last.ckpt").exists() == has_checkpoint
    if has_checkpoint:
        done = command("train", "resume_from=run", "dataset.num_workers=1", cwd=folder)
        assert done.returncode == 0, done.stderr
        assert_same(folder / "run", uninterrupted)


def test_how_to_resume_lists_the_custom_packages_of_a_run_as_trusted(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints/last.ckpt").touch()
    record = tmp_path / "config.yaml"
    record.write_text(
        "loss:\n  _target_: satseg.losses.WeightedSum\n  terms: {ce: {_target_: torch.nn.CrossEntropyLoss}}\n"
    )
    plain = how_to_resume(tmp_path)
    assert plain.endswith(f"resume_from={tmp_path}")
    record.write_text(
        "loss: {terms: [{_target_: mine.losses.Border}]}\nmodel: {_target_: theirs.Model, x: {_target_: mine.X}}"
    )
    assert how_to_resume(tmp_path) == f"{plain} trusted_modules='[mine,theirs]'"
    record.write_text("[broken")
    assert how_to_resume(tmp_path) == plain


def test_modules_to_trust_include_dataset_classes_and_library_classes_outside_the_configuration() -> None:
    sampler = {"_target_": "mine.samplers.Hard", "_partial_": True}
    dataset = {"_target_": "satseg.data.folder.FolderDataModule", "sampler": sampler}
    model = {"_target_": "segmentation_models_pytorch.decoders.linknet.model.Linknet"}
    library = "segmentation_models_pytorch.decoders.linknet.model"
    logger = {"board": {"_target_": "mine.Board"}}  # loggers are not read from records
    assert modules_to_trust({"model": model, "dataset": dataset, "logger": logger}) == [library, "mine"]
