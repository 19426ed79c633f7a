"""Evidence maps, against manual computations and pytorch-grad-cam; the model must stay unchanged."""

from typing import Any

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from pytorch_grad_cam import GradCAM, HiResCAM
from pytorch_grad_cam.utils.model_targets import SemanticSegmentationTarget
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn
from torch.nn.functional import interpolate

from satseg.attribution import METHODS, compare_with_prediction, explain, find_region, layers_of
from satseg.errors import ConfigError, EmptyRegionError, LayerError
from satseg.models import SegmentationNetwork, build_model
from satseg.models.catalogue import BACKBONES, INCOMPATIBLE, MODELS
from satseg.spec import DatasetSpec, InputSpec

SPEC = DatasetSpec(
    (InputSpec(("r", "g", "b"), "uint8", 255.0, mean=(0.5,) * 3, std=(0.2,) * 3),),
    ("a", "b", "c"),
    ((0, 0, 0), (1, 1, 1), (2, 2, 2)),
)


def build(model: str = "unet", backbone: str = "resnet18", **options: Any) -> SegmentationNetwork:
    torch.manual_seed(0)
    config = {"_target_": MODELS[model], "encoder_name": f"tu-{backbone}", "encoder_weights": "none"}
    return build_model(config | options, SPEC).eval()


