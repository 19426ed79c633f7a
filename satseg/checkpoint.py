"""The one loader. It reads local files only, and never unpickles anything but tensors and plain data."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from satseg.config import resolve_target
from satseg.errors import CheckpointError, ConfigError, ModelError
from satseg.files import cache_folder
from satseg.model_file import check_document, document, read_header, read_tensors, write_model_file
from satseg.models import SegmentationNetwork, check_options
from satseg.runs import LATEST, find_complete
from satseg.spec import DatasetSpec

MODEL_FILE = "model.safetensors"
CHECKPOINT_KEY = "satseg"
WANDB = "wandb:"


def save_model(
    path: Path,
    network: SegmentationNetwork,
    *,
    training: Mapping[str, Any],
    protocol: Mapping[str, Any],
    write: bool = True,
) -> None:
    """Write a model file atomically.

    Args:
        path: Where to.
        network: The model.
        training: What to know of its training.
        protocol: What each score means.
        write: As for `write_model_file`.
    """
    write_model_file(path, network, document(network, training, protocol), write)


checkpoint_document = document


def fetch_checkpoint(reference: str, runs_dir: Path = Path("runs")) -> Path:
    """Return the local path of a run folder or model file, that of the newest complete run for `latest`, or of a model
    that is downloaded first: `wandb:entity/project/name:alias`.

    Raises:
        RunError: If there is no complete run.
        CheckpointError: If nothing is at the path, or it cannot be downloaded.
    """
    if reference.startswith(WANDB):
        return _from_wandb(reference.removeprefix(WANDB))
    path = find_complete(reference, runs_dir)
    if not path.exists():
        raise CheckpointError(f"checkpoint={path} is not there; name a run folder, a model file, or latest.")
    return path


def _from_wandb(name: str) -> Path:
    try:
        import wandb
    except ImportError as error:
        raise CheckpointError("checkpoint=wandb:… needs the package wandb: pip install 'satseg[wandb]'.") from error
    try:
        artifact = wandb.Api(timeout=30).artifact(name)
        folder = (
            cache_folder() / "wandb" / re.sub(r"[^A-Za-z0-9_.-]+", "_", f"{artifact.qualified_name}_{artifact.digest}")
        )
        path = Path(artifact.download(root=str(folder))) / MODEL_FILE
    except Exception as error:  # of the network, the service or the name: each has its own
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"checkpoint=wandb:{name} cannot be fetched ({reason}); name it as entity/project/model:best."
        ) from error
    if not path.is_file():
        raise CheckpointError(f"checkpoint=wandb:{name} holds no {MODEL_FILE}: it is no model of satseg.")
    print(f"{WANDB}{name}: {path}", file=sys.stderr)
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
    path = model_path(fetch_checkpoint(LATEST, runs_dir) if str(path) == LATEST else Path(path))
    described, state = _read_ckpt(path) if path.suffix == ".ckpt" else (read_header(path), read_tensors(path))
    network = _rebuild(described, path, trusted_modules)
    _fill(network, state, path)
    return network.to(device).eval()


def model_path(path: Path) -> Path:
    """Return the model file that a run folder, or a file itself, stands for.

    Raises:
        CheckpointError: If it is not there.
    """
    path = path / MODEL_FILE if path.is_dir() else path
    if not path.is_file():
        raise CheckpointError(f"{path} is not there; name a run folder, a model file, or latest.")
    return path


def _read_ckpt(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # an unpickler refuses in many ways
        raise CheckpointError(
            f"{path} is broken, or holds more than tensors and plain data; it was not run."
        ) from error
    if not isinstance(checkpoint, dict) or CHECKPOINT_KEY not in checkpoint or "state_dict" not in checkpoint:
        raise CheckpointError(f"{path} is no checkpoint of satseg.")
    check_document(checkpoint[CHECKPOINT_KEY], path)
    weights, prefix = checkpoint["state_dict"], "network."
    if not isinstance(weights, dict) or not all(
        isinstance(k, str) and isinstance(v, Tensor) for k, v in weights.items()
    ):
        raise CheckpointError(f"{path} holds no weights: its state_dict is no mapping of names to tensors.")
    return checkpoint[CHECKPOINT_KEY], {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}


def _rebuild(described: Mapping[str, Any], path: Path, trusted_modules: Collection[str]) -> SegmentationNetwork:
    try:
        config = dict(described["model"])
        spec = DatasetSpec.from_dict(described["spec"])
        target = str(config["_target_"])
        options = {k: v for k, v in config.items() if k != "_target_"}
        check_options(options)
        temperature = float(described.get("temperature", 1.0))
        if not 0 < temperature < math.inf:
            raise ValueError(f"its temperature is {temperature}")
    except (KeyError, TypeError, ValueError, ConfigError, ModelError) as error:
        raise CheckpointError(f"{path} does not describe a model that may be built: {error}") from error
    options |= {"encoder_weights": None, "in_channels": spec.in_channels, "classes": spec.num_classes}
    constructor = resolve_target(target, trusted_modules)
    try:
        net = constructor(**options)
        return SegmentationNetwork(net, spec, config | {"encoder_weights": None}, temperature)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{path}: its model cannot be built ({type(error).__name__}: {reason}).") from error


def _fill(network: SegmentationNetwork, state: Mapping[str, Tensor], path: Path) -> None:
    own = network.state_dict()
    differing = sorted(own.keys() ^ state.keys()) or [k for k in own if own[k].shape != state[k].shape]
    if differing:
        raise CheckpointError(
            f"{path}: its weights are not the model's; {len(differing)} differ, such as {differing[0]}."
        )
    network.load_state_dict(dict(state))


__all__ = ["checkpoint_document", "fetch_checkpoint", "load_model", "read_header", "save_model"]
