"""Measure a training epoch of satseg against a bare PyTorch loop, and the loader against the model.

Both loops train the same network on the same batches in memory; they alternate, so that other load affects both. satseg
runs with all loggers. Options after `--` go to the configuration.

    python scripts/benchmarks/train_speed.py --rounds 5 --batches 20 -- experiment=demo
"""

import argparse
import logging
import os
import statistics
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from satseg.config import CONFIG_DIR
from satseg.runs import Run
from satseg.train import build as training
from satseg.train import dashboards
from satseg.train.task import SegmentationTask


class EpochTime(pl.Callback):
    """Time from the first batch of an epoch to its end, without setup and teardown."""

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.start = time.perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.seconds = time.perf_counter() - self.start


def through_satseg(cfg: DictConfig, datamodule: Any, batches: list[dict[str, Any]], folder: Path) -> float:
    task = training.build_task(cfg, datamodule)
    clock = EpochTime()
    trainer = training.build_trainer(cfg, Run(folder, None))
    trainer.callbacks.append(clock)
    trainer.fit(task, train_dataloaders=torch.utils.data.DataLoader(batches, batch_size=None))
    dashboards.close(trainer.loggers, failed=False)
    return clock.seconds


def bare(cfg: DictConfig, datamodule: Any, batches: list[dict[str, Any]]) -> float:
    task: SegmentationTask = training.build_task(cfg, datamodule)
    network, criterion = task.network.train(), task.criterion
    optimizer = torch.optim.AdamW(network.parameters(), cfg.optimizer.lr)
    start = time.perf_counter()
    for batch in batches:
        loss = criterion(network(batch["image"], batch["valid"]), batch["mask"], batch["valid"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, default=20)
    parser.add_argument("options", nargs="*", default=["experiment=demo"])
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    os.environ |= {"HYDRA_FULL_ERROR": "1", "WANDB_MODE": "offline", "WANDB_SILENT": "true"}
    quiet = ["ema=false", "trainer.max_epochs=1", "trainer.accelerator=cpu", "trainer.enable_progress_bar=false"]
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        cfg = compose("train", [*args.options, *quiet, "logger=[csv,tensorboard,wandb]"])
    datamodule = training.build_datamodule(cfg)
    batches: list[dict[str, Any]] = []
    start, waits = time.perf_counter(), 0
    for batch in datamodule.train_dataloader():
        if len(batches) == args.batches:
            break
        batches.append(batch)
        if len(batches) == 2:  # the first batches open the files
            start, waits = time.perf_counter(), len(batches)
    loader = (len(batches) - waits) * datamodule.batch_size / (time.perf_counter() - start)
    times: dict[str, list[float]] = {"satseg": [], "bare": []}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(args.rounds + 1):
            times["bare"].append(bare(cfg, datamodule, batches))
            times["satseg"].append(through_satseg(cfg, datamodule, batches, Path(folder, str(turn))))
            if turn == 0:  # warms up
                times = {"satseg": [], "bare": []}
    ratios = [a / b for a, b in zip(times["satseg"], times["bare"], strict=True)]
    images = len(batches) * datamodule.batch_size
    print(
        f"satseg / bare loop: {statistics.median(ratios):.3f} (median of {args.rounds}; {min(ratios):.3f} "
        f"to {max(ratios):.3f})"
    )
    print(f"model:  {images / statistics.median(times['satseg']):8.1f} patches/s")
    print(f"loader: {loader:8.1f} patches/s with {datamodule.num_workers} workers")


if __name__ == "__main__":
    main()
