"""Runs `satseg.train` again and again, killed at seeded moments and resumed: `kill_and_resume.py folder kills seed`.

Each start is a process of its own, forked so that the libraries are imported once. It prints what it killed.
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
    "model=fpn",  # which has dropout
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
MOST = 40  # moments that a start lives for at most


FIRST = ("in the middle of a save", "before on_train_batch_start")  # kills that no chance may leave out


class Countdown:
    """Kills the process at the so-manieth moment, of one kind where it is named."""

    def __init__(self, moments: int, kind: str | None = None) -> None:
        self.left, self.kind = moments, kind

    def pass_by(self, name: str) -> None:
        self.left -= self.kind in (None, name)
        if self.left == 0 and self.kind in (None, name):
            os.write(1, f"killed: {name}\n".encode())
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(self, owner: Any, name: str) -> None:
        """Make moments of the begin and the end of a function."""
        function: Callable[..., Any] = getattr(owner, name)

        def watched(*args: Any, **kwargs: Any) -> Any:
            self.pass_by(f"before {name}")
            result = function(*args, **kwargs)
            self.pass_by(f"after {name}")
            return result

        setattr(owner, name, watched)


def half_saved(countdown: Countdown) -> None:
    """Make a moment of a checkpoint that is half written."""
    save = torch.save

    def watched(data: Any, file: Any) -> None:
        save(data, file)
        size = file.tell()
        file.truncate(size // 2)
        file.flush()
        countdown.pass_by("in the middle of a save")
        file.seek(0)
        file.truncate()
        save(data, file)

    torch.save = watched


def start(options: list[str], moments: int, kind: str | None) -> int:
    """Run the command in a process of its own; return how it ended."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = 1
    try:
        countdown = Countdown(moments, kind)
        half_saved(countdown)
        for owner, name in (
            (SeedBatches, "on_train_batch_start"),  # every second time there are gradients that wait for a step
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
        moments = generator.randrange(1, MOST) if killed < kills else -1
        kind = FIRST[killed] if killed < min(kills, len(FIRST)) else None
        code = start(options, moments if kind is None else 2, kind)
        assert code in (0, -signal.SIGKILL), code
        killed += code != 0
    print(f"{killed} kills")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
