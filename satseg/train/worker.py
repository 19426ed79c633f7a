"""Process that `satseg.train` starts for each device; not to be called by hand."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

from satseg import signals
from satseg.files import write_json
from satseg.ranks import is_rank_zero, rank
from satseg.train import processes

POLL_S = 1.0


def main() -> None:
    """Train, and write the score or the error to the folder given as argument."""
    folder = Path(sys.argv[1])
    threading.Thread(target=_exit_with, args=(os.getppid(),), daemon=True).start()
    try:
        with signals.listening(requeues=False):
            _train(folder)
    except Exception as error:
        processes.report_error(folder, rank(), error)
        sys.exit(1)


def _train(folder: Path) -> None:
    with signals.deferred():  # a library may swallow an interruption during its imports
        from satseg.train.run import train_here
        from satseg.train.start import prepare_process

    cfg, run, sys.argv[1:] = processes.read_job(folder)
    prepare_process(cfg, run)
    score = train_here(cfg, run)
    if is_rank_zero():
        write_json(folder / processes.SCORE, score)


def _exit_with(parent: int) -> None:
    """Exit once the parent process has been killed."""
    while os.getppid() == parent:
        time.sleep(POLL_S)
    os._exit(1)


if __name__ == "__main__":
    main()
