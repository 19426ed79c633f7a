"""The engine interface, and eager PyTorch behind it."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from satseg.models import SegmentationNetwork
from satseg.spec import DatasetSpec

GPU_BATCH = 4


class Engine(Protocol):
    """Computes the logits of windows with some library."""

    @property
    def name(self) -> str:
        """`torch`, `onnx`, `openvino` or `openvino_int8`."""

    @property
    def spec(self) -> DatasetSpec:
        """Inputs and classes of the model."""

    @property
    def batch_size(self) -> int:
        """Number of windows per batch."""

    def __call__(self, image: Tensor, valid: Tensor) -> Tensor:
        """Segment windows.

        Args:
            image: Raw values (N, C, H, W) in their own dtype, on the CPU.
            valid: Boolean (N, H, W).

        Returns:
            Logits (N, K, H, W), float32, on the engine's device.

        Raises:
            EngineError: If the engine was built for windows of another size.
        """


class TorchEngine:
    """Eager PyTorch, channels last: float32 on the CPU, 16-bit floats on a GPU.

    Args:
        network: A trained network; it is moved to the device.
        device: Device to compute on.
    """

    name = "torch"
    why = ""  # reason for which `auto` chose it

    def __init__(self, network: SegmentationNetwork, device: torch.device) -> None:
        self.network = network.to(device).to(memory_format=torch.channels_last).eval()
        self.device = device
        self.batch_size = 1 if device.type == "cpu" else GPU_BATCH
        self.precision = _precision(device)

    @property
    def spec(self) -> DatasetSpec:
        """Inputs and classes of the model."""
        return self.network.spec

    def __call__(self, image: Tensor, valid: Tensor) -> Tensor:
        """Segment windows; see `Engine`."""
        moved = image.to(self.device, non_blocking=True).contiguous(memory_format=torch.channels_last)
        reduced = torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32)
        with torch.no_grad(), reduced:
            logits: Tensor = self.network(moved, valid.to(self.device, non_blocking=True))
        return logits


def _precision(device: torch.device) -> torch.dtype:
    if device.type != "cuda":
        return torch.float32
    with torch.cuda.device(device):
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
