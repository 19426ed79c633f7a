"""Focal loss over the softmax with class weights; SMP's uses a sigmoid per class and takes no weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy


class FocalLoss(nn.Module):
    """Cross-entropy that down-weights easy pixels (Lin et al., 2017).

    Args:
        gamma: Strength of the down-weighting; 0 is cross-entropy.
        weight: Class weights (K,).
    """

    def __init__(self, gamma: float = 2.0, weight: Tensor | None = None) -> None:
        super().__init__()
        self.gamma = gamma
        self.register_buffer("weight", weight, persistent=False)
        self.weight: Tensor | None

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the mean over pixels, weighted by class if there are weights.

        Args:
            logits: (N, K, …).
            target: Class indices (N, …).
        """
        loss = cross_entropy(logits, target, reduction="none")
        loss = (1 - torch.exp(-loss)) ** self.gamma * loss
        if self.weight is None:
            return loss.mean()
        weights = self.weight[target]
        return (weights * loss).sum() / weights.sum()
