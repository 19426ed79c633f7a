"""Networks too large for one device: each holds a share of weights, gradients and optimiser states (FSDP2)."""

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
from satseg.models.torch_file import check_torch_file

MIN_PARAMETERS = 1_000_000  # of a part that is gathered for itself: smaller messages cost more than they save


class SyncNorms(TorchSyncBatchNorm):
    """Shares the statistics of batch norm among devices, and keeps the activations that timm has inside its norms."""

    def apply(self, model: nn.Module) -> nn.Module:
        """Convert a model's norms, in place but for a model that is one itself."""
        converted: nn.Module = convert_sync_batchnorm(model)
        return converted


class ShardedStrategy(ModelParallelStrategy):
    """Lightning's strategy for models that shard themselves, over all devices; one file is a whole checkpoint."""

    def __init__(self) -> None:
        super().__init__(tensor_parallel_size=1, save_distributed_checkpoint=False)

    def setup_environment(self) -> None:
        """Share among all processes, on whichever machine."""
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """Read a checkpoint: tensors and plain data only.

        Raises:
            CheckpointError: If it is broken, holds more than that, is of another network, or has weights that are not
                finite.
        """
        try:
            check_torch_file(Path(checkpoint_path))  # a folder, whose index torch would unpickle, is none
            loaded = super().load_checkpoint(checkpoint_path, weights_only=True)
        except CheckpointError:
            raise
        except Exception as error:  # an unpickler refuses in many ways
            raise CheckpointError(
                f"{checkpoint_path} is broken, holds more than tensors and plain data, or is of another network."
            ) from error
        broken = nonfinite_tensor(self._root.state_dict())
        if broken is not None:
            raise CheckpointError(
                f"{checkpoint_path} is of a run that has diverged: {broken} has numbers that are not finite."
            )
        return loaded

    def on_validation_start(self) -> None:
        """Bring the weights together: devices score different numbers of images, and none may wait for another.

        All score by the first device's statistics of batch norm, which are those that are saved.
        """
        self._broadcast(self._root.buffers())
        for part in self._shared():
            part.set_reshard_after_forward(False, recurse=False)
            part.unshard()

    def on_validation_end(self) -> None:
        """Share them again."""
        for part in self._shared():
            part.set_reshard_after_forward(not isinstance(part, SegmentationNetwork), recurse=False)
            part.reshard()

    @staticmethod
    def _broadcast(tensors: Iterable[Tensor]) -> None:
        """Give all devices what the first has."""
        for tensor in tensors:
            torch.distributed.broadcast(tensor.data, 0)

    def _shared(self) -> list[FSDPModule]:
        return [module for module in self._root.modules() if isinstance(module, FSDPModule)]

    def shard(self, network: SegmentationNetwork) -> None:
        """Give each device a share of a network, by parts that are gathered when they compute; once.

        Args:
            network: Changed in place; the others take it over from the first device.
        """
        if isinstance(network, FSDPModule):
            return
        self._root = network
        if self._layer_sync is not None:
            self._layer_sync.apply(network)
        network.to(self.root_device)
        for parameter in network.parameters():
            parameter.data = parameter.data.contiguous()  # channels_last cannot be shared
        self._broadcast([*network.parameters(), *network.buffers()])
        for part in [*_parts(network.net), network]:
            fully_shard(part, mesh=self.device_mesh["data_parallel"])


def _parts(module: nn.Module) -> list[nn.Module]:
    """Return the smallest modules of enough parameters, children first; a container that is never called is none."""
    parts = [part for child in module.children() for part in _parts(child)]
    inside = {id(p) for part in parts for p in part.parameters()}
    own = sum(p.numel() for p in module.parameters() if id(p) not in inside)
    called = not isinstance(module, nn.ModuleList | nn.ModuleDict) and "forward" in dir(type(module))
    return [*parts, module] if called and own >= MIN_PARAMETERS else parts
