"""Opening engines by name; `auto` measures once which is the fastest that agrees with eager PyTorch."""

from __future__ import annotations

import logging
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from satseg.environment import package_version
from satseg.errors import ConfigError, EngineError, RecordError, SatsegError, printable
from satseg.files import write_json
from satseg.inference.engines.cache import Cache, graph_cache
from satseg.inference.engines.engine import Engine, TorchEngine
from satseg.inference.engines.graphs import EXPORTERS, RUNTIMES, GraphEngine, model_digest, open_graph
from satseg.models import SegmentationNetwork
from satseg.runs.documents import read_json
from satseg.runtimes.agreement import random_images
from satseg.runtimes.graph import Size
from satseg.runtimes.packages import installed
from satseg.runtimes.writing import Source

logger = logging.getLogger(__name__)

MEMORY = "engine.json"
MAX_MEASUREMENTS = 500  # the latest, of all models
RUNS = 3
MIN_AGREEMENT = 0.999  # share of the probe's pixels
PROBE = (512, 512)  # pixels, whatever the windows: the choice must not depend on a scene's size

E = TypeVar("E", bound=Engine)
logger = logging.getLogger(__name__)

NAMES = ("auto", "torch", "onnx", "openvino", "openvino_int8")
MEASURED = ("onnx", "openvino")  # besides torch; int8 gives different results


@dataclass
class Measurement:
    """Result of measuring the engines.

    Attributes:
        best: Name of the fastest that agrees.
        seconds: Time for one probe image, by engine.
        left_out: Reason for exclusion, by engine.
        size: Window size that the result holds for; None if for all, as the engines take any.
    """

    best: str = "torch"
    seconds: dict[str, float] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    size: Size | None = None

    def why(self) -> str:
        """Describe why the best engine was chosen."""
        times = [f"{name} {seconds:.2g} s" for name, seconds in sorted(self.seconds.items(), key=lambda item: item[1])]
        left_out = [
            f"{name} is left out: {printable(str(reason).rstrip('.'))}" for name, reason in self.left_out.items()
        ]
        measured = f" ({', '.join(times)} per image of {PROBE[0]} x {PROBE[1]})" if times else ""
        return "; ".join([f"the fastest that agrees with PyTorch{measured}", *left_out])


def fastest(names: list[str], open_named: Callable[[str], E], shape: Size) -> tuple[E, Measurement]:
    """Measure engines on a fixed random probe.

    Args:
        names: Engines; the first is `torch`, which the others must agree with.
        open_named: Opens an engine by name.
        shape: Height and width of the windows, for engines of a fixed size.

    Returns:
        The fastest engine that gives at least 99.9 % of the pixels the same class as `torch`, and the measurement.
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
        if agreement < MIN_AGREEMENT:
            found.left_out[name] = f"gives only {agreement:.2%} of the pixels the same class as torch"
        else:
            found.seconds[name] = seconds
    found.best = min(found.seconds, key=lambda name: found.seconds[name])
    logger.info("Engines: %s; left out: %s", found.seconds, found.left_out)
    return opened[found.best], found


def _time(engine: Engine, probe: Tensor) -> tuple[float, Tensor]:
    """Return the median seconds of a few runs after a warm-up, and the classes (1, H, W)."""
    valid = torch.ones(1, *probe.shape[-2:], dtype=torch.bool)
    classes = engine(probe, valid).argmax(1)
    seconds = []
    for _ in range(RUNS):
        start = time.perf_counter()
        engine(probe, valid)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds), classes


def recall(conditions: dict[str, Any], shape: Size) -> Measurement | None:
    """Return a stored measurement under the same conditions, for windows of any size or of this one."""
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
    """Write a measurement to the user's cache if it is writable."""
    cache = graph_cache()
    conditions = _of_size(conditions, found.size)
    others = [record for record in _records(cache) if record.get("conditions") != conditions]
    latest = {"conditions": conditions, "best": found.best, "seconds": found.seconds, "left_out": found.left_out}
    try:
        cache.make_folder()
        write_json(cache.folder / MEMORY, [latest, *others][:MAX_MEASUREMENTS])
    except (OSError, SatsegError) as error:
        logger.info("The engine measurement cannot be stored: %s", error)


def _of_size(conditions: dict[str, Any], size: Size | None) -> dict[str, Any]:
    return conditions | {"size": None if size is None else list(size)}


def _records(cache: Cache) -> list[dict[str, Any]]:
    try:
        records = read_json(cache.folder / MEMORY, list)
    except RecordError:
        return []
    return [record for record in records if isinstance(record, dict)]


def open_engine(
    checkpoint: Path,
    network: SegmentationNetwork,
    name: str,
    device: torch.device,
    *,
    shape: Size = (512, 512),
) -> Engine:
    """Open an engine for a trained model.

    Args:
        checkpoint: The model's file, for error messages.
        network: The loaded network, on the device.
        name: `torch`, `onnx`, `openvino`, `openvino_int8`, or `auto`: the fastest of the first three that agrees with
            `torch`. They are measured once, and the choice is stored in the user's cache. It is the same for all
            windows unless the model can only be exported for a fixed size.
        device: Device to compute on; all engines but `torch` need the CPU.
        shape: Height and width of the windows, for a model that can only be exported for a fixed size.

    Raises:
        ConfigError: If there is no such engine.
        EngineError: If the engine does not run on the device, or there is no quantised model.
        ExportError: If the model cannot be exported.
        MissingPackageError: If the engine is not installed.
        ResourceError: If there is no room for a graph.
    """
    if name not in NAMES:
        raise ConfigError(f"engine={name}: choose {', '.join(NAMES)}.")
    source = Source(network, checkpoint)
    if name == "auto":
        return _choose(source, device, shape)
    return _open(source, device, shape, name)


def _open(source: Source, device: torch.device, shape: Size, name: str) -> TorchEngine | GraphEngine:
    if name == "torch":
        return TorchEngine(source.network, device)
    if device.type != "cpu":
        raise EngineError(f"engine={name} runs on the CPU: set device=cpu, or choose engine=torch.")
    return open_graph(name, source, shape)


def _choose(source: Source, device: torch.device, shape: Size) -> TorchEngine | GraphEngine:
    names = ["torch"]
    if device.type == "cpu" and installed("onnx", "onnxscript"):
        names += [name for name in MEASURED if installed(RUNTIMES[name])]
    open_named = partial(_open, source, device, shape)
    if len(names) == 1:
        engine = open_named("torch")
        engine.why = "no other engine is installed" if device.type == "cpu" else "no other engine runs on a GPU"
        return engine
    conditions = _conditions(source.network, device, names)
    found = recall(conditions, shape)
    if found is not None and found.best in names:
        engine = open_named(found.best)
    else:
        engine, found = fastest(names, open_named, shape)
        remember(conditions, found)
    engine.why = found.why()
    return engine


def _conditions(network: SegmentationNetwork, device: torch.device, names: list[str]) -> dict[str, Any]:
    """Return everything but the windows that the engines' speed and agreement depend on, as plain data."""
    packages = (*EXPORTERS, *(RUNTIMES[name] for name in names if name in RUNTIMES))
    return {
        "model": model_digest(network),
        "device": str(device),
        "processor": [platform.machine(), torch.backends.cpu.get_cpu_capability()],
        "threads": torch.get_num_threads(),
        "versions": {package: package_version(package) for package in packages},
    }
