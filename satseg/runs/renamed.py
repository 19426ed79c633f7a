"""Reading run records, with classes that have since moved renamed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from satseg.runs.documents import read_yaml

RENAMED = {  # former and current names
    "satseg.callbacks.wandb.Dashboard": "satseg.train.callbacks.wandb.Dashboard",
    "satseg.data.places.Area": "satseg.data.sampling.Area",
    "satseg.data.places.Balanced": "satseg.data.sampling.Balanced",
    "satseg.sharding.ShardedStrategy": "satseg.train.sharding.ShardedStrategy",
}


def read_record(path: Path) -> dict[str, Any]:
    """Read the `config.yaml` of a run.

    Raises:
        RecordError: If it is missing or invalid.
    """
    return {key: _renamed(value) for key, value in read_yaml(path).items()}


def _renamed(node: Any) -> Any:
    if isinstance(node, list):
        return [_renamed(each) for each in node]
    if not isinstance(node, dict):
        return node
    renamed = {key: _renamed(value) for key, value in node.items()}
    if isinstance(name := renamed.get("_target_"), str):
        renamed["_target_"] = RENAMED.get(name, name)
    return renamed
