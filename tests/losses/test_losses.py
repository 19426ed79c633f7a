"""Losses: computed on valid pixels only, and equal to direct computations."""

from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from torch.nn.functional import cross_entropy, one_hot

from satseg.config import CONFIG_DIR
from satseg.errors import ConfigError
from satseg.losses import MapLoss, WeightedSum

LOSSES = sorted(p.stem for p in Path(CONFIG_DIR, "loss").glob("*.yaml"))


def build(name: str):  # type: ignore[no-untyped-def]
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        return instantiate(compose("train", [f"loss={name}"]).loss, class_weights=None)


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    mask = torch.randint(0, 4, (2, 8, 9), dtype=torch.uint8)
    mask[0, :3] = 255
    valid = torch.rand(2, 8, 9) > 0.3
    return torch.randn(2, 4, 8, 9), mask, valid


def test_there_are_seven_losses() -> None:
    assert set(LOSSES) == {"cross_entropy", "dice", "ce_dice", "focal", "jaccard", "lovasz", "tversky"}


@pytest.mark.parametrize("loss", LOSSES)
def test_losses_are_zero_and_differentiable_when_all_pixels_are_ignored(loss: str) -> None:
    logits = torch.zeros(1, 7, 8, 8, requires_grad=True)
    value = build(loss)(logits, torch.full((1, 8, 8), 255))
    value.backward()
    assert value.ndim == 0 and value == 0 and torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("loss", LOSSES)
def test_ignored_and_invalid_pixels_do_not_affect_value_or_gradient(loss: str, batch: tuple[torch.Tensor, ...]) -> None:
    logits, mask, valid = batch
    logits.requires_grad_()
    counted = (valid & (mask != 255))[:, None]
    other = torch.where(counted, logits, torch.full_like(logits, 40.0).index_fill(1, torch.tensor([1]), -9.0))
    criterion = build(loss)
    assert torch.equal(criterion(logits, mask, valid), criterion(other, mask, valid))
    criterion(logits, mask, valid).backward()
    assert (logits.grad[(~counted).expand_as(logits)] == 0).all() and logits.grad.abs().sum() > 0


@pytest.mark.parametrize("loss", LOSSES)
def test_losses_decrease_as_predictions_improve(loss: str, batch: tuple[torch.Tensor, ...]) -> None:
    _, mask, valid = batch
    perfect = one_hot(mask.long().clamp(max=3), 4).permute(0, 3, 1, 2).float()
    values = [float(build(loss)(perfect * scale, mask, valid)) for scale in (-5.0, 0.0, 5.0, 20.0)]
    assert values == sorted(values, reverse=True) and values[-1] == pytest.approx(0, abs=0.02)


def pixels(batch: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    logits, mask, valid = batch
    counted = valid & (mask != 255)
    return logits.permute(0, 2, 3, 1)[counted], mask[counted].long()


def test_cross_entropy_and_dice_equal_their_formulas(batch: tuple[torch.Tensor, ...]) -> None:
    logits, target = pixels(batch)
    entropy = -torch.log_softmax(logits, 1)[torch.arange(len(target)), target].mean()
    shares, truth = logits.softmax(1), one_hot(target, 4)
    dice = (1 - 2 * (shares * truth).sum(0) / (shares.sum(0) + truth.sum(0))).mean()
    assert build("cross_entropy")(*batch) == pytest.approx(float(entropy), rel=1e-5)
    assert build("dice")(*batch) == pytest.approx(float(dice), rel=1e-5)
    assert build("ce_dice")(*batch) == pytest.approx(float(entropy + dice), rel=1e-5)


def test_focal_equals_its_formula(batch: tuple[torch.Tensor, ...]) -> None:
    logits, target = pixels(batch)
    share = logits.softmax(1)[torch.arange(len(target)), target]
    assert build("focal")(*batch) == pytest.approx(float((-((1 - share) ** 2) * share.log()).mean()), rel=1e-5)


def test_class_weights_equal_those_of_torch_cross_entropy(batch: tuple[torch.Tensor, ...]) -> None:
    weights = torch.tensor([1.0, 2.0, 3.0, 0.5])
    criterion = build("cross_entropy")
    criterion.set_class_weights(weights)
    assert criterion(*batch) == pytest.approx(float(cross_entropy(*pixels(batch), weight=weights)), rel=1e-5)


@pytest.mark.parametrize("loss", ["dice", "jaccard", "lovasz", "tversky"])
def test_class_weights_raise_an_error_for_losses_without_them(loss: str) -> None:
    with pytest.raises(ConfigError, match=f"class_weights: {loss} "):
        build(loss).set_class_weights(torch.ones(4))


def test_half_precision_logits_are_computed_in_float32(batch: tuple[torch.Tensor, ...]) -> None:
    logits, mask, valid = batch
    with torch.autocast("cpu", torch.bfloat16):
        value = build("ce_dice")(logits.bfloat16(), mask, valid)
    assert value.dtype == torch.float32


class RecordingLoss(MapLoss):
    def forward(self, logits: torch.Tensor, target: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        self.received = logits, target, valid
        return logits[:, 0][valid].mean()


def test_a_map_loss_receives_whole_maps(batch: tuple[torch.Tensor, ...]) -> None:
    logits, mask, valid = batch
    terms = {"maps": RecordingLoss, "pixels": torch.nn.CrossEntropyLoss}
    criterion = WeightedSum(terms, {"maps": 2.0})
    counted = valid & (mask != 255)
    expected = 2 * logits[:, 0][counted].mean() + WeightedSum({"pixels": terms["pixels"]})(logits, mask, valid)
    assert torch.isclose(criterion(logits, mask, valid), expected)
    given, target, where = criterion.terms["maps"].received
    assert torch.equal(given, logits) and torch.equal(where, counted)
    assert torch.equal(target, torch.where(counted, mask, 255).long())
    assert criterion(logits, torch.full_like(mask, 255)) == 0  # the term is not called
