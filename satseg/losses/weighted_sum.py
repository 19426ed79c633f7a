"""Training criterion: a weighted sum of losses over valid pixels, or over maps."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from satseg.errors import ConfigError
from satseg.losses.terms import MapLoss, build_term, trial_batch, try_term
from satseg.spec import IGNORE_INDEX


class WeightedSum(nn.Module):
    """Weighted sum of losses, which removes ignored and invalid pixels first.

    Args:
        terms: Partial constructors by name; each builds a loss of logits (1, K, P, 1) and classes (1, P, 1) of the P
            valid pixels, or a `MapLoss`.
        weights: Factor of each term; 1 for those left out.
        class_weights: Unused, as the datamodule computes them; see `set_class_weights`.
        ignore_index: Value of unlabelled pixels.

    Raises:
        ConfigError: If a term cannot be built, or a weight is given for an unknown one.
    """

    def __init__(
        self,
        terms: Mapping[str, Callable[..., nn.Module]],
        weights: Mapping[str, float] | None = None,
        class_weights: Any = None,
        ignore_index: int = IGNORE_INDEX,
    ) -> None:
        super().__init__()
        for name in weights or {}:
            if name not in terms:
                near = difflib.get_close_matches(str(name), terms, n=1)
                hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(terms)}."
                raise ConfigError(f"loss.weights.{name}: no term has this name; {hint}")
        self.makers = dict(terms)
        self.weights = {name: float((weights or {}).get(name, 1.0)) for name in terms}
        self.ignore_index = ignore_index
        self._class_weights: Tensor | None = None
        self.terms = nn.ModuleDict()
        for name in terms:
            term = self._build(name)
            try:
                self.terms[name] = term
            except (KeyError, TypeError) as error:  # a number, a dot, or a method of ModuleDict
                raise ConfigError(f"loss.terms.{name}: PyTorch cannot use this name; choose another.") from error
        self._nonfinite: Tensor | None = None

    def _build(self, name: str) -> nn.Module:
        make = self.makers[name]
        taken = _weight_parameter(make)
        given = taken is not None and (self._class_weights is not None or taken.default is taken.empty)
        return build_term(name, make, **({"weight": self._class_weights} if given else {}))

    def set_class_weights(self, weights: Tensor | None) -> None:
        """Pass class weights to every loss that takes them.

        Args:
            weights: One number per class, or None.

        Raises:
            ConfigError: If no loss takes weights.
        """
        if weights is None:
            return
        takers = [name for name, make in self.makers.items() if _weight_parameter(make)]
        if not takers:
            raise ConfigError(
                f"loss.class_weights: {' and '.join(self.makers)} weights all classes equally; use class_weights="
                "none, or a loss that takes weights: cross_entropy, ce_dice or focal."
            )
        self._class_weights = weights
        for name in takers:
            self.terms[name] = self._build(name)

    def forward(self, logits: Tensor, mask: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return the loss.

        Args:
            logits: (N, K, H, W).
            mask: Class indices (N, H, W), any integer dtype.
            valid: Boolean (N, H, W); all by default.

        Returns:
            A scalar in float32; zero, but connected to the graph, if no pixel is valid.
        """
        with torch.autocast(logits.device.type, enabled=False):
            logits, mask = logits.float(), mask.long()
            listed, maps = self._inputs(logits, mask, valid)
            if listed[0].numel() == 0:
                return listed[0].sum()
            values = {name: term(*(maps if isinstance(term, MapLoss) else listed)) for name, term in self.terms.items()}
            weighted = torch.stack([self.weights[name] * value for name, value in values.items()])
            if torch.is_grad_enabled():
                self._note_nonfinite(weighted.detach())
            return weighted.sum()

    def _inputs(self, logits: Tensor, mask: Tensor, valid: Tensor | None) -> tuple[tuple[Tensor, ...], ...]:
        """Return what terms are called with, over valid pixels and over maps."""
        counted = mask != self.ignore_index
        if valid is not None:
            counted = counted & valid
        pixels = logits.permute(0, 2, 3, 1)[counted].T[None, :, :, None]  # (1, K, P, 1)
        return (pixels, mask[counted][None, :, None]), (logits, mask.masked_fill(~counted, self.ignore_index), counted)

    def _note_nonfinite(self, values: Tensor) -> None:
        """Keep which terms were not finite in the first step where one was not: afterwards, all may be."""
        nonfinite = ~torch.isfinite(values)
        self._nonfinite = (
            nonfinite if self._nonfinite is None else self._nonfinite.where(self._nonfinite.any(), nonfinite)
        )

    def nonfinite_terms(self) -> list[str]:
        """Return the names of the terms that were not finite in the first training step in which one was not."""
        flags = [] if self._nonfinite is None else self._nonfinite.tolist()
        return [name for name, flag in zip(self.terms, flags) if flag]

    def try_terms(self, num_classes: int, device: torch.device | str) -> None:
        """Call a new copy of every term on a small batch: on the CPU, whose errors are clearer, and on a device.

        Raises:
            ConfigError: If a call fails, or does not give a finite scalar with a gradient.
        """
        for place in dict.fromkeys((torch.device("cpu"), torch.device(device))):
            logits, mask = trial_batch(num_classes, self.ignore_index, place)
            for name in self.terms:
                term = self._build(name).to(place)
                listed, maps = self._inputs(logits.clone(), mask, None)
                try_term(name, term, maps if isinstance(term, MapLoss) else listed, logits)


def _weight_parameter(make: Callable[..., Any]) -> inspect.Parameter | None:
    return inspect.signature(make).parameters.get("weight")
