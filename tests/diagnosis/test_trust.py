"""The validation of evidence maps: correct maps of a network with one learned cue pass, wrong maps fail."""

import dataclasses

import numpy as np
import pytest
import torch
from known_networks import network_of
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from satseg.attribution.faithfulness import curves, randomised
from satseg.data.rasters.header import Window
from satseg.diagnosis.cases import Case
from satseg.diagnosis.descriptions import describe_trust, describe_verdict
from satseg.diagnosis.survey import Component
from satseg.diagnosis.trust import MapKind, Rival, evaluate_maps, informative_cases, map_kind
from satseg.models import SegmentationNetwork

SIDE, CUE = 64, (slice(40, 48), slice(16, 24))  # a cell of eight by eight pixels outside the region


class CueNet(nn.Module):
    """Predicts class 1 everywhere if the cell given by a learned weight map is bright."""

    def __init__(self, gain: float) -> None:
        super().__init__()
        self.gain, self.place = gain, nn.Parameter(torch.zeros(8, 8))
        self.place.data[5, 2] = 1

    def forward(self, image: Tensor) -> Tensor:
        seen = nn.functional.adaptive_avg_pool2d(image, 8)[:, 0]
        lead = self.gain * ((seen * self.place).sum((1, 2)) - 0.5)[:, None, None].expand_as(image[:, 0])
        return torch.stack([-lead, lead], 1)


def network(gain: float = 8) -> SegmentationNetwork:
    whole = network_of(lambda image: image)
    whole.net = CueNet(gain)
    return whole.eval()


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    """Return ten noisy images with a bright cue, and a region at a random position outside it."""
    return [case(seed) for seed in range(10)]


def case(seed: int) -> Case:
    generator = np.random.default_rng(seed)
    image, pixels = generator.uniform(0, 0.3, (1, 3, SIDE, SIDE)), np.zeros((SIDE, SIDE), bool)
    image[..., CUE[0], CUE[1]] = 1
    row, col = generator.integers(0, 24), generator.integers(28, 48)
    pixels[row : row + 12, col : col + 12] = True
    region, ones = torch.from_numpy(pixels), torch.ones(SIDE, SIDE, dtype=torch.int64)
    component = Component(f"image_{seed}", 1, 1, (int(row) + 6, int(col) + 6), int(pixels.sum()), 1.0)
    valid = torch.ones(1, SIDE, SIDE, dtype=torch.bool)
    window = Window(0, 0, SIDE, SIDE)
    return Case(component, window, torch.from_numpy(image).float(), valid, ones, ones, region, region, region)


def noise(seed: int) -> MapKind:
    generator = np.random.default_rng(seed)

    def make(asked: SegmentationNetwork, case: Case) -> Tensor:
        return torch.from_numpy(gaussian_filter(generator.normal(size=(SIDE, SIDE)), 4)).float()

    return MapKind("noise", "input", make)


def maps_of_shuffled_network(asked: SegmentationNetwork, cases: list[Case], seed: int) -> MapKind:
    """Return the maps of the same method for a network with shuffled weights."""
    images, valid = (torch.cat([getattr(each, name) for each in cases]) for name in ("image", "valid"))
    shuffled = randomised(asked, images, valid, seed)
    return MapKind("shuffled", "input", lambda given, case: map_kind("occlusion").make(shuffled, case))


def test_maps_of_a_trained_network_pass_and_highlight_the_cue(cases: list[Case]) -> None:
    asked = network()
    (trust,) = evaluate_maps(asked, cases, [map_kind("occlusion")])
    assert trust.passes and trust.wins[Rival.MOVED] == trust.wins[Rival.SHUFFLED] == trust.cases == 10
    assert trust.score > 0.5 > trust.rivals[Rival.REGION] and trust.beats(Rival.REGION)
    assert not dataclasses.replace(trust, score=-0.1).passes  # better than its rivals, but worse than no map
    for each in cases:
        row, col = divmod(int(map_kind("occlusion").make(asked, each).argmax()), SIDE)
        assert CUE[0].start <= row < CUE[0].stop and CUE[1].start <= col < CUE[1].stop
    (words,) = describe_trust([trust])
    assert "10 of 10 regions" in words and "better than marking the region itself" in words


@pytest.mark.parametrize("kind", ["noise", "shuffled"])
def test_random_maps_and_maps_of_a_shuffled_network_do_not_pass(cases: list[Case], kind: str) -> None:
    asked = network()
    wrong = [noise(seed) if kind == "noise" else maps_of_shuffled_network(asked, cases, seed) for seed in range(1, 9)]
    found = list(evaluate_maps(asked, cases, wrong))
    assert sum(trust.passes for trust in found) <= 1
    assert {trust.cases for trust in found} == {10} and {trust.verdict for trust in found} >= {"fails"}
    words = describe_trust([found[0]])
    assert "10 regions" in words[0] and "not used as explanations" in words[0] and "Shortcuts" in words[-1]


def test_a_map_no_better_than_the_region_itself_does_not_pass(cases: list[Case]) -> None:
    """If the prediction depends only on the region itself, no map beats the region."""

    def by_brightness(image: Tensor) -> Tensor:
        lead = 8 * image[:, 0] - 0.5
        return torch.stack([-lead, lead], 1)

    asked = network_of(by_brightness)
    lit = [dataclasses.replace(each, image=each.image + 0.7 * each.pixels) for each in cases]
    (trust,) = evaluate_maps(asked, lit, [map_kind("occlusion")])
    assert trust.beats(Rival.MOVED) and not trust.beats(Rival.REGION)
    assert not trust.passes  # this network has no weights to shuffle
    assert trust.wins[Rival.SHUFFLED] == 0


def test_maps_of_a_network_that_hardly_reacts_could_not_be_tested(cases: list[Case]) -> None:
    asked = network(gain=0.01)
    chosen = informative_cases(asked, cases, 6)
    (trust,) = evaluate_maps(asked, chosen, [map_kind("occlusion")])
    assert (trust.cases, trust.looked_at, trust.verdict) == (0, 6, "could not be tested") and trust.widest < 0.1
    words = " ".join(describe_trust([trust]))
    assert "0 of 6 regions" in words and "fail" not in words and "Shortcuts" in words
    few = next(evaluate_maps(network(), cases[:4], [map_kind("occlusion")]))
    assert few.wins[Rival.MOVED] == few.cases == 4 and few.verdict == "could not be tested"
    assert "in 4 of 4 regions" in describe_verdict(few)


def test_curves_replace_highlighted_pixels_by_pixels_from_elsewhere_in_the_image(cases: list[Case]) -> None:
    asked, each = network(), cases[0]
    evidence = torch.zeros(SIDE, SIDE)
    evidence[CUE] = 1
    (found,) = curves(asked, each.image, each.valid, each.pixels, 1, [evidence])
    moved = np.roll(each.image.numpy(), (SIDE // 2, SIDE // 2), (2, 3))

    def probability(image: np.ndarray) -> float:
        lead = 8 * (image[0, 0][CUE].mean() - 0.5)
        return float(1 / (1 + np.exp(-2 * lead)))

    assert found.deletion[0] == found.insertion[-1] == pytest.approx(probability(each.image.numpy()), abs=1e-5)
    assert found.deletion[-1] == found.insertion[0] == pytest.approx(probability(moved), abs=1e-5)
    assert found.deletion[1] == pytest.approx(found.deletion[-1], abs=1e-5)  # the cue is 1.6 % of the image
    assert found.insertion[1] == pytest.approx(found.deletion[0], abs=1e-5)
    assert found.score == pytest.approx(found.deletion[0] - found.deletion[-1], abs=1e-4)
