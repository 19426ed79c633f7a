"""Measure training speed on a GPU: satseg reading from disk, against a bare loop with its batches in memory.

For each network it prints images per second of both, their ratio, the share of time that satseg waits for data, and the
peak memory. Both use bfloat16, channels last and AdamW, and alternate.

    python scripts/benchmarks/gpu_speed.py --rounds 3 --batches 60 -- dataset.num_workers=8
    python scripts/benchmarks/gpu_speed.py --device cpu --size 64 --rounds 1 --batches 4 -- model=unet   # smoke test
"""

import argparse
import gc
import logging
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from satseg.config import CONFIG_DIR
from satseg.devices import peak_memory_gb
from satseg.runs import Run
from satseg.train import build as training

NETWORKS = [("unet", "resnet50"), ("segformer", "pvt_v2_b2")]
WARM = 4  # batches before the clock starts


class Clock(pl.Callback):
    """Measures batches after warm-up, and the waiting time between the end of one and the start of the next."""

    def __init__(self) -> None:
        self.images, self.waited = 0, 0.0

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx > WARM:
            self.waited += time.perf_counter() - self.ended

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        synchronize(pl_module.device)
        self.ended = time.perf_counter()
        if batch_idx == WARM:
            self.start = self.ended
        elif batch_idx > WARM:
            self.images += len(batch["image"])

    def result(self) -> tuple[float, float]:
        seconds = self.ended - self.start
        return self.images / seconds, self.waited / seconds


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def through_satseg(cfg: DictConfig, datamodule: Any, folder: Path) -> tuple[float, float]:
    """Return images per second and the share of time spent waiting."""
    clock = Clock()
    with training.built_trainer(cfg, Run(folder, None)) as trainer:
        trainer.callbacks.append(clock)
        trainer.fit(training.build_task(cfg, datamodule), datamodule=datamodule)
    return clock.result()


def bare(cfg: DictConfig, datamodule: Any, batches: int, device: torch.device) -> float:
    """Return images per second."""
    task = training.build_task(cfg, datamodule).to(device)
    network, criterion = task.network.train(), task.criterion
    optimizer = torch.optim.AdamW(network.parameters(), cfg.optimizer.lr, fused=device.type == "cuda")
    batch = next(iter(datamodule.train_dataloader()))
    image, mask, valid = (batch[key].to(device) for key in ("image", "mask", "valid"))
    for number in range(batches):
        with torch.autocast(device.type, torch.bfloat16):
            logits = network(image, valid)
        loss = criterion(logits.float(), mask, valid)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        synchronize(device)
        if number == WARM:
            start = time.perf_counter()
    return (batches - WARM - 1) * len(image) / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batches", type=int, default=60)
    parser.add_argument("--size", type=int, default=512, help="edge of a patch in pixels")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--device", choices=["gpu", "cpu"], default="gpu")
    parser.add_argument("options", nargs="*")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    os.environ["HYDRA_FULL_ERROR"] = "1"
    device = torch.device("cuda" if args.device == "gpu" else "cpu")
    print("| network | satseg, images/s | bare loop | ratio | waiting for data | peak, GB | bare loop's |")
    print("| --- | --: | --: | --: | --: | --: | --: |")
    for model, backbone in NETWORKS:
        print(row(args, model, backbone, device), flush=True)


def row(args: argparse.Namespace, model: str, backbone: str, device: torch.device) -> str:
    cfg = configuration(args, model, backbone)
    datamodule = training.build_datamodule(cfg)
    ratios, speeds, bares, waits = [], [], [], []
    peaks: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(args.rounds):
            with peak_of("bare", peaks, device):
                bares.append(bare(cfg, datamodule, args.batches, device))
            with peak_of("satseg", peaks, device):
                speed, waited = through_satseg(cfg, datamodule, Path(folder, str(turn)))
            speeds.append(speed), waits.append(waited), ratios.append(speed / bares[-1])
    middle = [statistics.median(values) for values in (speeds, bares, ratios, waits)]
    numbers = f"{middle[0]:.1f} | {middle[1]:.1f} | {middle[2]:.3f} | {middle[3]:.1%}"
    numbers += f" | {peaks['satseg']:.1f} | {peaks['bare']:.1f}"
    return f"| {model}, {backbone} | {numbers} |"


@contextmanager
def peak_of(name: str, peaks: dict[str, float], device: torch.device) -> Iterator[None]:
    """Record the peak memory of a block, if the device reports it."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    yield
    peaks[name] = max(peaks.get(name, 0.0), peak_memory_gb(device))


def configuration(args: argparse.Namespace, model: str, backbone: str) -> DictConfig:
    options = [
        f"model={model}",
        f"backbone={backbone}",
        "backbone.weights=none",
        "dataset=synthetic",
        "dataset.size=1024",
        "dataset.scenes={train: 16, val: 1, test: 1}",
        f"dataset.patch_size={args.size}",
        f"dataset.batch_size={args.batch_size}",
        f"dataset.patches_per_epoch={args.batches * args.batch_size}",
        f"trainer={args.device}",
        "trainer.precision=bf16-mixed",
        "trainer.max_epochs=1",
        "trainer.limit_val_batches=1",
        "trainer.enable_progress_bar=false",
        "channels_last=true",
        "logger=csv",
    ]
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        return compose("train", [*options, *args.options])


if __name__ == "__main__":
    main()
