"""Faithfulness and band importance, on networks with known decision rules."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from known_networks import by_first_band, by_marker, network_of
from sklearn.metrics import jaccard_score

from satseg.attribution import explain
from satseg.attribution.bands import band_importance, correlated_groups
from satseg.attribution.faithfulness import curves, nearness, randomised, shifted_map
from satseg.attribution.replacement import blurred, replaced
from satseg.diagnosis.descriptions import describe_bands
from satseg.models import SegmentationNetwork, build_model
from satseg.models.catalogue import MODELS
from satseg.spec import BandStatistics, DatasetSpec, InputSpec

VALID = torch.ones(1, 96, 96, dtype=torch.bool)


def image_with_marker() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return an image with a marker, a region far from it, and an evidence map that highlights the marker."""
    image = torch.zeros(1, 3, 96, 96)
    image[..., 8:16, 8:16] = 1
    pixels = torch.zeros(96, 96, dtype=torch.bool)
    pixels[60:80, 60:80] = True
    return image, pixels, image[0, 0].clone()


def test_blurring_ignores_invalid_pixels_and_replacement_changes_only_the_given_pixels() -> None:
    image = torch.rand(1, 2, 40, 50)
    valid = torch.ones(1, 40, 50, dtype=torch.bool)
    valid[:, :, 30:] = False
    image[..., 30:] = torch.nan
    flat = torch.full((1, 2, 40, 50), 7.0).masked_fill(~valid[:, None], torch.nan)
    assert torch.allclose(blurred(flat, valid)[..., :30], torch.tensor(7.0), atol=1e-3)
    assert blurred(image, valid).isfinite().all()
    pixels = torch.zeros(40, 50, dtype=torch.bool)
    pixels[1, 2] = True
    changed = replaced(image, torch.zeros_like(image), pixels)
    assert changed[0, 0, 1, 2] == 0 and torch.equal(changed[0, 0, 2:, :30], image[0, 0, 2:, :30])


def test_deletion_and_insertion_curves_of_a_faithful_map_beat_those_of_a_shifted_map() -> None:
    image, pixels, evidence = image_with_marker()
    network = network_of(lambda x: 20 * by_marker(x))
    wrong = shifted_map(evidence, torch.Generator().manual_seed(0))
    found, random = curves(network, image, VALID, pixels, 1, [evidence, wrong])
    assert found.deletion[0] > 0.99 and found.insertion[-1] == found.deletion[0]
    assert found.insertion[0] == found.deletion[-1] < 0.01  # without the marker the other class is predicted
    assert max(found.deletion[1:]) < 0.01 and min(found.insertion[1:]) > 0.99
    assert found.score == pytest.approx(1, abs=0.02) and random.score < 0.5


def test_nearness_decreases_with_distance_outside_a_region_and_increases_inside() -> None:
    _, pixels, _ = image_with_marker()
    near = nearness(pixels)
    assert (near[70, 70] > near[61, 70] > 0 > near[58, 70] > near[8, 8]) and near[70, 84] == near[70, 55] == -5


def test_randomised_shuffles_the_weights_of_a_copy_and_leaves_the_original_unchanged() -> None:
    network = network_of(by_marker)
    network.net.extra = torch.nn.Linear(8, 8)
    before = network.net.extra.weight.clone()
    twin = randomised(network, torch.rand(1, 3, 96, 96), VALID)
    assert torch.equal(network.net.extra.weight, before) and not torch.equal(twin.net.extra.weight, before)
    assert torch.equal(twin.net.extra.weight.flatten().sort().values, before.flatten().sort().values)


def test_band_importance_is_the_drop_in_iou_when_a_band_is_permuted_or_filled() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(6, 3, 32, 32, generator=generator)
    images[:, 2] = images[:, 0] + 0.01 * torch.rand(6, 32, 32, generator=generator)  # nearly a copy of the first
    valid, truth = torch.ones(6, 32, 32, dtype=torch.bool), (images[:, 0] > 0.5).long()
    network = network_of(by_first_band)
    mean = dataclasses.replace(network.spec.inputs[0], statistics=BandStatistics(*[(0.9,) * 3] * 6))
    network.spec = dataclasses.replace(network.spec, inputs=(mean,))
    found = band_importance(network, images, valid, truth)
    assert [b.bands for b in found if b.permuted > 0.01] in ([("b1",), ("b1", "b3")], [("b1", "b3"), ("b1",)])
    first = next(b for b in found if b.bands == ("b1",))
    guess = (images[:, 0].roll(1, 0) > 0.5).long()
    expected = jaccard_score(truth.flatten(), guess.flatten(), average=None)
    assert first.by_class == pytest.approx(tuple(1 - expected)) and first.permuted == pytest.approx(1 - expected.mean())
    filled = jaccard_score(truth.flatten(), torch.ones_like(truth).flatten(), average="macro")  # the mean is 0.9
    assert first.filled == pytest.approx(1 - filled)
    assert next(b for b in found if b.bands == ("b2",)).permuted == 0
    low, high = first.interval
    assert low < first.loss < high and first.exceeds(next(b for b in found if b.bands == ("b2",)))
    words = " ".join(describe_bands(found))  # a band and its copy share a rank
    assert (
        words.startswith("b1 + b3 matters most") and "b1 and b3 are nearly redundant here and are not ranked" in words
    )
    few = band_importance(network, images[:4], valid[:4], truth[:4])
    assert math.isnan(few[0].interval[0]) and not few[0].exceeds(few[-1])


