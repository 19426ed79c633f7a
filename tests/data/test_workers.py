"""Errors of data loading processes that cannot send a batch."""

import subprocess
import sys

CODE = """
import threading
from torch.utils.data import DataLoader
from satseg.data.workers import prepare_worker
from satseg.data.workers import worker_lost_error

unsendable = [threading.Lock()]
try:
    list(DataLoader(unsendable, batch_size=None, num_workers=1, worker_init_fn=prepare_worker))
except RuntimeError as error:
    print(worker_lost_error(error))
"""


def test_a_batch_that_cannot_be_pickled_raises_an_error_instead_of_blocking() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.startswith("A data loading process was killed, most likely because memory ran out")
    assert "Traceback" not in done.stderr
