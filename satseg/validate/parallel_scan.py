"""Parallel scan of all samples, with a progress bar."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import get_context

from tqdm import tqdm

from satseg.data.samples import Sample
from satseg.errors import ConfigError, WorkerLostError
from satseg.progress import Progress
from satseg.validate.facts import Facts, ScanPlan
from satseg.validate.scanning import scan

BAR_FORMAT = "{desc}: {percentage:3.0f} % of {total} images, {rate_noinv_fmt}, {remaining} left"


def scan_all(
    samples: Sequence[Sample], plan: ScanPlan, workers: int | None = None, progress: bool = True
) -> list[Facts]:
    """Read every sample once.

    Args:
        samples: All pairs.
        plan: Settings for reading.
        workers: Number of processes; the number of cores by default. With 1, samples are read in this process.
        progress: Show a bar, or a line per minute without a terminal.

    Raises:
        ConfigError: If the number of workers is invalid.
        WorkerLostError: If one of the processes was killed.
    """
    if workers is not None and (type(workers) is not int or workers < 1):
        raise ConfigError(f"workers={workers}: expected a whole number from 1 on.")
    number = min(workers or os.cpu_count() or 1, len(samples))
    found = _scan_here(samples, plan) if number <= 1 else _scan_in_pool(samples, plan, number)
    if progress and not sys.stderr.isatty():
        return list(_with_lines(found, len(samples)))
    bar = tqdm(found, "Checking", len(samples), unit=" images", bar_format=BAR_FORMAT, disable=not progress)
    return list(bar)


def _with_lines(found: Iterator[Facts], total: int) -> Iterator[Facts]:
    lines = Progress("Checking", total, "images")
    for facts in found:
        yield facts
        lines.add()


def _scan_here(samples: Sequence[Sample], plan: ScanPlan) -> Iterator[Facts]:
    yield from (scan(sample, plan) for sample in samples)


def _scan_in_pool(samples: Sequence[Sample], plan: ScanPlan, workers: int) -> Iterator[Facts]:
    # spawned: a fork would copy the threads and GDAL state of this process inconsistently
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"))
    try:
        yield from pool.map(partial(scan, plan=plan), samples)
    except BrokenProcessPool as error:
        raise WorkerLostError(
            "A worker process was killed, most likely because memory ran out: set workers lower."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)
