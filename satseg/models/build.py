"""Building a network from its configuration, for the bands and classes of a dataset."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import segmentation_models_pytorch as smp
import timm
import torch
from hydra.utils import get_class
from torch import nn

from satseg.errors import ModelError, ModelPairError, SatsegError, is_out_of_memory
from satseg.models.catalogue import BACKBONES, check_pair
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
        constructor = get_class(target)
        check_types(constructor, options)
        net: nn.Module = constructor(**options)
        _try(net, options["in_channels"])
    except SatsegError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        if not is_known(encoder):
            raise ModelError(unknown_backbone_message(encoder)) from error
        raise ModelPairError(unsuitable_backbone_message(target.rpartition(".")[2], encoder, error)) from error
    return net


def _try(net: nn.Module, in_channels: int) -> None:
    """Run the network once on a small non-square image, as some pairs fail only then."""
    training = net.training
    with torch.no_grad():
        logits = net.eval()(torch.zeros(1, in_channels, 2 * STRIDE, 3 * STRIDE))
    net.train(training)
    if logits.shape[-2:] != (2 * STRIDE, 3 * STRIDE):
        raise ValueError(f"the output is {tuple(logits.shape[-2:])} for an image of {(2 * STRIDE, 3 * STRIDE)}")


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
