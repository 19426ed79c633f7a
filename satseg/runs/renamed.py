"""Records of runs, with the present names of classes that have moved since they were written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from satseg.runs.documents import read_yaml

RENAMED = {  # as records name them, and what they are called now
    "satseg.callbacks.wandb.Dashboard": "satseg.train.callbacks.wandb.Dashboard",
    "satseg.data.places.Area": "satseg.data.sampling.Area",
    "satseg.data.places.Balanced": "satseg.data.sampling.Balanced",
    "satseg.sharding.ShardedStrategy": "satseg.train.sharding.ShardedStrategy",
}


def read_record(path: Path) -> dict[str, Any]:
    """Read the `config.yaml` of a run.

    Raises:
        RecordError: If it is no such record, or larger or deeper than any.
    """
    return {key: _renamed(value) for key, value in read_yaml(path).items()}


def _renamed(node: Any) -> Any:
    if isinstance(node, list):
        return [_renamed(each) for each in node]
    if not isinstance(node, dict):
        return node
    made = {key: _renamed(value) for key, value in node.items()}
    if isinstance(name := made.get("_target_"), str):
        made["_target_"] = RENAMED.get(name, name)
    return made
