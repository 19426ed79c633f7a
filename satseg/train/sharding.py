"""Sharding of weights, gradients and optimizer states across devices (FSDP2), for networks too large for one."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.layer_sync import TorchSyncBatchNorm
from pytorch_lightning.strategies import ModelParallelStrategy
from timm.layers import convert_sync_batchnorm
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard

from satseg.errors import CheckpointError
from satseg.models import SegmentationNetwork
from satseg.models.finite import nonfinite_tensor
from satseg.models.torch_file import checked_torch_file

MIN_PARAMETERS = 1_000_000  # of a module sharded on its own; for smaller ones communication costs more than it saves


class SyncNorms(TorchSyncBatchNorm):
    """Synchronised batch norm that keeps the activations inside timm's norm layers."""

    def apply(self, model: nn.Module) -> nn.Module:
        """Convert a model's norm layers in place; a model that is itself a norm layer is replaced."""
        converted: nn.Module = convert_sync_batchnorm(model)
        return converted


class ShardedStrategy(ModelParallelStrategy):
    """Lightning's strategy for models that shard themselves; shards over all devices, with single-file checkpoints."""

    def __init__(self) -> None:
        super().__init__(tensor_parallel_size=1, save_distributed_checkpoint=False)

    def setup_environment(self) -> None:
        """Shard over all processes of all machines."""
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """Read a checkpoint of tensors and plain data.

        Raises:
            CheckpointError: If it is corrupt, holds other objects, belongs to another network, or has weights that are
                not finite.
        """
        faults = "is corrupt, holds more than tensors and plain data, or belongs to another network"
        with checked_torch_file(Path(checkpoint_path), faults):  # refuses folders, whose index torch would unpickle
            loaded = super().load_checkpoint(checkpoint_path, weights_only=True)
        nonfinite = nonfinite_tensor(self._root.state_dict())
        if nonfinite is not None:
            raise CheckpointError(
                f"{checkpoint_path} is from a run that has diverged: {nonfinite} has values that are not finite."
            )
        return loaded

    def on_validation_start(self) -> None:
        """Gather the weights: devices score different numbers of images, so none may wait for another.

        All score with rank zero's batch norm statistics, which are the ones that are saved.
        """
        self._broadcast(self._root.buffers())
        for part in self._sharded():
            part.set_reshard_after_forward(False, recurse=False)
            part.unshard()

    def on_validation_end(self) -> None:
        """Shard the weights again."""
        for part in self._sharded():
            part.set_reshard_after_forward(not isinstance(part, SegmentationNetwork), recurse=False)
            part.reshard()

    @staticmethod
    def _broadcast(tensors: Iterable[Tensor]) -> None:
        """Copy tensors from rank zero to all devices."""
        for tensor in tensors:
            torch.distributed.broadcast(tensor.data, 0)

    def _sharded(self) -> list[FSDPModule]:
        return [module for module in self._root.modules() if isinstance(module, FSDPModule)]

    def shard(self, network: SegmentationNetwork) -> None:
        """Shard a network across the devices, module by module; does nothing if it is sharded already.

        Args:
            network: Changed in place; rank zero's weights are used on all devices.
        """
        if isinstance(network, FSDPModule):
            return
        self._root = network
        if self._layer_sync is not None:
            self._layer_sync.apply(network)
        network.to(self.root_device)
        for parameter in network.parameters():
            parameter.data = parameter.data.contiguous()  # FSDP does not support channels_last
        self._broadcast([*network.parameters(), *network.buffers()])
        for part in [*_parts(network.net), network]:
            fully_shard(part, mesh=self.device_mesh["data_parallel"])


def _parts(module: nn.Module) -> list[nn.Module]:
    """Return the smallest modules with at least MIN_PARAMETERS, children first, without uncalled containers."""
    parts = [part for child in module.children() for part in _parts(child)]
    inside = {id(p) for part in parts for p in part.parameters()}
    own = sum(p.numel() for p in module.parameters() if id(p) not in inside)
    called = not isinstance(module, nn.ModuleList | nn.ModuleDict) and "forward" in dir(type(module))
    return [*parts, module] if called and own >= MIN_PARAMETERS else parts
