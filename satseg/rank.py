"""One of the processes that `satseg.train` starts, a device each; it is not called by hand."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

from satseg import ending, launching
from satseg.files import write_json
from satseg.ranks import is_first, rank

LOOK_S = 1.0


def main() -> None:
    """Train, and leave the score or the error in the folder that is named."""
    folder = Path(sys.argv[1])
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    try:
        with ending.listening(asks_slurm=False):
            _train(folder)
    except Exception as error:
        launching.tell(folder, rank(), error)
        sys.exit(1)


def _train(folder: Path) -> None:
    with ending.deferred():  # as modules may go on without one whose import failed
        from satseg import fitting, training

    cfg, run, sys.argv[1:] = launching.job(folder)
    training.prepare_process(cfg, run)
    score = fitting.train(cfg, run)
    if is_first():
        write_json(folder / launching.SCORE, score)


def _end_with(parent: int) -> None:
    """End when the process that started this one has been killed."""
    while os.getppid() == parent:
        time.sleep(LOOK_S)
    os._exit(1)


if __name__ == "__main__":
    main()
