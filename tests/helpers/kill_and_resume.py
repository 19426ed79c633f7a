"""Run `satseg.train`, repeatedly killed at random moments and resumed: `kill_and_resume.py folder kills seed`.

Each attempt is a separate process, forked so that libraries are imported once. Prints where it was killed.
"""

import os
import random
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from satseg import files
from satseg.train.__main__ import main as train
from satseg.train.callbacks.records import BestModelFile, MetricsCsv
from satseg.train.callbacks.resuming import Position, SaveLast, SeedBatches

OPTIONS = [
    "dataset=synthetic",
    "dataset.size=128",
    "dataset.scenes={train: 2, val: 1, test: 1}",
    "dataset.patch_size=32",
    "dataset.batch_size=2",
    "dataset.patches_per_epoch=20",
    "augmentation=standard",
    "model=fpn",  # has dropout
    "+model.drop_path_rate=0.2",
    "backbone=mobilenetv4_conv_small",
    "backbone.weights=none",
    "scheduler=onecycle",
    "ema=true",
    "trainer.accelerator=cpu",
    "trainer.max_epochs=4",
    "trainer.accumulate_grad_batches=2",
    "trainer.enable_progress_bar=false",
    "save_every_min=0",
]
MAX_MOMENTS = 40  # after which an attempt is killed at the latest


FIRST = ("in the middle of a save", "before on_train_batch_start")  # kills that must occur in every run


class Countdown:
    """Kills the process at the n-th moment, counting only one kind of moment if it is given."""

    def __init__(self, moments: int, kind: str | None = None) -> None:
        self.left, self.kind = moments, kind

    def count(self, name: str) -> None:
        self.left -= self.kind in (None, name)
        if self.left == 0 and self.kind in (None, name):
            os.write(1, f"killed: {name}\n".encode())
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(self, owner: Any, name: str) -> None:
        """Count a moment before and after each call of a function."""
        function: Callable[..., Any] = getattr(owner, name)

        def watched(*args: Any, **kwargs: Any) -> Any:
            self.count(f"before {name}")
            result = function(*args, **kwargs)
            self.count(f"after {name}")
            return result

        setattr(owner, name, watched)


def watch_saving(countdown: Countdown) -> None:
    """Count a moment when a checkpoint is half written."""
    save = torch.save

    def watched(data: Any, file: Any) -> None:
        save(data, file)
        size = file.tell()
        file.truncate(size // 2)
        file.flush()
        countdown.count("in the middle of a save")
        file.seek(0)
        file.truncate()
        save(data, file)

    torch.save = watched


def start(options: list[str], moments: int, kind: str | None) -> int:
    """Run the command in a forked process; return its exit code, or minus the signal that killed it."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = 1
    try:
        countdown = Countdown(moments, kind)
        watch_saving(countdown)
        for owner, name in (
            (SeedBatches, "on_train_batch_start"),  # with accumulated gradients every second time
            (SaveLast, "on_train_batch_end"),
            (MetricsCsv, "on_train_epoch_end"),
            (BestModelFile, "on_validation_end"),
            (Position, "on_train_start"),
            (files, "_sync_folder"),
        ):
            countdown.watch(owner, name)
        sys.argv = ["train", *options]
        train()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def main(folder: Path, kills: int, seed: int) -> None:
    generator, run, killed = random.Random(seed), folder / "run", 0
    while not (run / "summary.json").exists():
        last = run / "checkpoints" / "last.ckpt"
        if last.exists():
            torch.load(last, weights_only=True)
            options = [f"resume_from={run}"]
        else:
            options = [*OPTIONS, f"run_dir={run}"]
        moments = generator.randrange(1, MAX_MOMENTS) if killed < kills else -1
        kind = FIRST[killed] if killed < min(kills, len(FIRST)) else None
        code = start(options, moments if kind is None else 2, kind)
        assert code in (0, -signal.SIGKILL), code
        killed += code != 0
    print(f"{killed} kills")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
