"""Optimizers and learning rate schedules."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from inspect import signature
from typing import Any

from timm.optim import create_optimizer_v2, get_optimizer_class, get_optimizer_info, list_optimizers
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, OneCycleLR, ReduceLROnPlateau

from satseg.errors import ConfigError


def build_optimizer(config: Mapping[str, Any], network: nn.Module, fused: bool = False) -> Optimizer:
    """Build an optimizer by its name in timm.

    Args:
        config: `name`, `lr`, `weight_decay`, `backbone_lr_factor`, and the optimizer's own options.
        network: The network; its `encoder` has the learning rate `lr * backbone_lr_factor`.
        fused: Use the fused kernel if the optimizer has one, unless the configuration says otherwise.

    Raises:
        ConfigError: If the name is unknown or an option is invalid.
    """
    options = dict(config)
    name = str(options.pop("name"))
    lr, decay, factor = (_number(options, key) for key in ("lr", "weight_decay", "backbone_lr_factor"))
    if name not in list_optimizers():
        raise ConfigError(
            f"optimizer.name={name}: timm has no such optimizer; choose one of {', '.join(list_optimizers())}."
        )
    groups = parameter_groups(network, lr, decay, factor)
    if get_optimizer_info(name).second_order:
        raise ConfigError(
            f"optimizer.name={name}: it needs second derivatives, which training does not compute; choose another."
        )
    if fused and "fused" in signature(get_optimizer_class(name, bind_defaults=False)).parameters:
        options.setdefault("fused", True)
    try:
        optimizer: Optimizer = create_optimizer_v2(groups, opt=name, lr=lr, weight_decay=decay, **options)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"optimizer: {name} rejects these options: {error}.") from error
    return optimizer


def scaled_lr(lr: Any, rule: str, devices: int) -> Any:
    """Return the learning rate scaled for the effective batch of several devices.

    Args:
        lr: Learning rate for one device.
        rule: `none`; `linear` (Goyal et al., 2017), for SGD; or `sqrt`, for Adam and its variants.
        devices: Number of devices that share an optimizer step.

    Raises:
        ConfigError: If the rule is unknown.
    """
    factors = {"none": 1.0, "linear": float(devices), "sqrt": math.sqrt(devices)}
    if rule not in factors:
        raise ConfigError(f"scale_lr={rule}: choose none, linear or sqrt.")
    return lr if devices == 1 or not isinstance(lr, int | float) else lr * factors[rule]


def _number(options: dict[str, Any], key: str) -> float:
    value = options.pop(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        raise ConfigError(f"optimizer.{key}={value}: expected a number of 0 or more.")
    return float(value)


def parameter_groups(network: nn.Module, lr: float, decay: float, factor: float) -> list[dict[str, Any]]:
    """Divide the trainable parameters into backbone and rest, with and without weight decay.

    Norms and biases (one-dimensional parameters) are not decayed. Empty groups are left out.
    """
    encoder: nn.Module = network.encoder  # type: ignore[assignment]
    backbone = {id(p) for p in encoder.parameters()}
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for parameter in network.parameters():
        if parameter.requires_grad:
            groups.setdefault((id(parameter) in backbone, parameter.ndim > 1), []).append(parameter)
    if not groups:
        raise ConfigError("Nothing to train: all weights are frozen.")
    return [
        {"params": params, "lr": lr * factor if is_backbone else lr, "weight_decay": decay if decayed else 0.0}
        for (is_backbone, decayed), params in sorted(groups.items(), reverse=True)
    ]


def build_scheduler(
    config: Mapping[str, Any], optimizer: Optimizer, total_steps: int, steps_per_epoch: int
) -> dict[str, Any] | None:
    """Build a learning rate scheduler.

    Args:
        config: `name` and its options; `warmup` is a fraction of all steps.
        optimizer: The optimizer to schedule.
        total_steps: Optimizer steps of the whole training.
        steps_per_epoch: Optimizer steps of one epoch.

    Returns:
        Lightning's scheduler configuration; None for a constant learning rate.

    Raises:
        ConfigError: If the name is unknown.
    """
    options = dict(config)
    name = str(options.pop("name"))
    if name == "none":
        return None
    if name == "plateau":
        monitor = options.pop("monitor")
        scheduler = ReduceLROnPlateau(optimizer, mode="max", **options)
        return {"scheduler": scheduler, "interval": "epoch", "monitor": monitor}
    if name == "onecycle":
        peaks = [group["lr"] for group in optimizer.param_groups]
        return {"scheduler": OneCycleLR(optimizer, peaks, total_steps + 1, **options), "interval": "step"}
    if name not in SHAPES:
        raise ConfigError(f"scheduler.name={name}: choose {', '.join(SHAPES)}, onecycle, plateau or none.")
    warmup = round(float(options.pop("warmup")) * total_steps)
    shape = SHAPES[name](**options)
    return {"scheduler": LambdaLR(optimizer, with_warmup(shape, warmup, total_steps)), "interval": "step"}


def with_warmup(shape: Callable[[float], float], warmup: int, total: int) -> Callable[[int], float]:
    """Return the learning rate factor by step: a linear warm-up, then the shape over the remaining steps."""

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        return shape(min(1.0, (step - warmup) / max(1, total - warmup)))

    return factor


def cosine(end: float = 0.0) -> Callable[[float], float]:
    """Return a half cosine from 1 to `end` (Loshchilov and Hutter, 2017)."""
    return lambda progress: end + (1 - end) * (1 + math.cos(math.pi * progress)) / 2


def poly(power: float = 0.9, end: float = 0.0) -> Callable[[float], float]:
    """Return the polynomial decay of DeepLab (Chen et al., 2018)."""
    return lambda progress: end + (1 - end) * (1 - progress) ** power


SHAPES: dict[str, Callable[..., Callable[[float], float]]] = {"cosine": cosine, "poly": poly}
