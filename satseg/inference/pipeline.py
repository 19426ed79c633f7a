"""Concurrent reading, inference and writing, with bounded queues."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

Item = TypeVar("Item")
_END: Any = object()


@dataclass
class Stopwatch:
    """Time spent on a scene.

    Attributes:
        seconds: Time by phase; phases that overlap each count in full.
        pixels: Number computed, without those that an earlier run had finished.
    """

    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(("read", "infer", "write"), 0.0))
    pixels: int = 0

    @contextmanager
    def measure(self, part: str) -> Iterator[None]:
        """Add the time that the block takes to a phase."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[part] = self.seconds.get(part, 0.0) + time.perf_counter() - start


def prefetch(items: Iterable[Item], depth: int) -> Generator[Item]:
    """Iterate in a background thread, at most `depth` items ahead of the consumer.

    The whole iteration runs in that one thread, as a raster must be read in the thread that opened it.
    """
    iterator, waiting = iter(items), deque[Future[Any]]()
    pool = ThreadPoolExecutor(1, thread_name_prefix="read")
    try:
        for _ in range(depth):
            waiting.append(pool.submit(next, iterator, _END))
        while (item := waiting.popleft().result()) is not _END:
            waiting.append(pool.submit(next, iterator, _END))
            yield item
    finally:
        for future in waiting:
            future.cancel()
        if isinstance(iterator, Generator):
            pool.submit(iterator.close)
        pool.shutdown()


class BackgroundWriter:
    """Runs calls in a background thread, in order, at most `depth` pending; an error is raised by a later call."""

    def __init__(self, depth: int) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="write")
        self._waiting: deque[Future[None]] = deque()
        self._depth = depth

    def __enter__(self) -> BackgroundWriter:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._pool.shutdown(cancel_futures=kind is not None)
        if kind is None:
            self.wait()

    def submit(self, call: Callable[[], None]) -> None:
        """Queue a call; block while too many are pending."""
        self._waiting.append(self._pool.submit(call))
        while len(self._waiting) > self._depth:
            self._waiting.popleft().result()

    def wait(self) -> None:
        """Block until every call has finished."""
        while self._waiting:
            self._waiting.popleft().result()
