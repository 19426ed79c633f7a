"""Focal loss over the softmax, with class weights; SMP's is one sigmoid a class and takes no weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy


class FocalLoss(nn.Module):
    """Cross-entropy that looks away from what is easy (Lin et al., 2017).

    Args:
        gamma: How far; 0 is cross-entropy.
        weight: Weights of the classes (K,).
    """

    def __init__(self, gamma: float = 2.0, weight: Tensor | None = None) -> None:
        super().__init__()
        self.gamma = gamma
        self.register_buffer("weight", weight, persistent=False)
        self.weight: Tensor | None

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the mean over pixels of logits (N, K, …) and class indices (N, …); weighted where weights are."""
        loss = cross_entropy(logits, target, reduction="none")
        loss = (1 - torch.exp(-loss)) ** self.gamma * loss
        if self.weight is None:
            return loss.mean()
        weights = self.weight[target]
        return (weights * loss).sum() / weights.sum()
