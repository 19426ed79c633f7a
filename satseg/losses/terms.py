"""Terms of a loss: the base class of those over maps, their construction, and a trial before training."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from satseg.errors import ConfigError, line_within

ARGUMENTS = ("logits", "target", "valid")
TRIAL_SIZE = 64
PIXELS = (
    "It is called as forward(logits, target) on pixels, (1, K, P, 1) and (1, P, 1); a loss over neighbouring pixels "
    "extends satseg.losses.MapLoss."
)
MAPS = (
    "It is called as forward(logits, target, valid) on maps, (N, K, H, W), (N, H, W) and (N, H, W); where valid is "
    "False, possibly in a whole image, target is 255."
)
DIFFERENTIABLE = "compute it from logits by differentiable functions, without detach(), argmax(), item() or NumPy."


class MapLoss(nn.Module):
    """A term of `WeightedSum` over whole maps instead of a list of valid pixels, such as a boundary loss.

    `WeightedSum` cannot remove invalid pixels from a map: `forward` must give them no weight.
    """

    def forward(self, logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        """Return the loss, a scalar.

        Args:
            logits: (N, K, H, W), float32.
            target: Class indices (N, H, W), int64; the ignore index, 255, wherever `valid` is False.
            valid: Boolean (N, H, W): labelled and not nodata. At least one pixel is.
        """
        raise NotImplementedError("forward is not defined")


def build_term(name: str, make: Callable[..., Any], **options: Any) -> nn.Module:
    """Build a term.

    Raises:
        ConfigError: If its constructor fails, or gives no initialised `nn.Module`.
    """
    target = getattr(make, "func", make)
    try:
        term = make(**options)
    except Exception as error:
        raise ConfigError(
            f"loss.terms.{name}: {_name(target)} cannot be built: {_described(error, target)}."
        ) from error
    if not isinstance(term, nn.Module):
        raise ConfigError(f"loss.terms.{name}: {_name(target)} does not extend torch.nn.Module, as a loss must.")
    if "_modules" not in vars(term):
        raise ConfigError(f"loss.terms.{name}: the constructor of {_name(target)} must call super().__init__() first.")
    return term


def trial_batch(num_classes: int, ignore_index: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return logits (2, K, H, W) that require a gradient and a mask (2, H, W) for a trial of terms.

    The first map holds all classes and some ignored pixels; the second is ignored as a whole.
    """
    shape = (2, num_classes, TRIAL_SIZE, TRIAL_SIZE)
    logits = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(device)
    mask = torch.full((2, TRIAL_SIZE, TRIAL_SIZE), ignore_index, device=device)
    labelled = mask[0, : -TRIAL_SIZE // 8]
    labelled.copy_((torch.arange(labelled.numel()) // 8 % num_classes).view_as(labelled))
    return logits.requires_grad_(), mask


def try_term(name: str, term: nn.Module, inputs: tuple[Tensor, ...], logits: Tensor) -> None:
    """Call a term once, and check its value and gradient.

    Args:
        name: Name of the term.
        term: The term.
        inputs: What it is called with, of a trial batch.
        logits: The batch's logits, from which the inputs are computed.

    Raises:
        ConfigError: If the call fails, or does not give a finite scalar with a finite gradient to the logits of valid
            pixels only.
    """
    place = f"loss.terms.{name}: {_name(type(term))}"
    called = MAPS if isinstance(term, MapLoss) else PIXELS
    try:
        inspect.signature(term.forward).bind(*inputs)
    except TypeError as error:
        raise ConfigError(f"{place} defines forward{inspect.signature(term.forward)}. {called}") from error
    versions = [given._version for given in inputs]
    try:
        value = term(*inputs)
        changed = [name for name, given, old in zip(ARGUMENTS, inputs, versions) if given._version != old]
        problem = f"changes {changed[0]} in place; clone it first." if changed else _problem(value, called)
        if problem is None:
            (gradient,) = torch.autograd.grad(value, logits, allow_unused=True)
            problem = _gradient_problem(gradient, inputs, called)
    except Exception as error:
        raise ConfigError(f"{place} failed in a trial: {_described(error, type(term))}. {called}") from error
    if problem is not None:
        raise ConfigError(f"{place} {problem}")


def _problem(value: Any, called: str) -> str | None:
    if not isinstance(value, Tensor):
        returned = "None" if value is None else f"a {type(value).__name__}"
        return f"returned {returned}; expected a scalar tensor: {DIFFERENTIABLE}"
    if value.ndim > 0:
        return f"returned a tensor of shape {tuple(value.shape)}; expected a scalar, such as the mean."
    if not value.is_floating_point():
        return f"returned a tensor of {str(value.dtype).removeprefix('torch.')}; expected a floating-point number."
    if not torch.isfinite(value):
        return f"returned {value.item()} in a trial; expected a finite number. {called}"
    if not value.requires_grad:
        return f"returned a tensor without a gradient: {DIFFERENTIABLE}"
    return None


def _gradient_problem(gradient: Tensor | None, inputs: tuple[Tensor, ...], called: str) -> str | None:
    if gradient is None:
        return f"returned a tensor that does not depend on logits: {DIFFERENTIABLE}"
    if not torch.isfinite(gradient).all():
        return f"has a gradient that is not finite in a trial. {called}"
    if len(inputs) > 2 and gradient.movedim(1, -1)[~inputs[2]].any():
        return "gives weight to pixels where valid is False: leave them out, as in losses[valid].mean()."
    return None


def _name(target: Any) -> str:
    return f"{getattr(target, '__module__', '')}.{getattr(target, '__qualname__', repr(target))}"


def _described(error: Exception, target: Any) -> str:
    """Return an error's message, with the line of the term's package that it comes from."""
    message = " ".join(str(error).split()).rstrip(".")
    line = line_within(error, str(getattr(target, "__module__", "")))
    return ": ".join(filter(None, (line, type(error).__name__, message)))
