"""Training with two processes: scores, run folders, and what happens when one of them dies."""

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
from commands import TINY, Forked, cluster, command, refused, run_program
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


def scored_alike(run: Path, cwd: Path) -> None:
    """Two processes scored three images in training; one process scores them again."""
    with (run / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == [str(i) for i in range(len(rows))]
    best = max(rows, key=lambda row: float(row["val/miou"]))
    alone = json.loads((run / "evaluation/val/scores.json").read_text())["scores"]
    for name in ("miou", "micro_iou", "accuracy", "iou/water", "recall/road"):
        trained, again = float(best[f"val/{name}"]), alone[name]
        assert np.float32(again if again is not None else "nan") == np.float32(trained) or np.isnan(trained)
    done = command("evaluate", f"checkpoint={run}", "split=val", "output=again", cwd=cwd)
    assert done.returncode == 0, done.stderr
    assert json.loads((cwd / "again/scores.json").read_text())["scores"] == alone


def started(options: list[str], run: Path, **how: Any) -> subprocess.Popen[str]:
    """Start a training."""
    return Forked(
        [sys.executable, "-m", "satseg.train", *options, f"run_dir={run.name}"],
        cwd=run.parent,
        env=os.environ | {"OMP_NUM_THREADS": "1", "SATSEG_CACHE": str(run.parent / "cache")},
        stderr=subprocess.PIPE,
        text=True,
        **{"ranks": 2} | how,
    )


def begun(options: list[str], run: Path) -> subprocess.Popen[str]:
    """Start a training, and wait until it has written what it can go on from."""
    process = started(options, run)
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
def test_two_devices_make_one_run_with_the_scores_of_one(tmp_path: Path) -> None:
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
    scored_alike(runs[0], tmp_path)


@pytest.mark.parametrize("backbone", ["resnet18", "tu-mobilenetv4_conv_small", "tu-tf_efficientnet_lite0"])
def test_shared_statistics_leave_a_network_what_it_computes(backbone: str) -> None:
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
def test_a_network_that_devices_share_is_trained_as_one_that_each_has(tmp_path: Path) -> None:
    options = [*TINY, *TWO, "backbone=resnet18", "ema=false", "dataset.patches_per_epoch=48"]
    for trainer in ("ddp", "fsdp"):
        done = command("train", *options, f"trainer={trainer}", f"run_dir={trainer}", cwd=tmp_path, ranks=2)
        assert done.returncode == 0, done.stderr
    scored_alike(tmp_path / "fsdp", tmp_path)
    process = begun([*options, "trainer=fsdp"], tmp_path / "stopped")
    process.send_signal(signal.SIGTERM)
    assert "resume_from=stopped" in process.communicate(timeout=60)[1]
    assert len((tmp_path / "stopped/metrics.csv").read_text().splitlines()) == 2  # it ended inside the second epoch
    last = tmp_path / "stopped/checkpoints/last.ckpt"
    whole = last.read_bytes()
    last.write_bytes(whole[: len(whole) // 2])
    assert "last.ckpt is corrupt" in refused("train", "resume_from=stopped", cwd=tmp_path, ranks=2)
    last.write_bytes(whole)
    done = command("train", "resume_from=stopped", cwd=tmp_path, ranks=2)
    assert done.returncode == 0, done.stderr
    alike(tmp_path / "fsdp", tmp_path / "ddp")
    alike(tmp_path / "stopped", tmp_path / "fsdp")


def alike(run: Path, other: Path) -> None:
    """Both have learned the same, epoch by epoch."""
    mine, theirs = (list(csv.DictReader((r / "metrics.csv").read_text().splitlines())) for r in (run, other))
    for one, two in zip(mine, theirs, strict=True):
        assert float(one["train/loss"]) == pytest.approx(float(two["train/loss"]), rel=1e-4)
        assert float(one["val/miou"]) == pytest.approx(float(two["val/miou"]), rel=1e-3)
    weights, expected = (load_file(r / "model.safetensors") for r in (run, other))
    assert all(np.allclose(weights[name], expected[name], atol=1e-4) for name in expected)


@pytest.mark.slow
def test_a_decoder_that_leaves_stages_out_is_trained_and_resumed_with_the_same_numbers_only(tmp_path: Path) -> None:
    options = [*TINY, *TWO, "model=pspnet", "~model.decoder_channels", "trainer.max_epochs=300"]
    process = begun([*options, "dataset.patches_per_epoch=4"], tmp_path / "run")  # a step an epoch: it ends between two
    process.send_signal(signal.SIGTERM)
    assert "resume_from=run" in process.communicate(timeout=60)[1]
    line = refused("train", "resume_from=run", "dataset.batch_size=1", cwd=tmp_path, ranks=2)
    assert "The learning rate is scheduled by step, and the steps per epoch would change" in line
    assert "dataset.batch_size was 2 and is 1" in line


@pytest.mark.slow
def test_a_sweep_under_torchrun_has_a_folder_for_each_run(tmp_path: Path) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "SATSEG_CACHE": str(tmp_path / "cache")}
    arguments = [sys.executable, *TORCHRUN, "-m", *TINY, *TWO, "seed=1,2", "runs_dir=runs"]
    done = run_program(arguments, ranks=2, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    runs = sorted(path.parent for path in tmp_path.rglob("config.yaml"))
    assert [run.name for run in runs] == ["000_seed-1", "001_seed-2"] and len({run.parent for run in runs}) == 1
    assert all((run / "summary.json").is_file() for run in runs)
    assert done.stdout.count("Compare them") == 1


@pytest.mark.slow
def test_torchrun_with_other_devices_than_were_asked_for_is_refused(tmp_path: Path) -> None:
    environment = os.environ | {"SATSEG_CACHE": str(tmp_path / "cache")}
    arguments = [sys.executable, *TORCHRUN, *TINY, *TWO, "trainer.devices=1"]
    done = run_program(arguments, ranks=2, cwd=tmp_path, env=environment)
    assert done.returncode != 0
    assert "torchrun started 2 processes, but trainer.devices=1 and trainer.num_nodes=1 make 1" in done.stderr
    assert not list(tmp_path.rglob("*.ckpt"))


@pytest.mark.slow
def test_a_process_that_dies_ends_the_run_which_resumes(tmp_path: Path) -> None:
    process = begun([*TINY, *TWO, "trainer.max_epochs=300"], tmp_path / "run")
    ranks = children(process)
    os.kill(int(ranks[1]), signal.SIGKILL)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1 and "RunError: The process of device 1 was killed by SIGKILL, " in said, said
    assert "resume_from=run" in said and "Traceback" not in said
    assert not any(Path(f"/proc/{c}").exists() for c in ranks)
    epoch = len((tmp_path / "run/metrics.csv").read_text().splitlines()) - 1
    done = command("train", "resume_from=run", f"trainer.max_epochs={epoch + 1}", cwd=tmp_path, ranks=2)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run/summary.json").is_file()


@pytest.mark.slow
def test_processes_that_outlive_the_one_that_started_them_keep_their_folder(tmp_path: Path) -> None:
    process = begun([*TINY, *TWO, "trainer.max_epochs=300"], tmp_path / "run")
    ranks = [int(child) for child in children(process)]
    try:
        for rank in ranks:
            os.kill(rank, signal.SIGSTOP)
        process.kill()
        process.wait()
        line = refused("train", "resume_from=run", cwd=tmp_path)
        assert f"resume_from=run is in use by process {process.pid} on " in line
    finally:
        for rank in ranks:
            os.kill(rank, signal.SIGCONT)
    epoch = len((tmp_path / "run/metrics.csv").read_text().splitlines())
    options = [f"trainer.max_epochs={epoch}", "trainer.devices=2"]
    done = command("train", "resume_from=run", *options, cwd=tmp_path, ranks=2)
    assert done.returncode == 0, done.stderr  # it has waited for them to end


@pytest.mark.slow
def test_processes_that_are_asked_to_end_when_they_start_end(tmp_path: Path) -> None:
    process = started([*TINY, *TWO], tmp_path / "run", ranks=0)  # these import the libraries while they are asked
    wait_for(lambda: len(children(process)) == 2)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=90)
    assert process.returncode == 130 and "Traceback" not in said, said
    ending = "The system asked the run to stop. There is no checkpoint yet to resume from; start again."
    assert said.strip().endswith(ending)


@pytest.mark.slow
def test_processes_that_are_asked_to_end_while_they_score_end_together_and_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in cluster(tmp_path).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent / "helpers"), prepend=os.pathsep)
    options = [*TINY, *TWO, "+callbacks.ask._target_=stop_requests.AskInScoring", "ema=false"]
    process = started(options, tmp_path / "run")
    _, said = process.communicate(timeout=300)
    assert process.returncode == 130 and "Traceback" not in said and "resume_from=run" in said, said
    assert (tmp_path / "asked").read_text() == "requeue 17\n"
    assert len((tmp_path / "run/metrics.csv").read_text().splitlines()) == 2  # the second epoch has no score
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
def test_wrong_use_is_one_clear_line(options: list[str], expected: str, tmp_path: Path) -> None:
    assert expected in refused("train", *TINY, *TWO, *options, cwd=tmp_path, starts_others=False)


@pytest.mark.slow
def test_what_goes_wrong_in_the_processes_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a library, as NCCL does, kills a process that has said what went wrong."""
    (tmp_path / "sitecustomize.py").write_text(
        "import atexit, os\nif 'RANK' in os.environ: atexit.register(os.abort)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    line = refused("train", *TINY, *TWO, "dataset.scenes={train: 2, val: 1, test: 1}", cwd=tmp_path)
    assert "split=val has 1 images, too few for 2 devices to share" in line
