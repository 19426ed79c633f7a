"""Which engine is the fastest that agrees with eager PyTorch: measured once, then remembered."""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor

from satseg.errors import RecordError, SatsegError, printable
from satseg.files import write_json
from satseg.inference.engines.cache import Cache, graph_cache
from satseg.inference.engines.engine import Engine
from satseg.runs.documents import read_json
from satseg.runtimes.agreement import random_images
from satseg.runtimes.graph import Size

logger = logging.getLogger(__name__)

MEMORY = "engine.json"
REMEMBERED = 500  # measurements of all models, the latest
RUNS = 3
LEAST_AGREEMENT = 0.999  # of the probe's pixels
PROBE = (512, 512)  # pixels: other windows would rank the engines alike, and the choice must not hang on a scene's size

E = TypeVar("E", bound=Engine)


@dataclass
class Measurement:
    """What was found out about the engines.

    Attributes:
        best: Name of the fastest that agrees.
        seconds: For one image of the probe, by engine.
        left_out: Why, by engine.
        size: Of the windows that it holds for; None where engines take any, as it holds for all then.
    """

    best: str = "torch"
    seconds: dict[str, float] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    size: Size | None = None

    def why(self) -> str:
        """Return why the best one is, in words."""
        times = [f"{name} {seconds:.2g} s" for name, seconds in sorted(self.seconds.items(), key=lambda item: item[1])]
        left_out = [
            f"{name} is left out: {printable(str(reason).rstrip('.'))}" for name, reason in self.left_out.items()
        ]
        measured = f" ({', '.join(times)} an image of {PROBE[0]} x {PROBE[1]})" if times else ""
        return "; ".join([f"the fastest that agrees with PyTorch{measured}", *left_out])


def fastest(names: list[str], open_named: Callable[[str], E], shape: Size) -> tuple[E, Measurement]:
    """Measure engines on a fixed random probe.

    Args:
        names: Of the engines; `torch`, which comes first, is what the others must agree with.
        open_named: Opens one.
        shape: Height and width of the windows, where an engine takes no others.

    Returns:
        The fastest of those that give at least 99.9 % of the pixels the class that `torch` gives, and the measurement.
    """
    found, expected = Measurement(), None
    opened: dict[str, E] = {}
    for name in names:
        try:
            opened[name] = open_named(name)
        except SatsegError as error:
            found.left_out[name] = str(error)
    found.size = shape if any(getattr(engine, "size", None) for engine in opened.values()) else None
    probe = random_images(opened["torch"].spec.inputs[0], (1, *(found.size or PROBE)), invalid=False)
    for name, engine in opened.items():
        seconds, classes = _time(engine, probe)
        expected = classes if expected is None else expected
        agreement = float((classes == expected).float().mean())
        if agreement < LEAST_AGREEMENT:
            found.left_out[name] = f"gives only {agreement:.2%} of the pixels the class that torch gives"
        else:
            found.seconds[name] = seconds
    found.best = min(found.seconds, key=lambda name: found.seconds[name])
    logger.info("Engines: %s; left out: %s", found.seconds, found.left_out)
    return opened[found.best], found


def _time(engine: Engine, probe: Tensor) -> tuple[float, Tensor]:
    """Return the median seconds of a few runs after the first, and the classes (1, H, W)."""
    valid = torch.ones(1, *probe.shape[-2:], dtype=torch.bool)
    classes = engine(probe, valid).argmax(1)
    seconds = []
    for _ in range(RUNS):
        start = time.perf_counter()
        engine(probe, valid)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds), classes


def recall(conditions: dict[str, Any], shape: Size) -> Measurement | None:
    """Return what was measured under the same conditions, for windows of any shape or of this one."""
    wanted = [_of_size(conditions, size) for size in (None, shape)]
    for record in _records(graph_cache()):
        if record.get("conditions") in wanted and isinstance(record.get("best"), str):
            seconds, left_out = (record.get(key) for key in ("seconds", "left_out"))
            return Measurement(
                record["best"],
                {name: s for name, s in seconds.items() if type(s) is float} if isinstance(seconds, dict) else {},
                left_out if isinstance(left_out, dict) else {},
            )
    return None


def remember(conditions: dict[str, Any], found: Measurement) -> None:
    """Write a measurement to the user's cache, where that can be written."""
    cache = graph_cache()
    conditions = _of_size(conditions, found.size)
    others = [record for record in _records(cache) if record.get("conditions") != conditions]
    latest = {"conditions": conditions, "best": found.best, "seconds": found.seconds, "left_out": found.left_out}
    try:
        cache.make_folder()
        write_json(cache.folder / MEMORY, [latest, *others][:REMEMBERED])
    except (OSError, SatsegError) as error:
        logger.info("The choice of an engine is not remembered: %s", error)


def _of_size(conditions: dict[str, Any], size: Size | None) -> dict[str, Any]:
    return conditions | {"size": None if size is None else list(size)}


def _records(cache: Cache) -> list[dict[str, Any]]:
    try:
        records = read_json(cache.folder / MEMORY, list)
    except RecordError:
        return []
    return [record for record in records if isinstance(record, dict)]
