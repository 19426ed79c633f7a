"""Mistakes in custom losses are found before training, each in one line that names the term."""

import random
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.errors import InstantiationException
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from satseg.cli import describe
from satseg.config import CONFIG_DIR
from satseg.errors import ConfigError
from satseg.losses import MapLoss, WeightedSum
from satseg.train.loss_config import build_criterion, check_loss, imply_partial, try_criterion


def from_pixels(function: Callable[[Tensor, Tensor], Any]) -> type[nn.Module]:
    """Return the class of a loss over pixels."""

    class Loss(nn.Module):
        def forward(self, logits: Tensor, target: Tensor) -> Any:
            return function(logits, target)

    return Loss


def from_maps(function: Callable[[Tensor, Tensor, Tensor], Any]) -> type[nn.Module]:
    """Return the class of a loss over maps."""

    class Loss(MapLoss):
        def forward(self, logits: Tensor, target: Tensor, valid: Tensor) -> Any:
            return function(logits, target, valid)

    return Loss


class WithoutValid(MapLoss):
    def forward(self, logits: Tensor, target: Tensor) -> Tensor:  # type: ignore[override]
        return cross_entropy(logits, target, ignore_index=255)


class PlainWithValid(nn.Module):
    def forward(self, logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        return cross_entropy(logits, target)


def tried(make: Any, num_classes: int = 3) -> None:
    WeightedSum({"mine": make}).try_terms(num_classes, "cpu")


def squared_steps(logits: Tensor, target: Tensor) -> Tensor:
    """Squared differences between neighbours, along an axis that has only one element."""
    return logits.diff(dim=-1).square().mean()


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (
            from_pixels(lambda x, y: cross_entropy(x, y, reduction="none")),
            r"of shape \(1, 3584, 1\); expected a scalar",
        ),
        (from_pixels(lambda x, y: cross_entropy(x, y).item()), "returned a float; expected a scalar tensor"),
        (from_pixels(lambda x, y: None), "returned None; expected a scalar tensor"),
        (from_pixels(lambda x, y: (x.argmax(1) != y).sum()), "returned a tensor of int64; expected a floating"),
        (from_pixels(lambda x, y: cross_entropy(x.detach(), y)), "without a gradient: compute it from logits"),
        (from_pixels(lambda x, y: torch.ones((), requires_grad=True) * 1), "does not depend on logits"),
        (from_pixels(lambda x, y: (x * 0).sum().sqrt()), "gradient that is not finite"),
        (from_pixels(squared_steps), r"returned nan.*\(1, K, P, 1\).*extends satseg\.losses\.MapLoss"),
        (from_pixels(lambda x, y: x[:, 7].mean()), r"test_terms\.py:\d+: IndexError: index 7 is out of bounds"),
        (from_maps(lambda x, y, v: cross_entropy(x, y)), r"test_terms\.py:\d+: IndexError: Target 255.*target is 255"),
        (from_maps(lambda x, y, v: x.diff(dim=-1).square().mean()), "gives weight to pixels where valid is False"),
        (from_maps(lambda x, y, v: (x[:, 0] * v).sum((1, 2)).div(v.sum((1, 2))).mean()), "nan.*in a whole image"),
        (from_maps(lambda x, y, v: cross_entropy(x, y.masked_fill_(~v, 0)) + 0), "changes target in place; clone it"),
        (from_pixels(lambda x, y: cross_entropy(x.mul_(2), y)), "changes logits in place; clone it"),
        (WithoutValid, r"defines forward\(logits.*called as forward\(logits, target, valid\)"),
        (PlainWithValid, r"defines forward\(logits.*called as forward\(logits, target\) on pixels.*MapLoss"),
        (MapLoss, "NotImplementedError: forward is not defined"),
    ],
)
def test_a_trial_rejects_terms_that_do_not_return_a_finite_differentiable_scalar(make: Any, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected) as caught:
        tried(make)
    name = re.escape(f"{make.__module__}.{make.__qualname__}")
    assert re.match(rf"loss\.terms\.mine: {name} ", str(caught.value)) and "\n" not in str(caught.value)