def test_equally_important_bands_are_not_ranked() -> None:
    images = torch.rand(12, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    valid, truth = torch.ones(12, 32, 32, dtype=torch.bool), (images[:, 0] + images[:, 1] > 1).long()

    def by_two(x: torch.Tensor) -> torch.Tensor:
        lead = x[:, 0] + x[:, 1] - 1
        return torch.stack([-lead, lead], 1)

    found = band_importance(network_of(by_two), images, valid, truth)
    assert {found[0].bands, found[1].bands} == {("b1",), ("b2",)} and found[1].exceeds(found[2])
    (line,) = describe_bands(found)
    assert "b1" in line and "b2" in line and "b3" not in line and "matter about equally" in line and "most" not in line


def test_band_importance_ignores_absent_classes_and_is_empty_without_labels() -> None:
    images = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    valid, truth = torch.ones(4, 16, 16, dtype=torch.bool), (images[:, 0] > 0.5).long()
    few = band_importance(network_of(by_first_band, classes=2), images, valid, torch.where(truth == 1, 1, 255))
    assert few[0].permuted == pytest.approx(1 - float((images[:, 0].roll(1, 0) > 0.5)[truth == 1].float().mean()))
    assert math.isnan(few[0].by_class[0])
    assert band_importance(network_of(by_first_band), images, valid, torch.full_like(truth, 255)) == []


def test_only_highly_correlated_bands_are_grouped() -> None:
    values = torch.rand(2, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    values[:, 3], values[:, 2] = 2 * values[:, 1] + 5, 0.5
    assert correlated_groups(values, torch.ones(2, 16, 16, dtype=torch.bool)) == [[1, 3]]


def discs(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return images (N, 3, 128, 128) with two bright discs on noise, and their masks."""
    generator = np.random.default_rng(0)
    rows, cols = np.mgrid[:128, :128]
    masks = np.zeros((count, 128, 128), np.int64)
    for mask in masks:
        for side in (0, 1):  # one disc in either half, never touching
            row, col = generator.integers(24, 104), generator.integers(20, 44) + 64 * side
            mask[(rows - row) ** 2 + (cols - col) ** 2 <= 16**2] = 1
    images = 90 + 50 * masks[:, None] + generator.normal(0, 30, (count, 3, 128, 128))
    return torch.from_numpy(images.clip(0, 255).astype(np.uint8)), torch.from_numpy(masks)


@pytest.fixture(scope="module")
def trained() -> SegmentationNetwork:
    spec = DatasetSpec(
        (InputSpec(("r", "g", "b"), "uint8", 255.0, mean=(0.4,) * 3, std=(0.2,) * 3),),
        ("ground", "disc"),
        ((0,) * 3, (1,) * 3),
    )
    torch.manual_seed(0)
    config = {"_target_": MODELS["unet"], "encoder_name": "tu-resnet18", "encoder_weights": "none"}
    network = build_model(config, spec).train()
    images, masks = discs(64)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3)
    for start in [0, 8, 16, 24, 32, 40, 48, 56] * 4:
        logits = network(images[start : start + 8])
        loss = torch.nn.functional.cross_entropy(logits, masks[start : start + 8])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval()


@pytest.mark.parametrize("layer", ["decoder", "decoder.blocks[-2]"])
def test_maps_of_two_objects_correlate_less_than_maps_of_two_random_halves_of_one(
    trained: SegmentationNetwork, layer: str
) -> None:
    image, mask = discs(1)
    valid = torch.ones(1, 128, 128, dtype=torch.bool)
    predicted = trained(image)[0].argmax(0)
    assert jaccard_score(mask[0].flatten(), predicted.flatten()) > 0.8  # the model has learned the task
    left = torch.zeros(128, 128, dtype=torch.bool)
    left[:, :64] = True
    one, other = (predicted == 1) & left, (predicted == 1) & ~left
    coin = torch.rand(128, 128, generator=torch.Generator().manual_seed(0)) < 0.5

    def evidence(pixels: torch.Tensor) -> np.ndarray:
        return explain(trained, image, valid, pixels, 1, method="hirescam", layer=layer).evidence.flatten().numpy()

    between_objects = np.corrcoef(evidence(one), evidence(other))[0, 1]
    within_object = np.corrcoef(evidence(one & coin), evidence(one & ~coin))[0, 1]
    assert between_objects < 0.5 and between_objects < within_object
