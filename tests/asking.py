"""Runs `satseg.train` and asks it to end, as the system does, at one moment: `asking.py moment option...`."""

import os
import signal
import sys
from typing import Any

from satseg import training
from satseg.data import SegmentationDataModule
from satseg.task import SegmentationTask

MOMENTS: dict[str, tuple[Any, str, int]] = {  # before the so-manieth call
    "the data is measured": (SegmentationDataModule, "setup", 1),
    "the network is built": (training, "build_model", 1),
    "training starts": (SegmentationTask, "configure_optimizers", 1),
    "an epoch is scored": (SegmentationTask, "validation_step", 2),
    "the last epoch has been scored": (SegmentationTask, "on_validation_epoch_end", 4),
    "the model is scored": (training, "report_split", 2),
    "the report is written": (training, "report_run", 1),
    "the run is complete": (training.publishing, "publish_results", 1),
}


def ask_before(owner: Any, name: str, calls: int) -> None:
    """Have the function ask once."""
    function, left = getattr(owner, name), [calls]

    def asking(*args: Any, **kwargs: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGUSR1)
        return function(*args, **kwargs)

    setattr(owner, name, asking)


def main() -> None:
    from satseg import train

    ask_before(*MOMENTS[sys.argv.pop(1)])
    train.main()


if __name__ == "__main__":
    main()
