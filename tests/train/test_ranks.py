"""Training with two processes: scores, run folders, stop requests, and killed processes."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import TINY, Forked, command, error_line, fake_slurm, run_program
from safetensors.numpy import load_file

from satseg.models import build_model
from satseg.spec import DatasetSpec, InputSpec
from satseg.train.sharding import SyncNorms

TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "satseg.train"]
TWO = [
    "trainer=ddp",
    "trainer.accelerator=cpu",
    "trainer.precision=32-true",
    "trainer.sync_batchnorm=false",
    "trainer.devices=2",
    "channels_last=false",
    "dataset.scenes={train: 2, val: 3, test: 2}",
]


def assert_scores_equal_those_of_one_process(run: Path, cwd: Path) -> None:
    """Compare scores of three images by two processes in training with those by one process afterwards."""
    with (run / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == [str(i) for i in range(len(rows))]
    best = max(rows, key=lambda row: float(row["val/miou"]))
    in_one_process = json.loads((run / "evaluation/val/scores.json").read_text())["scores"]
    for name in ("miou", "micro_iou", "accuracy", "iou/water", "recall/road"):
        trained, again = float(best[f"val/{name}"]), in_one_process[name]
        assert np.float32(again if again is not None else "nan") == np.float32(trained) or np.isnan(trained)
    done = command("evaluate", f"checkpoint={run}", "split=val", "output=again", cwd=cwd)
    assert done.returncode == 0, done.stderr
    assert json.loads((cwd / "again/scores.json").read_text())["scores"] == in_one_process


def start(options: list[str], run: Path, **popen_options: Any) -> subprocess.Popen[str]:
    """Start a training."""
    return Forked(
        [sys.executable, "-m", "satseg.train", *options, f"run_dir={run.name}"],
        cwd=run.parent,
        env=os.environ | {"OMP_NUM_THREADS": "1", "SATSEG_CACHE": str(run.parent / "cache")},
        stderr=subprocess.PIPE,
        text=True,
        **{"ranks": 2} | popen_options,
    )


def start_until_checkpoint(options: list[str], run: Path) -> subprocess.Popen[str]:
    """Start a training, and wait for its first checkpoint."""
    process = start(options, run)
    wait_for((run / "checkpoints/last.ckpt").exists)
    return process


def wait_for(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 300
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def children(process: subprocess.Popen[str]) -> list[str]:
    return Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()


@pytest.mark.slow
def test_training_on_two_devices_gives_one_run_with_the_same_scores_as_evaluation_on_one(tmp_path: Path) -> None:
    options = [*TINY, *TWO, "scale_lr=linear", "scheduler=none", "seed=1,2", "runs_dir=runs"]
    done = command("train", "-m", *options, cwd=tmp_path, ranks=4)
    assert done.returncode == 0, done.stderr
    runs = sorted(path.parent for path in tmp_path.rglob("summary.json"))
    assert [run.name for run in runs] == ["000_seed-1", "001_seed-2"]
    assert {p.name for p in tmp_path.iterdir()} == {"runs", "cache"}
    with (runs[0] / "metrics.csv").open(newline="") as file:
        assert float(next(csv.DictReader(file))["lr"]) == pytest.approx(2 * 2e-3)
    recorded = json.loads((runs[0] / "environment.json").read_text())["command"]
    assert "trainer=ddp" in recorded
    assert_scores_equal_those_of_one_process(runs[0], tmp_path)


@pytest.mark.parametrize("backbone", ["resnet18", "tu-mobilenetv4_conv_small", "tu-tf_efficientnet_lite0"])
def test_converting_to_synchronised_batch_norm_does_not_change_the_output(backbone: str) -> None:
    torch.manual_seed(0)
    config = {"_target_": "segmentation_models_pytorch.decoders.fpn.model.FPN", "encoder_name": backbone}
    spec = InputSpec(("r", "g", "b"), "uint8", 255.0, mean=(0.5,) * 3, std=(0.2,) * 3)
    network = build_model(
        config | {"encoder_weights": "none"}, DatasetSpec((spec,), ("a", "b"), ((0, 0, 0),) * 2)
    ).eval()
    image = torch.randint(0, 256, (1, 3, 64, 64)).float()
    with torch.no_grad():
        before = network(image)
        converted = SyncNorms().apply(network)
        torch.testing.assert_close(converted(image), before, rtol=0, atol=0)
    norms = [m for m in converted.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
    assert norms and all(isinstance(m, torch.nn.SyncBatchNorm) for m in norms)


@pytest.mark.slow
def test_fsdp_trains_like_ddp_and_can_be_resumed(tmp_path: Path) -> None:
    options = [*TINY, *TWO, "backbone=resnet18", "ema=false", "dataset.patches_per_epoch=48"]
    for trainer in ("ddp", "fsdp"):
        done = command("train", *options, f"trainer={trainer}", f"run_dir={trainer}", cwd=tmp_path, ranks=2)
        assert done.returncode == 0, done.stderr
    assert_scores_equal_those_of_one_process(tmp_path / "fsdp", tmp_path)
    process = start_until_checkpoint([*options, "trainer=fsdp"], tmp_path / "stopped")
    process.send_signal(signal.SIGTERM)
    assert "resume_from=stopped" in process.communicate(timeout=60)[1]
    assert len((tmp_path / "stopped/metrics.csv").read_text().splitlines()) == 2  # stopped during the second epoch
    last = tmp_path / "stopped/checkpoints/last.ckpt"
    whole = last.read_bytes()
    last.write_bytes(whole[: len(whole) // 2])
    assert "last.ckpt is corrupt" in error_line("train", "resume_from=stopped", cwd=tmp_path, ranks=2)
    last.write_bytes(whole)
    done = command("train", "resume_from=stopped", cwd=tmp_path, ranks=2)
    assert done.returncode == 0, done.stderr
    assert_same_training(tmp_path / "fsdp", tmp_path / "ddp")
    assert_same_training(tmp_path / "stopped", tmp_path / "fsdp")


def assert_same_training(run: Path, other: Path) -> None:
    """Compare losses and scores of each epoch, and the weights."""
    mine, theirs = (list(csv.DictReader((r / "metrics.csv").read_text().splitlines())) for r in (run, other))
    for one, two in zip(mine, theirs, strict=True):
        assert float(one["train/loss"]) == pytest.approx(float(two["train/loss"]), rel=1e-4)
        assert float(one["val/miou"]) == pytest.approx(float(two["val/miou"]), rel=1e-3)
    weights, expected = (load_file(r / "model.safetensors") for r in (run, other))
    assert all(np.allclose(weights[name], expected[name], atol=1e-4) for name in expected)


@pytest.mark.slow
def test_a_decoder_with_unused_stages_trains_and_resumes_only_with_the_same_batch_size(tmp_path: Path) -> None:
    options = [*TINY, *TWO, "model=pspnet", "~model.decoder_channels", "trainer.max_epochs=300"]
    process = start_until_checkpoint(
        [*options, "dataset.patches_per_epoch=4"], tmp_path / "run"
    )  # one step per epoch, so it stops between two
    process.send_signal(signal.SIGTERM)
    assert "resume_from=run" in process.communicate(timeout=60)[1]
    line = error_line("train", "resume_from=run", "dataset.batch_size=1", cwd=tmp_path, ranks=2)
    assert "The learning rate is scheduled by step, and the steps per epoch would change" in line
    assert "dataset.batch_size was 2 and is 1" in line


@pytest.mark.slow
def test_a_sweep_under_torchrun_has_one_folder_per_run(tmp_path: Path) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "SATSEG_CACHE": str(tmp_path / "cache")}
    arguments = [sys.executable, *TORCHRUN, "-m", *TINY, *TWO, "seed=1,2", "runs_dir=runs"]
    done = run_program(arguments, ranks=2, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    runs = sorted(path.parent for path in tmp_path.rglob("config.yaml"))
    assert [run.name for run in runs] == ["000_seed-1", "001_seed-2"] and len({run.parent for run in runs}) == 1
    assert all((run / "summary.json").is_file() for run in runs)
    assert done.stdout.count("Compare them") == 1


@pytest.mark.slow
def test_torchrun_with_another_number_of_devices_raises_an_error(tmp_path: Path) -> None:
    environment = os.environ | {"SATSEG_CACHE": str(tmp_path / "cache")}
    arguments = [sys.executable, *TORCHRUN, *TINY, *TWO, "trainer.devices=1"]
    done = run_program(arguments, ranks=2, cwd=tmp_path, env=environment)
    assert done.returncode != 0
    assert "torchrun started 2 processes, but trainer.devices=1 and trainer.num_nodes=1 make 1" in done.stderr
    assert not list(tmp_path.rglob("*.ckpt"))


@pytest.mark.slow
def test_a_killed_process_ends_the_run_which_can_be_resumed(tmp_path: Path) -> None:
    process = start_until_checkpoint([*TINY, *TWO, "trainer.max_epochs=300"], tmp_path / "run")
    ranks = children(process)
    os.kill(int(ranks[1]), signal.SIGKILL)
    _, printed = process.communicate(timeout=60)
    assert process.returncode == 1 and "RunError: The process of device 1 was killed by SIGKILL, " in printed, printed
    assert "resume_from=run" in printed and "Traceback" not in printed
    assert not any(Path(f"/proc/{c}").exists() for c in ranks)
    epoch = len((tmp_path / "run/metrics.csv").read_text().splitlines()) - 1
    done = command("train", "resume_from=run", f"trainer.max_epochs={epoch + 1}", cwd=tmp_path, ranks=2)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run/summary.json").is_file()


@pytest.mark.slow
def test_processes_that_outlive_their_parent_keep_the_lock_of_the_run_folder(tmp_path: Path) -> None:
    process = start_until_checkpoint([*TINY, *TWO, "trainer.max_epochs=300"], tmp_path / "run")
    ranks = [int(child) for child in children(process)]
    try:
        for rank in ranks:
            os.kill(rank, signal.SIGSTOP)
        process.kill()
        process.wait()
        line = error_line("train", "resume_from=run", cwd=tmp_path)
        assert f"resume_from=run is in use by process {process.pid} on " in line
    finally:
        for rank in ranks:
            os.kill(rank, signal.SIGCONT)
    epoch = len((tmp_path / "run/metrics.csv").read_text().splitlines())
    options = [f"trainer.max_epochs={epoch}", "trainer.devices=2"]
    done = command("train", "resume_from=run", *options, cwd=tmp_path, ranks=2)
    assert done.returncode == 0, done.stderr  # it waited for them to exit


@pytest.mark.slow
def test_a_stop_request_during_start_up_ends_all_processes(tmp_path: Path) -> None:
    process = start([*TINY, *TWO], tmp_path / "run", ranks=0)  # the request arrives while they import libraries
    wait_for(lambda: len(children(process)) == 2)
    process.send_signal(signal.SIGTERM)
    _, printed = process.communicate(timeout=90)
    assert process.returncode == 130 and "Traceback" not in printed, printed
    ending = "The system asked the run to stop. There is no checkpoint yet to resume from; start again."
    assert printed.strip().endswith(ending)


@pytest.mark.slow
def test_a_stop_request_during_validation_ends_all_processes_and_the_run_can_be_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in fake_slurm(tmp_path).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1] / "helpers"), prepend=os.pathsep)
    options = [*TINY, *TWO, "+callbacks.ask._target_=stop_requests.SignalInValidation", "ema=false"]
    process = start(options, tmp_path / "run")
    _, printed = process.communicate(timeout=300)
    assert process.returncode == 130 and "Traceback" not in printed and "resume_from=run" in printed, printed
    assert (tmp_path / "scontrol_calls").read_text() == "requeue 17\n"
    assert len((tmp_path / "run/metrics.csv").read_text().splitlines()) == 2  # the second epoch was not recorded
    done = command("train", "resume_from=run", "trusted_modules=[stop_requests]", cwd=tmp_path, ranks=2)
    assert done.returncode == 0 and (tmp_path / "run/summary.json").is_file(), done.stderr
    assert len((tmp_path / "run/metrics.csv").read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["trainer.devices=banana"], "trainer.devices=banana: expected a number of devices, or auto"),
        (["trainer.num_nodes=2"], "trainer.num_nodes=2: start it with torchrun on each machine"),
        (["trainer=fsdp", "ema=true"], "ema and compile do not work with trainer=fsdp"),
        (["trainer.max_epochs=null", "trainer.devices=1"], "trainer.max_epochs=null: expected a whole number"),
        (["trainer.precision=bf16-true", "trainer.devices=1"], "trainer.precision=bf16-true: choose 32-true"),
        (["save_every_min=null", "trainer.devices=1"], "save_every_min=None: expected a number of minutes"),
        (["scale_lr=banana", "trainer.devices=1"], "scale_lr=banana: choose none, linear, sqrt"),
    ],
)
def test_invalid_options_give_an_error_of_one_line(options: list[str], expected: str, tmp_path: Path) -> None:
    assert expected in error_line("train", *TINY, *TWO, *options, cwd=tmp_path, starts_others=False)


@pytest.mark.slow
def test_an_error_in_a_rank_is_printed_as_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if a library such as NCCL aborts the process after its error."""
    (tmp_path / "sitecustomize.py").write_text(
        "import atexit, os\nif 'RANK' in os.environ: atexit.register(os.abort)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    line = error_line("train", *TINY, *TWO, "dataset.scenes={train: 2, val: 1, test: 1}", cwd=tmp_path)
    assert "split=val has 1 images, too few for 2 devices to share" in line
