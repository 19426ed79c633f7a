"""Optimizers and schedules."""

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
    """Build an optimizer by timm's name for it.

    Args:
        config: `name`, `lr`, `weight_decay`, `backbone_lr_factor`, and the optimizer's own options.
        network: With an `encoder`, whose learning rate is `lr * backbone_lr_factor`.
        fused: Step in one kernel, where the optimizer has one and the configuration does not say otherwise.

    Raises:
        ConfigError: If the name is unknown or a number is none.
    """
    options = dict(config)
    name = str(options.pop("name"))
    lr, decay, factor = (_number(options, key) for key in ("lr", "weight_decay", "backbone_lr_factor"))
    if name not in list_optimizers():
        raise ConfigError(
            f"optimizer.name={name}: timm has no such optimizer; there are {', '.join(list_optimizers())}."
        )
    groups = parameter_groups(network, lr, decay, factor)
    if get_optimizer_info(name).second_order:
        raise ConfigError(
            f"optimizer.name={name}: it needs second derivatives, which no loss here gives; choose another."
        )
    if fused and "fused" in signature(get_optimizer_class(name, bind_defaults=False)).parameters:
        options.setdefault("fused", True)
    try:
        optimizer: Optimizer = create_optimizer_v2(groups, opt=name, lr=lr, weight_decay=decay, **options)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"optimizer: {name} does not take these options: {error}.") from error
    return optimizer


def scaled_lr(lr: Any, rule: str, devices: int) -> Any:
    """Return the learning rate for batches that are so many times as large.

    Args:
        lr: For one device.
        rule: `none`; `linear` (Goyal et al., 2017), for SGD; or `sqrt`, for Adam and its kin.
        devices: How many share an optimiser's step.

    Raises:
        ConfigError: If there is no such rule.
    """
    factors = {"none": 1.0, "linear": float(devices), "sqrt": math.sqrt(devices)}
    if rule not in factors:
        raise ConfigError(f"scale_lr={rule}: choose none, linear or sqrt.")
    return lr if devices == 1 or not isinstance(lr, int | float) else lr * factors[rule]


def _number(options: dict[str, Any], key: str) -> float:
    value = options.pop(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        raise ConfigError(f"optimizer.{key}={value}: expected a number from 0 up.")
    return float(value)


def parameter_groups(network: nn.Module, lr: float, decay: float, factor: float) -> list[dict[str, Any]]:
    """Divide what is trained into backbone and rest, with decay and without.

    Norms and biases (everything of one dimension) are not decayed. Groups that are empty are left out.
    """
    encoder: nn.Module = network.encoder  # type: ignore[assignment]
    backbone = {id(p) for p in encoder.parameters()}
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for parameter in network.parameters():
        if parameter.requires_grad:
            groups.setdefault((id(parameter) in backbone, parameter.ndim > 1), []).append(parameter)
    if not groups:
        raise ConfigError("Nothing is left to train: every weight is frozen.")
    return [
        {"params": params, "lr": lr * factor if is_backbone else lr, "weight_decay": decay if decayed else 0.0}
        for (is_backbone, decayed), params in sorted(groups.items(), reverse=True)
    ]


def build_scheduler(
    config: Mapping[str, Any], optimizer: Optimizer, total_steps: int, steps_per_epoch: int
) -> dict[str, Any] | None:
    """Build what changes the learning rate.

    Args:
        config: `name` and its options; `warmup` is a share of all steps.
        optimizer: Whose learning rates are changed.
        total_steps: Optimizer steps of the whole training.
        steps_per_epoch: Optimizer steps of one epoch.

    Returns:
        Lightning's description of a scheduler; None for a constant rate.

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
    """Return the factor by step: a straight rise over the warm-up, then the shape over the rest, from 0 to 1."""

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        return shape(min(1.0, (step - warmup) / max(1, total - warmup)))

    return factor


def cosine(end: float = 0.0) -> Callable[[float], float]:
    """Half a cosine, from 1 to `end` (Loshchilov and Hutter, 2017)."""
    return lambda progress: end + (1 - end) * (1 + math.cos(math.pi * progress)) / 2


def poly(power: float = 0.9, end: float = 0.0) -> Callable[[float], float]:
    """The polynomial decay of DeepLab (Chen et al., 2018)."""
    return lambda progress: end + (1 - end) * (1 - progress) ** power


SHAPES: dict[str, Callable[..., Callable[[float], float]]] = {"cosine": cosine, "poly": poly}
