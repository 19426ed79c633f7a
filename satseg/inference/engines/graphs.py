"""Exported graphs in ONNX Runtime and OpenVINO, cached per user."""

from __future__ import annotations

import hashlib
import json
import logging
import shlex
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from satseg.environment import package_version
from satseg.errors import EngineError, FixedSizeError
from satseg.inference.engines.cache import Cache, digests, graph_cache, persistent_cache
from satseg.models import SegmentationNetwork
from satseg.runtimes.agreement import Graph, check_once
from satseg.runtimes.graph import GRAPH_VERSION, Size, mark_invalid
from satseg.runtimes.openvino_files import OpenVinoGraph, open_openvino
from satseg.runtimes.packages import load_package
from satseg.runtimes.writing import Source, open_exported, write_checked
from satseg.spec import DatasetSpec

logger = logging.getLogger(__name__)

RUNTIMES = {"onnx": "onnxruntime", "openvino": "openvino", "openvino_int8": "openvino"}
FILES = {"onnx": "model.onnx", "openvino": "model.xml", "openvino_int8": "model.xml"}
MADE_BY = {"onnx": (), "openvino": ("openvino",)}
EXPORTERS = ("satseg", "torch", "timm", "segmentation-models-pytorch", "onnx", "onnxscript")


class GraphEngine:
    """An exported graph on the CPU.

    Args:
        name: Name of the engine.
        graph: The graph to run.
        spec: Inputs and classes of the model.
        size: Height and width of the windows if the graph has a fixed size.
        digest: Hash of the files if they depend on more than the model.
    """

    batch_size = 1
    why = ""  # reason for which `auto` chose it

    def __init__(self, name: str, graph: Graph, spec: DatasetSpec, size: Size | None, digest: str = "") -> None:
        self.name, self.graph, self.spec, self.size, self.digest = name, graph, spec, size, digest

    def __call__(self, image: Tensor, valid: Tensor) -> Tensor:
        """Segment windows; see `Engine`."""
        given = (image.shape[-2], image.shape[-1])
        if self.size is not None and given != self.size:
            raise EngineError(
                f"engine={self.name} was built for windows of {self.size[1]} x {self.size[0]} pixels, but got "
                f"{given[1]} x {given[0]}, and this model cannot take both; choose engine=torch."
            )
        return self.graph(mark_invalid(image, valid, self.spec.inputs[0]).contiguous())


def open_graph(name: str, source: Source, shape: Size) -> GraphEngine:
    """Open a graph of the model, exporting it if the user's cache has none.

    A 32-bit graph is compared with PyTorch every time it is opened: packages and the user's own code may have changed
    since it was exported.

    Raises:
        EngineError: If there is no quantised model for `openvino_int8`.
        ExportError: If the model cannot be exported.
        MissingPackageError: If the runtime or the exporter is not installed.
        ResourceError: If there is no room for a graph.
    """
    load_package(RUNTIMES[name])
    cache, threads, spec = graph_cache(), torch.get_num_threads(), source.network.spec
    if name == "openvino_int8":
        path, digest = _quantised(source, cache)
        return GraphEngine(name, open_openvino(path, threads, shape=shape, static_shapes=True), spec, None, digest)
    graph, size = _exported(name, source, cache, shape)
    if isinstance(graph, OpenVinoGraph):
        graph.compile((1, graph.channels, *shape))
    return GraphEngine(name, graph, spec, size)


def _exported(name: str, source: Source, cache: Cache, shape: Size) -> tuple[Graph, Size | None]:
    """Return a graph and its fixed size, if any; a graph for any size is preferred."""
    digest = model_digest(source.network)
    for size in (None, shape):
        if (found := cache.find(_key(name, digest, size))) and (graph := _agreeing(name, found, source, size)):
            return graph, size
    try:
        return _make(name, source, cache, digest, None), None
    except FixedSizeError as error:
        logger.info("engine=%s is exported for windows of %s: %s", name, shape, error)
        return _make(name, source, cache, digest, shape), shape


def _agreeing(name: str, entry: Path, source: Source, size: Size | None) -> Graph | None:
    """Open a cached graph; None if it does not agree with the model."""
    try:
        graph = open_exported(entry / FILES[name], source, name)
        check_once(graph, source.network, size, f"engine={name}")
    except Exception as error:  # each runtime has its own
        logger.info("%s is exported again: %s", entry, error)
        return None
    return graph


def _key(name: str, digest: str, size: Size | None) -> str:
    versions = [package_version(package) for package in (*EXPORTERS, *MADE_BY[name])]
    suffix = "" if size is None else f"-{size[0]}x{size[1]}"
    return f"{name}-{digest_of(digest, GRAPH_VERSION, versions)}{suffix}"


def _make(name: str, source: Source, cache: Cache, digest: str, size: Size | None) -> Graph:
    def write(folder: Path) -> None:
        write_checked(folder / FILES[name], source, name, size)

    return open_exported(cache.make_or_temporary(_key(name, digest, size), write) / FILES[name], source, name)


def _quantised(source: Source, cache: Cache) -> tuple[Path, str]:
    """Return the file and a hash of it and its weights, which depend on the calibration data."""
    found = cache.find(_int8_key(source.network))
    if found is None:
        raise EngineError(
            f"engine=openvino_int8: there is no quantised model of {source.checkpoint} in {cache.folder}, the only "
            "place where it is looked for; make it with "
            f"python -m satseg.export checkpoint={shlex.quote(str(source.checkpoint))} format=openvino int8=true"
        )
    return found / FILES["openvino_int8"], digest_of(digests(found))


def keep_int8(network: SegmentationNetwork, exported: Path) -> None:
    """Copy a quantised model to the user's cache, for `openvino_int8`.

    Args:
        network: The network it was exported from.
        exported: The `.xml` file, with its `.bin` beside it.

    Raises:
        ResourceError: If the cache cannot be written, or other users can write to it.
    """

    def copy(folder: Path) -> None:
        target = folder / FILES["openvino_int8"]
        for suffix in (".xml", ".bin"):
            target.with_suffix(suffix).write_bytes(exported.with_suffix(suffix).read_bytes())

    persistent_cache().make(_int8_key(network), copy)


def _int8_key(network: SegmentationNetwork) -> str:
    return f"openvino_int8-{digest_of(model_digest(network), GRAPH_VERSION)}"


def model_digest(network: SegmentationNetwork) -> str:
    """Return a hash of everything a model computes with: weights, configuration, spec, temperature."""
    plain = [network.config, network.spec.to_dict(), network.temperature]
    found = hashlib.sha256(json.dumps(plain, sort_keys=True).encode())
    for name, tensor in network.state_dict().items():
        found.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        found.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def digest_of(*parts: Any) -> str:
    """Return a 160-bit hash of plain data."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:40]
