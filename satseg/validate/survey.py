"""Scanning all samples, in parallel, with a progress bar."""

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

FORM = "{desc}: {percentage:3.0f} % of {total} images, {rate_noinv_fmt}, {remaining} left"


def survey(samples: Sequence[Sample], plan: ScanPlan, workers: int | None = None, progress: bool = True) -> list[Facts]:
    """Read every sample once.

    Args:
        samples: All pairs.
        plan: How to read.
        workers: Processes; as many as there are cores by default. One reads in this process.
        progress: Whether to show a bar, or a line a minute where there is no terminal.

    Raises:
        ConfigError: If the number of workers is none.
        WorkerLostError: If one of the processes was killed.
    """
    if workers is not None and (type(workers) is not int or workers < 1):
        raise ConfigError(f"workers={workers}: expected a whole number from 1 on.")
    number = min(workers or os.cpu_count() or 1, len(samples))
    found = _alone(samples, plan) if number <= 1 else _together(samples, plan, number)
    if progress and not sys.stderr.isatty():
        return list(_with_lines(found, len(samples)))
    bar = tqdm(found, "Checking", len(samples), unit=" images", bar_format=FORM, disable=not progress)
    return list(bar)


def _with_lines(found: Iterator[Facts], total: int) -> Iterator[Facts]:
    lines = Progress("Checking", total, "images")
    for facts in found:
        yield facts
        lines.add()


def _alone(samples: Sequence[Sample], plan: ScanPlan) -> Iterator[Facts]:
    yield from (scan(sample, plan) for sample in samples)


def _together(samples: Sequence[Sample], plan: ScanPlan, workers: int) -> Iterator[Facts]:
    # spawned: this process has threads and GDAL's state already, which a fork would copy halfway
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"))
    try:
        yield from pool.map(partial(scan, plan=plan), samples)
    except BrokenProcessPool as error:
        raise WorkerLostError(
            "A process that checks images was killed, most likely because memory ran out: set workers lower."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)
