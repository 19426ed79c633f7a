"""Engines by name."""

from __future__ import annotations

import logging
import platform
from functools import partial
from pathlib import Path
from typing import Any

import torch

from satseg.environment import package_version
from satseg.errors import ConfigError, EngineError
from satseg.inference.engines.choosing import fastest, recall, remember
from satseg.inference.engines.eager import TorchEngine
from satseg.inference.engines.engine import Engine
from satseg.inference.engines.graphs import EXPORTERS, RUNTIMES, GraphEngine, model_digest, open_graph
from satseg.models import SegmentationNetwork
from satseg.runtimes.graph import Size
from satseg.runtimes.packages import installed
from satseg.runtimes.writing import Source

logger = logging.getLogger(__name__)

NAMES = ("auto", "torch", "onnx", "openvino", "openvino_int8")
MEASURED = ("onnx", "openvino")  # beside torch; int8 computes something else


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
        checkpoint: The model's file, for errors.
        network: What it holds, on the device.
        name: `torch`, `onnx`, `openvino`, `openvino_int8`, or `auto`: the fastest of the first three that agrees with
            `torch`. They are measured once, and the choice is remembered in the user's cache. It is the same for all
            windows, unless the model can be exported for one size only.
        device: Where to compute; all but `torch` do so on the CPU only.
        shape: Height and width of the windows. A model that cannot be exported for any size is exported for this one.

    Raises:
        ConfigError: If there is no such engine.
        EngineError: If the engine does not compute on the device, or there is no quantised model.
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
        raise EngineError(f"engine={name} computes on the processor: set device=cpu, or choose engine=torch.")
    return open_graph(name, source, shape)


def _choose(source: Source, device: torch.device, shape: Size) -> TorchEngine | GraphEngine:
    names = ["torch"]
    if device.type == "cpu" and installed("onnx", "onnxscript"):
        names += [name for name in MEASURED if installed(RUNTIMES[name])]
    open_named = partial(_open, source, device, shape)
    if len(names) == 1:
        engine = open_named("torch")
        engine.why = "no other computes here" if device.type == "cpu" else "no other computes on a GPU"
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
    """Return all that the speed and the agreement of engines depend on but the windows, as plain data."""
    packages = (*EXPORTERS, *(RUNTIMES[name] for name in names if name in RUNTIMES))
    return {
        "model": model_digest(network),
        "device": str(device),
        "processor": [platform.machine(), torch.backends.cpu.get_cpu_capability()],
        "threads": torch.get_num_threads(),
        "versions": {package: package_version(package) for package in packages},
    }
