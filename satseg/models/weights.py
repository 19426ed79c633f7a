"""Loading a backbone's pretrained weights, from the hub or a file."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from satseg.errors import BackboneWeightsError
from satseg.models.finite import nonfinite_tensor

logger = logging.getLogger(__name__)

MIN_MATCHED = 0.9  # fraction of the backbone's tensors that a file must have


def encoder_options(encoder: str, weights: str) -> dict[str, Any]:
    """Return the constructor's options for weights from the hub or a file, or for random ones.

    Raises:
        BackboneWeightsError: If they cannot be obtained or do not fit.
    """
    if weights == "none":
        return {"encoder_weights": None}
    logging.getLogger("timm").setLevel(logging.ERROR)  # else it lists the unused weights of the classifier
    if weights == "hub":
        file = _fetch(encoder)
        return {"encoder_weights": True, **({"pretrained_cfg_overlay": {"file": file}} if file else {})}
    path = Path(weights)
    state = _load(path)
    nonfinite = nonfinite_tensor(state)
    if nonfinite is not None:
        raise BackboneWeightsError(f"backbone.weights={path}: {nonfinite} has values that are not finite.")
    _check(encoder, path, state)
    return {"encoder_weights": True, "pretrained_cfg_overlay": {"file": str(path)}}


def _fetch(encoder: str) -> str | None:
    """Return the weights file from the hub, downloaded if not cached; None if timm gets it from elsewhere."""
    name = encoder.removeprefix("tu-")
    config = timm.get_pretrained_cfg(name)
    if config is None or not (config.hf_hub_id or config.url or config.file):
        raise BackboneWeightsError(f"No pretrained weights are published for {name}; use backbone.weights=none.")
    if not config.hf_hub_id:
        return None
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # else it logs each retry
    shorthand = config.hf_hub_id == "timm/"  # timm's shorthand for its organisation and the model's name
    repository = f"timm/{config.architecture}.{config.tag}" if shorthand else config.hf_hub_id
    filename = config.hf_hub_filename or "model.safetensors"
    try:
        with suppress(LocalEntryNotFoundError):
            return hf_hub_download(repository, filename, local_files_only=True)
        logger.info("Downloading %s from the hub", repository)
        return hf_hub_download(repository, filename, etag_timeout=5)
    except Exception as error:
        raise BackboneWeightsError(
            f"The pretrained weights of {name} cannot be fetched from the hub ({type(error).__name__}). Give a local "
            f"file, backbone.weights=/path/to/{name}.safetensors, or start from random weights, backbone.weights=none."
        ) from error


def _load(path: Path) -> dict[str, Tensor]:
    """Read a weights file, unpickling only tensors."""
    if not path.is_file():
        raise BackboneWeightsError(f"backbone.weights={path} does not exist; choose hub, none, or the path of a file.")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError, ValueError) as error:
        raise BackboneWeightsError(f"backbone.weights={path} is corrupt: {error}.") from error
    except Exception as error:  # unpicklers raise many kinds of errors
        raise BackboneWeightsError(f"backbone.weights={path} holds more than tensors, or is corrupt.") from error
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise BackboneWeightsError(f"backbone.weights={path} is not a mapping of names to tensors.")
    return state


def _check(encoder: str, path: Path, state: dict[str, Tensor]) -> None:
    """Compare names of tensors, as non-strict loading would hide that none fits."""
    with torch.device("meta"):
        own = set(timm.create_model(encoder.removeprefix("tu-"), features_only=True).state_dict())
    names = {_flat(k) for k in state}
    matched = sum(_flat(k) in names for k in own) / max(len(own), 1)
    if matched < MIN_MATCHED:
        raise BackboneWeightsError(
            f"backbone.weights={os.fspath(path)} has {matched:.0%} of the tensors of {encoder.removeprefix('tu-')}: "
            "it belongs to another network, or its names are not timm's."
        )


def _flat(name: str) -> str:
    """Return a name without the changes of feature extraction (`stages.0.` becomes `stages_0.`)."""
    return name.removeprefix("module.").replace(".", "_")
