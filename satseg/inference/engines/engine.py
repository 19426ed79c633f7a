"""What an engine is."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from satseg.spec import DatasetSpec


class Engine(Protocol):
    """Computes the logits of windows, by whichever library."""

    @property
    def name(self) -> str:
        """`torch`, `onnx`, `openvino` or `openvino_int8`."""

    @property
    def spec(self) -> DatasetSpec:
        """Inputs and classes of the model."""

    @property
    def batch_size(self) -> int:
        """How many windows it is given at a time."""

    def __call__(self, image: Tensor, valid: Tensor) -> Tensor:
        """Segment windows.

        Args:
            image: Raw numbers (N, C, H, W) in their own dtype, on the CPU.
            valid: Boolean (N, H, W).

        Returns:
            Logits (N, K, H, W), float32, on the engine's device.

        Raises:
            EngineError: If it was made for windows of another size.
        """
