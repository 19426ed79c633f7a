"""Transfer learning: freezing the backbone, and initialising from another network."""

from __future__ import annotations

import torch
from torch import Tensor

from satseg.errors import ModelError
from satseg.models.network import SegmentationNetwork


class _Frozen:
    """Keeps batch norm layers in evaluation mode when their parent is set to training mode."""

    def __call__(self, module: torch.nn.Module, inputs: object) -> None:
        for part in module.modules():
            if isinstance(part, torch.nn.modules.batchnorm._BatchNorm):
                part.eval()


def freeze_backbone(network: SegmentationNetwork) -> None:
    """Freeze the backbone's weights and batch statistics."""
    network.encoder.requires_grad_(False)
    network.encoder.register_forward_pre_hook(_Frozen())


def init_from(network: SegmentationNetwork, source: SegmentationNetwork) -> str:
    """Copy matching weights from another network.

    Classes of the same name get their rows of the head, bands of the same name their part of the first convolution;
    all other weights are unchanged.

    Args:
        network: Changed in place.
        source: A trained network of the same model and backbone.

    Returns:
        A summary of what was copied.

    Raises:
        ModelError: If fewer than half of the tensors fit.
    """
    target, given = network.state_dict(), source.state_dict()
    rows = _places(network.spec.class_names, source.spec.class_names)
    bands = _places(network.spec.inputs[0].bands, source.spec.inputs[0].bands)
    first = next(f"net.encoder.{n}" for n, p in network.encoder.named_parameters() if p.ndim == 4)
    same_rows, same_bands = rows == _same(network.spec.class_names), bands == _same(network.spec.inputs[0].bands)
    copied, adapted = 0, 0
    for name, tensor in target.items():
        if name not in given:
            continue
        moved = (_is_head(name) and not same_rows) or (name == first and not same_bands)
        if given[name].shape == tensor.shape and not moved:
            tensor.copy_(given[name])
            copied += 1
        elif _adapt(name, tensor, given[name], rows, bands):
            adapted += 1
    if copied < len(target) / 2:
        raise ModelError(f"init_from: only {copied} of {len(target)} tensors fit; use the same model and backbone.")
    return f"Started from another model: {copied} of {len(target)} tensors copied, {adapted} adapted."


def _is_head(name: str) -> bool:
    return name.startswith("net.segmentation_head.")


def _same(names: tuple[str, ...]) -> list[tuple[int, int]]:
    return [(i, i) for i in range(len(names))]


def _places(wanted: tuple[str, ...], there: tuple[str, ...]) -> list[tuple[int, int]]:
    return [(i, there.index(name)) for i, name in enumerate(wanted) if name in there]


def _adapt(name: str, tensor: Tensor, given: Tensor, rows: list[tuple[int, int]], bands: list[tuple[int, int]]) -> bool:
    """Copy the rows of classes, or the columns of bands, that both networks have."""
    if _is_head(name) and tensor.shape[1:] == given.shape[1:]:
        for new, old in rows:
            tensor[new] = given[old]
        return bool(rows)
    if (
        tensor.ndim == 4
        and given.ndim == 4
        and tensor.shape[0] == given.shape[0]
        and tensor.shape[2:] == given.shape[2:]
    ):
        for new, old in bands:
            tensor[:, new] = given[:, old]
        return bool(bands)
    return False
