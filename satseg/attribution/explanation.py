"""Evidence maps, computed with Captum."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from captum.attr import IntegratedGradients, LayerGradCam, LayerGradientXActivation
from torch import Tensor, nn
from torch.nn.functional import interpolate

from satseg.attribution.layers import Layer, find_layer, outline
from satseg.attribution.occlusion import OCCLUSION_PASSES, occlusion
from satseg.attribution.region import RegionScore, class_leads
from satseg.errors import ConfigError, EmptyRegionError
from satseg.models import SegmentationNetwork

INTEGRATION_STEPS = 32

LAYER_METHODS = ("gradcam", "hirescam")
METHODS = (*LAYER_METHODS, "integrated_gradients", "occlusion")
GRADIENT_PASSES = 3  # cost of a forward and backward pass, in forward passes


def num_passes(method: str) -> int:
    """Return the approximate cost of the evidence for one class, in forward passes.

    Args:
        method: One of `METHODS`.
    """
    search = 4  # the prediction, and the search for layers
    if method == "occlusion":
        return 1 + OCCLUSION_PASSES
    return search + GRADIENT_PASSES * (INTEGRATION_STEPS if method == "integrated_gradients" else 1)


@dataclass(frozen=True)
class Explanation:
    """Evidence for a class.

    Attributes:
        evidence: Float32 (H, W); negative values are evidence against the class. In units of the logit, except for
            `gradcam`, which is relative.
        layer: Name of the layer, or `input`.
        bands: Evidence (C,) summed over the image by band, if the method separates bands.
    """

    evidence: Tensor
    layer: str
    bands: Tensor | None = None

    @property
    def has_evidence(self) -> bool:
        """True if there is any evidence for the class."""
        return bool(self.evidence.max() > 0)


def explain(
    network: SegmentationNetwork,
    image: Tensor,
    valid: Tensor,
    pixels: Tensor,
    target: int,
    *,
    against: int | None = None,
    method: str = "gradcam",
    layer: str | Layer = "auto",
) -> Explanation:
    """Explain the sum of a class's logits over a region of one image.

    Args:
        network: Left unchanged: weights, buffers, mode, hooks, gradients.
        image: Raw numbers (1, C, H, W), on the network's device.
        valid: Boolean (1, H, W).
        pixels: The region (H, W), boolean.
        target: Index of the class.
        against: Index of a class to contrast with: the evidence is for the one over the other.
        method: `gradcam` (Selvaraju et al., 2017), `hirescam` (Draelos and Carin, 2020), `integrated_gradients`
            (Sundararajan et al., 2017) or `occlusion` (Zeiler and Fergus, 2014; of the class's log-odds).
        layer: For the first two methods: a name, as for `find_layer`, or a result of `layers_of` on an image of this
            size.

    Raises:
        LayerError: If the layer's activation is no map.
        ConfigError: If the method is unknown.
        EmptyRegionError: If the region has no pixel.
    """
    if method not in METHODS:
        raise ConfigError(f"method={method}: choose {', '.join(METHODS)}.")
    if not pixels.any():
        raise EmptyRegionError("The region has no pixel, so there is nothing to explain.")
    image = image.float().masked_fill(~valid[:, None], 0.0)  # nodata may be NaN
    score = RegionScore(network, valid, pixels, target, against)
    with evaluation_mode(network):
        if method in LAYER_METHODS:
            return _layer_evidence(network, score, image, valid, method, layer)
        if method == "occlusion":
            return Explanation(occlusion(network, image, valid, class_leads(pixels, (target, against)))[0], "input")
        by_band = _integrated_gradients(score, image, network.normaliser.shift)[
            0
        ]  # the value that is standardised to zero
    return Explanation(by_band.sum(0), "input", by_band.sum((1, 2)))


def layers_of(
    network: SegmentationNetwork, image: Tensor, valid: Tensor, names: Sequence[str] | None = None
) -> list[Layer]:
    """Find layers by name; the result is valid for images of this size.

    Args:
        network: Left unchanged.
        image: Raw values (1, C, H, W).
        valid: Boolean (1, H, W).
        names: As for `find_layer`; an outline of the network by default, from fine to coarse.

    Raises:
        LayerError: If a layer's activation is no map.
    """
    image = image.float().masked_fill(~valid[:, None], 0.0)
    with evaluation_mode(network):
        standardised = network.standardise(image, valid)
        if names is None:
            return outline(network.net, standardised)
        return [find_layer(network.net, name, standardised) for name in names]


@contextmanager
def evaluation_mode(network: nn.Module) -> Iterator[None]:
    """Switch to evaluation mode and restore every module's mode afterwards."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        with torch.enable_grad(), torch.autocast(next(network.parameters()).device.type, enabled=False):
            yield
    finally:
        for module, training in modes:
            module.training = training


def _layer_evidence(
    network: SegmentationNetwork, score: RegionScore, image: Tensor, valid: Tensor, method: str, layer: str | Layer
) -> Explanation:
    standardised = network.standardise(image, valid)
    found = layer if isinstance(layer, Layer) else find_layer(network.net, layer, standardised)
    with found.tapped() as tap, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # Captum's, about gradients that it requires itself
        maps = _gradcam(score, tap, image) if method == "gradcam" else _hirescam(score, tap, image)
    return Explanation(_enlarge(maps, found, standardised.shape[-2:], image.shape[-2:]), found.name)


def _gradcam(score: RegionScore, tap: nn.Module, image: Tensor) -> Tensor:
    maps: Tensor = LayerGradCam(score, tap).attribute(image)
    return maps.detach()


def _hirescam(score: RegionScore, tap: nn.Module, image: Tensor) -> Tensor:
    products: Tensor = LayerGradientXActivation(score, tap).attribute(image)
    return products.detach().sum(1, keepdim=True)


def _enlarge(maps: Tensor, layer: Layer, padded: torch.Size, size: torch.Size) -> Tensor:
    """Resize a map (1, 1, h, w), which covers the padded image, to the image's own pixels (H, W)."""
    whole = interpolate(maps.float(), size=tuple(padded), mode="bilinear", align_corners=False)
    return whole[0, 0, : size[0], : size[1]].contiguous()


def _integrated_gradients(score: RegionScore, image: Tensor, background: Tensor) -> Tensor:
    baseline = background.expand_as(image).contiguous()
    attribution: Tensor = IntegratedGradients(score).attribute(
        image, baseline, n_steps=INTEGRATION_STEPS, internal_batch_size=1
    )
    return attribution.detach()
