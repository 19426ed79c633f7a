"""Run `satseg.train` and send it a signal at a given moment: `stop_requests.py signal moment option...`.

Like Slurm, it sends the signal to all processes of the run, which form a process group. With `LOSE` as signal it
kills a data loading process instead; with the path of a file it truncates that file to half its size.
"""

import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from satseg.cli import entry
from satseg.data import SegmentationDataModule
from satseg.evaluate import scoring
from satseg.train import dashboards, finish
from satseg.train.task import SegmentationTask

MOMENTS: dict[str, tuple[Any, str, int]] = {  # before the n-th call
    "the options are checked": (entry, "check_types", 1),
    "the trainer is built": (pl.Trainer, "__init__", 1),
    "the data is measured": (SegmentationDataModule, "setup", 1),
    "training starts": (SegmentationTask, "configure_optimizers", 1),
    "the first batch is computed": (SegmentationTask, "training_step", 1),
    "a batch is begun": (SegmentationTask, "training_step", 6),
    "a batch is computed": (SegmentationTask, "training_step", 25),
    "an epoch is scored": (SegmentationTask, "validation_step", 2),
    "the last epoch has been scored": (SegmentationTask, "on_validation_epoch_end", 4),
    "the model is scored": (finish, "report_split", 2),
    "an image of a split is scored": (scoring, "score_batch", 1),
    "a loader is made": (_MultiProcessingDataLoaderIter, "_reset", 1),
    "a loader's processes end": (_MultiProcessingDataLoaderIter, "__del__", 2),
    "the run is complete": (dashboards, "publish_results", 1),
}


class SignalInValidation(pl.Callback):
    """Sends SIGUSR1 to the parent of the ranks once, from rank 1, while the second epoch is validated."""

    def on_validation_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.current_epoch == 1 and trainer.global_rank == 1 and not Path("scontrol_calls").exists():
            os.kill(os.getppid(), signal.SIGUSR1)


def send_signal(signal_name: str) -> None:
    if signal_name == "LOSE":
        loaders = [process.pid or 0 for process in multiprocessing.active_children() if process.daemon]
        os.kill(max(loaders), signal.SIGKILL)
        time.sleep(30)  # until torch's error ends the run, which could otherwise get past this moment first
    elif Path(signal_name).exists():
        os.truncate(signal_name, Path(signal_name).stat().st_size // 2)
    else:
        os.killpg(0, signal.Signals[signal_name])


def signal_before(owner: Any, name: str, calls: int, signal_name: str) -> None:
    """Send the signal before the n-th call of a function."""
    function, left = getattr(owner, name), [calls]

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            send_signal(signal_name)
        return function(*args, **kwargs)

    setattr(owner, name, wrapper)


def main() -> None:
    from satseg.train.__main__ import main as train

    os.setsid()
    signal_name, moment = sys.argv.pop(1), sys.argv.pop(1)
    signal_before(*MOMENTS[moment], signal_name)
    train()


if __name__ == "__main__":
    main()
