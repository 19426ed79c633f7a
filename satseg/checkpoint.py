"""The one loader. It reads local files only, and never unpickles anything but tensors and plain data."""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from satseg.config import resolve_target
from satseg.errors import CheckpointError, ConfigError
from satseg.model_file import check_document, document, read_header, read_tensors, write_model_file
from satseg.models import SegmentationNetwork
from satseg.runs import LATEST, find_complete
from satseg.spec import DatasetSpec

MODEL_FILE = "model.safetensors"
CHECKPOINT_KEY = "satseg"
ENCODER_NAME = re.compile(r"(tu-)?[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)?")  # no hub or folder prefix, which timm would open
# Options by which a constructor would read a file, ask a hub, or build anything but a plain decoder.
FORBIDDEN_OPTIONS = frozenset(
    {"pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir", "weights", "activation"}
)


def save_model(
    path: Path, network: SegmentationNetwork, *, training: Mapping[str, Any], protocol: Mapping[str, Any]
) -> None:
    """Write a model file atomically.

    Args:
        path: Where to.
        network: The model.
        training: What to know of its training.
        protocol: What each score means.
    """
    write_model_file(path, network, document(network, training, protocol))


checkpoint_document = document


def fetch_checkpoint(reference: str, runs_dir: Path = Path("runs")) -> Path:
    """Return the local path of a run folder or model file, or that of the newest complete run for `latest`.

    Raises:
        RunError: If there is no complete run.
        CheckpointError: If nothing is at the path.
    """
    path = find_complete(reference, runs_dir)
    if not path.exists():
        raise CheckpointError(f"checkpoint={path} is not there; name a run folder, a model file, or latest.")
    return path


def load_model(
    path: str | Path,
    device: str | torch.device = "cpu",
    *,
    trusted_modules: Collection[str] = (),
    runs_dir: Path = Path("runs"),
) -> SegmentationNetwork:
    """Load a trained network, ready to segment.

    Args:
        path: A run folder, a `model.safetensors`, a Lightning `.ckpt` of satseg, or `latest`.
        device: Where to put it.
        trusted_modules: Modules of your own whose classes the file may name.
        runs_dir: Where `latest` is looked for.

    Returns:
        The network in evaluation mode.

    Raises:
        CheckpointError: If the file is missing, broken, or asks for something that it must not.
    """
    path = fetch_checkpoint(LATEST, runs_dir) if str(path) == LATEST else Path(path)
    if path.is_dir():
        path = path / MODEL_FILE
    if not path.is_file():
        raise CheckpointError(f"{path} is not there; name a run folder, a model file, or latest.")
    described, state = _read_ckpt(path) if path.suffix == ".ckpt" else (read_header(path), read_tensors(path))
    network = _rebuild(described, path, trusted_modules)
    _fill(network, state, path)
    return network.to(device).eval()


def _read_ckpt(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise CheckpointError(
            f"{path} is broken, or holds more than tensors and plain data; it was not run."
        ) from error
    if not isinstance(checkpoint, dict) or CHECKPOINT_KEY not in checkpoint or "state_dict" not in checkpoint:
        raise CheckpointError(f"{path} is no checkpoint of satseg.")
    check_document(checkpoint[CHECKPOINT_KEY], path)
    prefix = "network."
    state = {k.removeprefix(prefix): v for k, v in checkpoint["state_dict"].items() if k.startswith(prefix)}
    return checkpoint[CHECKPOINT_KEY], state


def _rebuild(described: Mapping[str, Any], path: Path, trusted_modules: Collection[str]) -> SegmentationNetwork:
    try:
        config = dict(described["model"])
        spec = DatasetSpec.from_dict(described["spec"])
        target = str(config["_target_"])
    except (KeyError, TypeError, ConfigError) as error:
        raise CheckpointError(f"{path} does not describe a model: {error}.") from error
    options = {k: v for k, v in config.items() if k != "_target_"}
    _check_options(options, path)
    options |= {"encoder_weights": None, "in_channels": spec.in_channels, "classes": spec.num_classes}
    constructor = resolve_target(target, trusted_modules)
    try:
        net = constructor(**options)
        return SegmentationNetwork(net, spec, config | {"encoder_weights": None})
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{path}: its model cannot be built ({type(error).__name__}: {reason}).") from error


def _check_options(options: Mapping[str, Any], path: Path) -> None:
    for key, value in _items(options):
        if key in FORBIDDEN_OPTIONS or key.startswith("_"):
            raise CheckpointError(f"{path}: its model has the option {key}={value}, which is not allowed in a file.")
    if not ENCODER_NAME.fullmatch(str(options.get("encoder_name", ""))):
        raise CheckpointError(f"{path}: encoder_name={options.get('encoder_name')} is no plain timm name.")


def _items(value: Any) -> list[tuple[str, Any]]:
    """Return all keys with their values, at every depth."""
    if isinstance(value, Mapping):
        return [(str(k), v) for k, v in value.items()] + [i for v in value.values() for i in _items(v)]
    if isinstance(value, list | tuple):
        return [i for v in value for i in _items(v)]
    return []


def _fill(network: SegmentationNetwork, state: Mapping[str, Tensor], path: Path) -> None:
    own = network.state_dict()
    differing = sorted(own.keys() ^ state.keys()) or [k for k in own if own[k].shape != state[k].shape]
    if differing:
        raise CheckpointError(
            f"{path}: its weights are not the model's; {len(differing)} differ, such as {differing[0]}."
        )
    network.load_state_dict(dict(state))


__all__ = ["checkpoint_document", "fetch_checkpoint", "load_model", "read_header", "save_model"]