def scene(height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(1)
    pixels = torch.zeros(height, width, dtype=torch.bool)
    pixels[5:30, 10:40] = True
    image = torch.randint(0, 256, (1, 3, height, width), dtype=torch.uint8)
    return image, torch.ones(1, height, width, dtype=torch.bool), pixels


def by_hand(network: SegmentationNetwork, module: nn.Module, target: int, against: int | None = None) -> Any:
    """Return activation and gradient of a layer on `scene(90, 75)`, computed with a hook and autograd."""
    image, valid, pixels = scene(90, 75)
    kept: list[Tensor] = []

    def keep(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        kept.append(output.clone())
        return kept[0]

    handle = module.register_forward_hook(keep)
    logits = network(image, valid)
    handle.remove()
    score = logits[0, target][pixels].sum()
    if against is not None:
        score = score - logits[0, against][pixels].sum()
    (gradient,) = torch.autograd.grad(score, kept[0])
    return kept[0].detach(), gradient


def enlarge(small: Tensor) -> Tensor:
    return interpolate(small, size=(96, 96), mode="bilinear", align_corners=False)[0, 0, :90, :75]


def close(found: Tensor, expected: Tensor) -> bool:
    return torch.allclose(found, expected, atol=1e-5 * float(expected.abs().max()), rtol=0) and found.std() > 0


@pytest.mark.parametrize("layer", ["encoder.model.layer4", "encoder.model.layer2", "decoder", "decoder.blocks[1]"])
@pytest.mark.parametrize("against", [None, 2])
def test_gradcam_and_hirescam_equal_a_manual_computation_on_a_padded_image(layer: str, against: int | None) -> None:
    network = build()
    image, valid, pixels = scene(90, 75)
    module = network.net.get_submodule(layer.replace("[1]", ".1"))
    activation, gradient = by_hand(network, module, 1, against)
    hirescam = enlarge((activation * gradient).sum(1, keepdim=True))
    gradcam = enlarge((activation * gradient.mean((2, 3), keepdim=True)).sum(1, keepdim=True))
    for method, expected in (("hirescam", hirescam), ("gradcam", gradcam)):
        found = explain(network, image, valid, pixels, 1, against=against, method=method, layer=layer)
        assert found.evidence.shape == (90, 75) and close(found.evidence, expected)


@pytest.mark.parametrize(("method", "other"), [("gradcam", GradCAM), ("hirescam", HiResCAM)])
def test_maps_equal_those_of_pytorch_grad_cam_for_the_same_region(method: str, other: Any) -> None:
    network = build()
    image, valid, pixels = scene(96, 64)
    found = explain(network, image, valid, pixels, 2, method=method, layer="decoder").evidence.clamp(min=0)
    with other(network.net, [network.net.decoder]) as cam:
        target = SemanticSegmentationTarget(2, pixels.float().numpy())
        theirs = torch.from_numpy(cam(network.standardise(image, valid), [target])[0])
    ours = (found - found.min()) / (found.max() - found.min())
    assert theirs.max() > 0.99 and torch.allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("model", MODELS)
def test_every_model_has_default_layers_in_encoder_and_decoder(model: str) -> None:
    check_default_layers(model, "resnet18")


@pytest.mark.slow
@pytest.mark.parametrize("backbone", [b for b in BACKBONES if b not in ("resnet18", "convnext_large")])
def test_every_backbone_has_default_layers(backbone: str) -> None:
    model = "unet" if ("unet", backbone) not in INCOMPATIBLE else "fpn"
    check_default_layers(model, backbone)


def check_default_layers(model: str, backbone: str) -> None:
    network = build(model, backbone)
    image, valid, pixels = scene(70, 100)
    for layer, start in (("auto", "encoder."), ("decoder", "decoder")):
        for method in ("gradcam", "hirescam"):
            found = explain(network, image, valid, pixels, 1, method=method, layer=layer)
            assert found.layer.startswith(start) and found.evidence.shape == (70, 100)
            assert torch.isfinite(found.evidence).all() and found.evidence.std() > 0


def test_layers_that_do_not_affect_the_output_are_not_offered() -> None:
    network = build("pspnet", "tf_efficientnet_lite0")  # which uses only the first three stages of the backbone
    image, valid, pixels = scene(96, 96)
    layers = layers_of(network, image, valid)
    assert [layer.size[0] for layer in layers] == [24, 12, 12]
    for layer in layers:
        assert explain(network, image, valid, pixels, 1, method="hirescam", layer=layer).evidence.isfinite().all()


def native(network: SegmentationNetwork, module: nn.Module, image: Tensor, pixels: Tensor) -> Tensor:
    """Return activation times gradient in the layer's own layout."""
    kept: list[Tensor] = []
    handle = module.register_forward_hook(lambda m, i, o: kept.append(o))
    logits = network(image)
    handle.remove()
    return (kept[0] * torch.autograd.grad(logits[0, 1][pixels].sum(), kept[0])[0]).detach()


def test_a_channels_last_layer_is_recognised() -> None:
    network = build("unet", "swin_tiny_patch4_window7_224", strict_img_size=False)
    image, valid, pixels = scene(64, 96)
    found = explain(network, image, valid, pixels, 1, method="hirescam", layer="encoder.model.layers_1")
    product = native(network, network.net.encoder.model.layers_1, image, pixels)
    assert product.shape == (1, 8, 12, 192)
    expected = interpolate(product.sum(-1)[:, None], size=(64, 96), mode="bilinear", align_corners=False)[0, 0]
    assert close(found.evidence, expected)


def test_tokens_become_a_map_and_prefix_tokens_are_dropped() -> None:
    torch.manual_seed(0)
    net = smp.DPT("tu-vit_tiny_patch16_224", encoder_weights=None, classes=3, dynamic_img_size=True)
    network = SegmentationNetwork(net, SPEC, {}).eval()
    image, valid, pixels = scene(64, 96)
    name = "encoder.model.blocks.5"
    found = explain(network, image, valid, pixels, 1, method="hirescam", layer=name)
    product = native(network, net.get_submodule(name), image, pixels)
    assert product.shape[1] == 1 + 4 * 6
    small = product[:, 1:].sum(-1).view(1, 1, 4, 6)
    assert close(found.evidence, interpolate(small, size=(64, 96), mode="bilinear", align_corners=False)[0, 0])
    gradcam = explain(network, image, valid, pixels, 1, method="gradcam", layer=name)
    assert torch.isfinite(gradcam.evidence).all() and gradcam.evidence.std() > 0


@pytest.mark.parametrize("layer", ["banana", "banana[-1]", "encoder.model", "decoder.blocks[9]", "decoder.blocks[-9]"])
def test_a_layer_without_a_spatial_map_raises_an_error_that_lists_usable_layers(layer: str) -> None:
    with pytest.raises(LayerError, match=r"usable layers are .*encoder\.model\.layer4.*decoder"):
        explain(build(), *scene(64, 64), 1, layer=layer)


def test_as_many_channels_as_columns_are_not_mistaken_for_a_map() -> None:
    network = build("fpn", "convnext_tiny")  # 96 channels last, where a map of 384 pixels has 96 columns
    with pytest.raises(LayerError, match="no map of the image"):
        explain(network, *scene(384, 384), 1, layer="encoder.model.stages_0.blocks.0.norm")


@pytest.mark.parametrize("method", METHODS)
def test_nan_nodata_gives_finite_evidence(method: str) -> None:
    image, valid, pixels = scene(64, 64)
    image = image.float()
    image[..., 40:], valid[..., 40:] = torch.nan, False
    assert torch.isfinite(explain(build(), image, valid, pixels, 1, method=method).evidence).all()


@pytest.mark.parametrize("method", METHODS)
def test_explaining_leaves_the_model_unchanged(method: str) -> None:
    network = build().train()
    network.net.encoder.eval()
    network.net.decoder.requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    modes = [module.training for module in network.modules()]
    found = explain(network, *scene(64, 64), 1, method=method)
    assert found.evidence.shape == (64, 64) and not found.evidence.requires_grad
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert [module.training for module in network.modules()] == modes
    assert all(p.grad is None for p in network.parameters())
    assert not any(m._forward_hooks or m._backward_hooks or m._forward_pre_hooks for m in network.modules())
    assert torch.equal(explain(network, *scene(64, 64), 1, method=method).evidence, found.evidence)


def test_integrated_gradients_sum_to_the_score_difference_from_the_baseline() -> None:
    network, (image, valid, pixels) = build(), scene(64, 64)
    found = explain(network, image, valid, pixels, 1, method="integrated_gradients")
    with torch.no_grad():
        difference = (network(image, valid) - network(torch.full(image.shape, 127.5), valid))[0, 1][pixels].sum()
    assert float(found.evidence.sum()) == pytest.approx(float(difference), rel=0.05)
    assert found.bands is not None and float(found.bands.sum()) == pytest.approx(float(found.evidence.sum()), rel=1e-4)


def test_occlusion_is_the_drop_in_log_odds_when_a_block_is_blurred() -> None:
    network, (image, valid, pixels) = build(), scene(72, 56)  # blocks of 9 by 9
    found = explain(network, image, valid, pixels, 1, method="occlusion").evidence
    against = explain(network, image, valid, pixels, 1, against=2, method="occlusion").evidence
    moved = np.roll(image.numpy().astype(float), (36, 28), (2, 3))
    smooth = np.stack([gaussian_filter(band, 12.0) / gaussian_filter(np.ones((72, 56)), 12.0) for band in moved[0]])
    changed = image.float().clone()
    changed[..., 18:27, 9:18] = torch.from_numpy(smooth)[:, 18:27, 9:18].float()
    with torch.no_grad():
        before, after = (network(each, valid)[0][:, pixels].double() for each in (image, changed))
    odds = [float((each[1] - torch.logaddexp(each[0], each[2])).sum()) for each in (before, after)]
    lead = [float((each[1] - each[2]).sum()) for each in (before, after)]
    assert float(found[22, 13]) == pytest.approx(odds[0] - odds[1], rel=1e-3, abs=1e-3)
    assert float(against[22, 13]) == pytest.approx(lead[0] - lead[1], rel=1e-3, abs=1e-3)


def test_find_region_selects_pixels_and_rejects_invalid_requests() -> None:
    predicted = torch.zeros(4, 5, dtype=torch.int64)
    predicted[1, 2] = 1
    assert find_region("predicted", 1, "b", predicted).pixels.nonzero().tolist() == [[1, 2]]
    assert find_region("true", 2, "c", predicted, predicted + 2).pixels.sum() == 19
    assert find_region([3, 2, 9, 1], 1, "b", predicted).pixels.nonzero().tolist() == [[2, 3], [2, 4]]
    assert find_region([3, 2], 1, "b", predicted).pixels.nonzero().tolist() == [[2, 3]]
    assert not find_region("predicted", 2, "c", predicted).pixels.any()
    for wrong, message in (
        ("true", "needs labels"),
        ("banana", "choose predicted"),
        ([1, 2, 3], "choose predicted"),
        ([5, 0], "outside the image of 5 x 4"),
        ([0, 0, 0, 2], "outside"),
    ):
        with pytest.raises(ConfigError, match=message):
            find_region(wrong, 1, "b", predicted)


def test_an_unknown_method_raises_an_error_that_lists_the_choices() -> None:
    with pytest.raises(ConfigError, match="method=banana: choose gradcam"):
        explain(build(), *scene(64, 64), 1, method="banana")


def test_an_empty_region_raises_an_error() -> None:
    image, valid, pixels = scene(64, 64)
    with pytest.raises(EmptyRegionError, match="no pixel"):
        explain(build(), image, valid, torch.zeros_like(pixels), 1)


def test_compare_with_prediction_reports_correlation_and_evidence_outside_the_area() -> None:
    network = build()
    image, valid, pixels = scene(64, 64)
    valid[..., 60:] = False
    probability = network(image, valid)[0].softmax(0)[1].detach()
    area = probability > probability.median()
    found = explain(network, image, valid, pixels, 1, method="hirescam", layer="encoder.model.layer2").evidence
    comparison = compare_with_prediction(found, probability, area, valid[0])
    values, likely, inside = (t[:, :60].numpy().ravel() for t in (found, probability, area))
    positive = values.clip(0)
    assert (
        comparison.correlation == pytest.approx(np.corrcoef(values, likely)[0, 1], abs=1e-6) and not comparison.repeats
    )
    assert comparison.outside == pytest.approx(positive[~inside].sum() / positive.sum(), abs=1e-6)
    assert (
        comparison.outside_pixels == pytest.approx((~inside).mean())
        and f"{comparison.outside:.0%}" in comparison.summary
    )
    again = compare_with_prediction(2 * probability + 1, probability, area, valid[0])
    assert again.repeats and again.correlation == pytest.approx(1) and "repeats the prediction" in again.summary
    assert "no evidence for the class" in compare_with_prediction(-probability, probability, area, valid[0]).summary
