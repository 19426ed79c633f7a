"""Building a network from its configuration, for the bands and classes of a dataset."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import segmentation_models_pytorch as smp
import timm
import torch
from torch import nn

from satseg.errors import ModelError, ModelPairError, SatsegError, is_out_of_memory, line_within
from satseg.models.catalogue import BACKBONES, LIBRARY, check_pair, import_class
from satseg.models.decoder_options import check_options, check_types
from satseg.models.encoders import PREFIX, is_known, unknown_backbone_message, unsuitable_backbone_message, with_prefix
from satseg.models.input_layer import adapt_input, check_rule, rgb_backbone
from satseg.models.network import STRIDE, SegmentationNetwork
from satseg.models.weights import encoder_options
from satseg.spec import DatasetSpec


def build_model(config: Mapping[str, Any], spec: DatasetSpec) -> SegmentationNetwork:
    """Build a network.

    Args:
        config: `_target_` (the full name of the class), `encoder_name` (timm's, with or without `tu-`, or SMP's own),
            `encoder_weights` (`hub`, `none` or the path of a file), `encoder_adapt` (the rule for other bands; see
            `adapt_input`), and the class's own options.
        spec: Spec of the dataset; mean and std that are None are replaced by the backbone's.

    Returns:
        The network, whose `config` rebuilds it without weights.

    Raises:
        ModelPairError: If the decoder does not work on the backbone.
        ModelError: If an option could not be loaded from a model file.
        BackboneWeightsError: If the weights cannot be obtained or do not fit.
        ConfigError: If there is no rule for adapting weights of three bands to others, or a model file could not hold
            the spec.
    """
    DatasetSpec.from_dict(spec.to_dict())  # else its model file could be written, but not read
    options = {k: v for k, v in config.items() if k not in ("_target_", "encoder_weights", "encoder_adapt")}
    check_options(options)
    options |= {"in_channels": spec.in_channels, "classes": spec.num_classes}
    target, encoder = str(config["_target_"]), str(options.get("encoder_name"))
    if encoder not in smp.encoders.encoders:
        encoder = options["encoder_name"] = with_prefix(encoder)
    check_pair(target, encoder)
    weights, rule, bands = str(config.get("encoder_weights") or "none"), config.get("encoder_adapt"), _bands(spec)
    if weights != "none":
        check_rule(rule, bands, encoder)
    if weights != "none" and encoder.removeprefix(PREFIX) not in BACKBONES:
        with torch.random.fork_rng(devices=[]):  # fail before weights are downloaded
            _construct(target, encoder, options | {"encoder_weights": None})
    source = encoder_options(encoder, weights)
    net = _construct(target, encoder, options | source)
    plain = {"_target_": target, **options, "encoder_weights": None}
    network = SegmentationNetwork(net, with_backbone_statistics(spec, encoder), plain)
    if weights != "none":
        adapt_input(network.encoder, rule, bands, lambda: rgb_backbone(encoder, source))
    return network


def _bands(spec: DatasetSpec) -> list[str]:
    return [band for source in spec.inputs for band in source.bands]


def _construct(target: str, encoder: str, options: dict[str, Any]) -> nn.Module:
    try:
        constructor = import_class(target)
    except Exception as error:  # the user's module may fail in any way
        raise ModelError(
            f"model._target_={target} cannot be imported: {' '.join(str(error).split())}. Check the spelling, and that "
            "its folder is the current one or on PYTHONPATH, or its package installed."
        ) from error
    try:
        check_types(constructor, options)
        net: nn.Module = constructor(**options)
        _check_output(net, options["in_channels"], options["classes"])
    except SatsegError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        if not is_known(encoder):
            raise ModelError(unknown_backbone_message(encoder)) from error
        if not target.startswith(LIBRARY):  # a class of the user's: most likely no backbone would do
            raise ModelError(_failure_message(constructor, encoder, error)) from error
        raise ModelPairError(unsuitable_backbone_message(constructor.__name__, encoder, error)) from error
    return net


def _check_output(net: nn.Module, in_channels: int, classes: int) -> None:
    """Run the network once on a small non-square image, as some pairs fail only then.

    Raises:
        ModelError: If it has no encoder, or does not return logits of the image's size.
    """
    name, size = type(net).__name__, (2 * STRIDE, 3 * STRIDE)
    if not isinstance(getattr(net, "encoder", None), nn.Module):
        raise ModelError(f"{name} has no encoder: its constructor must assign the backbone to self.encoder.")
    training = net.training
    with torch.no_grad():
        logits = net.eval()(torch.zeros(1, in_channels, *size))
    net.train(training)
    expected = (1, classes, *size)
    found = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
    if found != expected:
        raise ModelError(
            f"{name}.forward returns {found} for an image of {(1, in_channels, *size)} and {classes} classes; expected "
            f"logits of {expected}."
        )


def _failure_message(constructor: type[Any], encoder: str, error: Exception) -> str:
    """Return the message for a user's own class that fails, with the line of its file."""
    line = line_within(error, constructor.__module__)
    where = f" ({line})" if line else ""
    reason = " ".join(str(error).split()).rstrip(".")
    return (
        f"{constructor.__module__}.{constructor.__qualname__} fails on the backbone {encoder.removeprefix(PREFIX)}: "
        f"{type(error).__name__}: {reason}{where}. What a decoder must do: docs/extend.md."
    )


def with_backbone_statistics(spec: DatasetSpec, encoder: str) -> DatasetSpec:
    """Return the spec with the backbone's mean and std if it has none."""
    source = spec.inputs[0]
    if source.mean is not None and source.std is not None:
        return spec
    backbone = timm.get_pretrained_cfg(encoder.removeprefix("tu-"))
    mean, std = (backbone.mean, backbone.std) if backbone else ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    bands = len(source.bands)
    if len(mean) != bands:
        raise ModelError(
            f"dataset.normalisation=backbone: {encoder} has statistics of {len(mean)} bands, but the images have "
            f"{bands}; choose standardise."
        )
    filled = dataclasses.replace(source, mean=tuple(map(float, mean)), std=tuple(map(float, std)))
    return dataclasses.replace(spec, inputs=(filled, *spec.inputs[1:]))
