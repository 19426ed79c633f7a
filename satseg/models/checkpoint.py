"""Saving and loading of models; loading is local, and unpickles only tensors and plain data."""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from satseg.errors import CheckpointError, ModelError, printable
from satseg.files import cache_folder
from satseg.models import SegmentationNetwork
from satseg.models.blueprint import TensorInfo, build_like
from satseg.models.catalogue import ALLOWED_TARGETS, resolve_target
from satseg.models.decoder_options import check_types
from satseg.models.document import Document
from satseg.models.finite import nonfinite_tensor
from satseg.models.model_file import read_header, read_tensors, write_model_file
from satseg.models.torch_file import bounded_tensors, read_torch_file
from satseg.runs import LATEST, MODEL_FILE, find_checkpoint, model_path
from satseg.runs.finding import WANDB, named_models

PREFIX = "net."
CHECKPOINT_KEY = "satseg"


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
        path: Path of the file.
        network: The network.
        training: Facts of its training.
        protocol: Definitions of the scores.
        write: As for `write_model_file`.
    """
    write_model_file(path, network, Document.of(network, training, protocol), write)


def fetch_checkpoint(reference: str, runs_dir: Path = Path("runs")) -> Path:
    """Return the local path of a run folder or model file, downloading models of Weights & Biases.

    Args:
        reference: A path, `latest` for the newest complete run, or `wandb:entity/project/name:alias`.
        runs_dir: Folder to search for `latest`.

    Raises:
        RunError: If there is no complete run.
        CheckpointError: If the path does not exist, or the model cannot be downloaded.
    """
    if reference.startswith(WANDB):
        return _from_wandb(reference.removeprefix(WANDB))
    return find_checkpoint(reference, runs_dir)


def fetch_checkpoints(named: Any, runs_dir: Path) -> list[Path]:
    """Apply `fetch_checkpoint` to each model of an option; see `named_models`.

    Raises:
        SatsegError: As for these two functions.
    """
    return [fetch_checkpoint(name, runs_dir) for name in named_models(named, runs_dir)]


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
    except Exception as error:  # errors of the network, the service or the name have many types
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"checkpoint=wandb:{name} cannot be downloaded ({reason}); give it as entity/project/model:best."
        ) from error
    if not path.is_file():
        raise CheckpointError(f"checkpoint=wandb:{name} has no {MODEL_FILE}: it is not a model of satseg.")
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
        device: Device of the network.
        trusted_modules: Your own modules whose classes the file may name.
        runs_dir: Folder to search for `latest`.

    Returns:
        The network in evaluation mode.

    Raises:
        CheckpointError: If the file is missing, corrupt, or names something not allowed.
    """
    path = model_path(fetch_checkpoint(LATEST, runs_dir) if str(path) == LATEST else Path(path))
    if path.suffix == ".ckpt":
        document, state = _read_ckpt(path)
        tensors = {name: TensorInfo(tuple(t.shape), t.dtype) for name, t in state.items()}
        network = _rebuild(document, tensors, path, trusted_modules)
    else:
        network = _rebuild(*read_header(path), path, trusted_modules)
        state = read_tensors(path)
    _fill(network, state, path)
    return network.to(device).eval()


def read_document(path: Path) -> Document:
    """Read the description of a model from a model file or a Lightning checkpoint of satseg.

    Raises:
        CheckpointError: If the file is corrupt, or does not follow the schema.
    """
    return _read_ckpt(path)[0] if path.suffix == ".ckpt" else read_header(path)[0]


def _read_ckpt(path: Path) -> tuple[Document, dict[str, Tensor]]:
    checkpoint = read_torch_file(path, mmap=True)
    if not isinstance(checkpoint, dict) or CHECKPOINT_KEY not in checkpoint or "state_dict" not in checkpoint:
        raise CheckpointError(f"{path} is not a checkpoint of satseg.")
    try:
        document = Document.from_plain(checkpoint[CHECKPOINT_KEY])
    except (ModelError, ValueError) as error:
        raise CheckpointError(f"{path} does not describe a model that may be built: {error}") from error
    weights, prefix = bounded_tensors(checkpoint["state_dict"], path.stat().st_size), "network."
    if weights is None:
        raise CheckpointError(f"{path} holds no weights: its state_dict is not a mapping of names to tensors.")
    return document, {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}


def _rebuild(
    document: Document, tensors: Mapping[str, TensorInfo], path: Path, trusted_modules: Collection[str]
) -> SegmentationNetwork:
    """Build the network that a file describes, if it has the file's tensors, without setting its weights."""
    spec, config = document.spec, document.model | {"encoder_weights": None}
    target = str(config["_target_"])
    constructor = resolve_target(target, trusted_modules)
    options = {k: v for k, v in config.items() if k != "_target_"}
    options |= {"in_channels": spec.in_channels, "classes": spec.num_classes}

    def make() -> nn.Module:
        net: nn.Module = constructor(**options)
        return net

    own = {name.removeprefix(PREFIX) if name.startswith(PREFIX) else f"({name})": t for name, t in tensors.items()}
    try:
        check_types(constructor, options)
        net = build_like(make, own, path.stat().st_size, trusted=target not in ALLOWED_TARGETS)
        return SegmentationNetwork(net, spec, config, document.temperature)
    except ModelError as error:
        raise CheckpointError(f"{path}: {printable(str(error).rstrip('.'))}.") from error
    except Exception as error:
        reason = printable(" ".join(str(error).split()))[:200]
        raise CheckpointError(f"{path}: its model cannot be built ({type(error).__name__}: {reason}).") from error


def _fill(network: SegmentationNetwork, state: Mapping[str, Tensor], path: Path) -> None:
    nonfinite = nonfinite_tensor(state)
    if nonfinite is not None:
        raise CheckpointError(
            f"{path} holds a model that has diverged: {nonfinite} has values that are not finite. Train it again with "
            "a lower optimizer.lr."
        )
    network.load_state_dict(dict(state))


__all__ = ["fetch_checkpoint", "load_model", "read_document", "save_model"]