class WithoutSuper(nn.Module):
    def __init__(self) -> None:
        self.gamma = 2.0


class WithoutModule:
    pass


class ModuleWithoutSuper(nn.Module):
    def __init__(self) -> None:
        self.part = nn.Identity()


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (WithoutSuper, r"must call super\(\).__init__\(\) first"),
        (ModuleWithoutSuper, r"cannot be built: \S*test_terms\.py:\d+: AttributeError: .*Module\.__init__\(\) call"),
        (WithoutModule, "WithoutModule does not extend torch.nn.Module"),
    ],
)
def test_terms_that_are_no_initialised_modules_are_rejected(make: Any, expected: str) -> None:
    with pytest.raises(ConfigError, match=rf"^loss\.terms\.mine: .*{expected}"):
        WeightedSum({"mine": make})


@pytest.mark.parametrize("num_classes", [2, 7, 255])
def test_the_trial_accepts_losses_over_pixels_and_maps_for_any_number_of_classes(num_classes: int) -> None:
    def squared_error(logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        truth = one_hot(target.where(valid, 0), num_classes).movedim(-1, 1)
        return (logits.softmax(1) - truth).square().sum(1)[valid].mean()

    tried(from_maps(squared_error), num_classes)
    tried(nn.CrossEntropyLoss, num_classes)


class Stateful(nn.Module):
    """A loss that counts its calls and draws random numbers from every generator."""

    def __init__(self, weight: Tensor | None) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.calls = 0

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        self.calls += 1
        noise = random.random() + float(np.random.rand())
        return cross_entropy(logits + noise * torch.rand(()), target, weight=self.weight)


def test_the_trial_changes_neither_random_state_nor_terms() -> None:
    criterion = WeightedSum({"mine": Stateful})
    criterion.set_class_weights(torch.ones(3))
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try_criterion(criterion, 3, "cpu")
    assert random.getstate() == states[0] and torch.equal(torch.get_rng_state(), states[2])
    assert all(np.array_equal(new, old) for new, old in zip(np.random.get_state(), states[1]))
    assert criterion.terms["mine"].calls == 0 and criterion.terms["mine"].weight is not None


def test_weights_of_unknown_terms_are_rejected_and_missing_ones_are_1() -> None:
    terms = {"focal": nn.CrossEntropyLoss, "dice": nn.CrossEntropyLoss}
    with pytest.raises(ConfigError, match=r"loss\.weights\.focall: no term has this name; did you mean focal\?"):
        WeightedSum(terms, {"focall": 1.0})
    assert WeightedSum(terms, {"dice": 0.5}).weights == {"focal": 1.0, "dice": 0.5}


@pytest.mark.parametrize("name", ["a.b", "values", 1])
def test_names_of_terms_that_pytorch_cannot_use_are_rejected(name: Any) -> None:
    with pytest.raises(ConfigError, match=rf"loss\.terms\.{name}: PyTorch cannot use this name"):
        WeightedSum({name: nn.CrossEntropyLoss})


def test_a_class_that_cannot_be_imported_is_reported_once_and_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(InstantiationException) as caught:
        check_loss(loss_config(f"{SUM}\nterms: {{a: {{_target_: torch.nn.Nope, _partial_: true}}}}"))
    assert not caplog.records
    assert describe(caught.value).startswith("ConfigError: loss.terms.a._target_ names torch.nn.Nope, which cannot be")


def test_only_the_terms_that_were_first_not_finite_are_named() -> None:
    scales = iter([1.0, float("inf"), 1.0])
    terms = {"a": nn.CrossEntropyLoss, "b": from_pixels(lambda x, y: x.square().mean() * next(scales))}
    criterion, mask = WeightedSum(terms), torch.zeros(1, 4, 4, dtype=torch.long)
    criterion(torch.ones(1, 2, 4, 4), mask)
    assert criterion.nonfinite_terms() == []
    criterion(torch.ones(1, 2, 4, 4), mask)
    criterion(torch.full((1, 2, 4, 4), torch.nan), mask)
    assert criterion.nonfinite_terms() == ["b"]


def loss_config(text: str) -> Any:
    return OmegaConf.create({"loss": {"class_weights": "none", **OmegaConf.create(text)}}).loss


SUM, CE = "_target_: satseg.losses.WeightedSum", "_target_: torch.nn.CrossEntropyLoss"
DICE = "_target_: segmentation_models_pytorch.losses.DiceLoss"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{SUM}\nterm: {{a: {{{CE}}}}}", "loss.term is unknown to WeightedSum: remove it; did you mean terms?"),
        (f"{SUM}\nterms: {{}}", "loss.terms is empty; expected a name and a _target_ for each loss."),
        (f"{SUM.replace('_target_', '_targt_')}\nterms: {{a: {{{CE}}}}}", "loss has no _target_: rename _targt_."),
        (f"{SUM}\nterms: {{a: {{_targt_: x.Y}}}}", "loss.terms.a has no _target_: rename _targt_."),
        (f"{SUM}\nterms: {{a: x.Y}}", "loss.terms.a is x.Y; expected _target_: my_package.losses.MyLoss."),
        (f"{SUM}\nterms: {{a: {{{DICE}}}}}", "loss.terms.a.mode is missing: DiceLoss needs it."),
        (
            f"{SUM}\nterms: {{a: {{{DICE}, mode: multiclass, smoth: 1}}}}",
            "loss.terms.a.smoth is unknown to DiceLoss: remove it; did you mean smooth?",
        ),
        (
            f"{SUM}\nterms: {{a: {{_target_: torch.nn.Flatten, gamma: 1}}}}",
            "loss.terms.a.gamma is unknown to Flatten: remove it; there are start_dim, end_dim.",
        ),
        (
            f"{SUM}\nterms: {{a: {{_target_: satseg.losses.MapLoss, gamma: 1}}}}",
            "loss.terms.a.gamma is unknown to MapLoss: remove it; there are none.",
        ),
        (
            f"{SUM}\nterms: {{a: {{_target_: torch.nn.functional.cross_entropy}}}}",
            "loss.terms.a._target_ names the function cross_entropy; expected a class: see docs/extend.md.",
        ),
        (
            f"{SUM}\nterms: {{a: {{_target_: torch.nn}}}}",
            "loss.terms.a._target_ names torch.nn, a module; expected a class.",
        ),
        (f"{SUM}\nweights: 1.0\nterms: {{a: {{{CE}}}}}", "loss.weights is 1.0; expected a mapping or null."),
        (
            CE,
            "loss._target_ names torch.nn.CrossEntropyLoss; expected satseg.losses.WeightedSum, with the loss as one "
            "of its terms: see docs/extend.md.",
        ),
    ],
)
def test_mistakes_in_the_yaml_of_a_loss_give_one_plain_line(text: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build_criterion(loss_config(text))
    assert str(caught.value) == expected


def test_partial_is_implied_for_terms() -> None:
    config = loss_config(f"{SUM}\nterms: {{a: {{{CE}}}}}")
    OmegaConf.set_struct(config, True)
    imply_partial(config)
    criterion = build_criterion(config)
    criterion.set_class_weights(torch.ones(3))
    assert torch.equal(criterion.terms["a"].weight, torch.ones(3))


@pytest.mark.parametrize("loss", sorted(path.stem for path in (CONFIG_DIR / "loss").glob("*.yaml")))
def test_the_losses_of_satseg_pass_the_trial_with_class_weights_where_they_take_them(loss: str) -> None:
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        config = compose("train", [f"loss={loss}"]).loss
    check_loss(config)
    criterion = build_criterion(config)
    try_criterion(criterion, 7, "cpu")
    if loss in ("cross_entropy", "ce_dice", "focal"):
        criterion.set_class_weights(torch.arange(1.0, 8.0))
        try_criterion(criterion, 7, "cpu")
