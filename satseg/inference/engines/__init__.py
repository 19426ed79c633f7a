"""Engines: one small interface to PyTorch, ONNX Runtime and OpenVINO."""

from satseg.inference.engines.engine import Engine
from satseg.inference.engines.graphs import keep_int8
from satseg.inference.engines.selection import open_engine

__all__ = ["Engine", "keep_int8", "open_engine"]
