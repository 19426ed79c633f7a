"""Parameter groups and learning rate schedules, against explicit formulas."""

import math
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from torch import nn

from satseg.config import CONFIG_DIR
from satseg.errors import ConfigError
from satseg.train.optimization import build_optimizer, build_scheduler


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.head = nn.Conv2d(4, 2, 1)


ADAMW = {"name": "adamw", "lr": 0.01, "weight_decay": 0.1, "backbone_lr_factor": 0.5}


def test_every_parameter_is_in_one_group_without_weight_decay_for_norms_and_biases() -> None:
    network = Network()
    groups = build_optimizer(ADAMW, network).param_groups
    found = {id(p): (g["lr"], g["weight_decay"]) for g in groups for p in g["params"]}
    expected = {
        id(p): (0.005 if n.startswith("encoder") else 0.01, 0.1 if p.ndim == 4 else 0.0)
        for n, p in network.named_parameters()
    }
    assert found == expected and sum(len(g["params"]) for g in groups) == len(expected)


@pytest.mark.parametrize(
    ("options", "backbone", "decoder"),
    [
        ([], 1e-3, 3e-3),
        (["experiment=demo"], 2e-3, 2e-3),  # as recorded in experiments/
        (["experiment=dubai_baseline"], 1e-3, 1e-3),
    ],
)
def test_the_decoder_has_a_higher_learning_rate_than_the_backbone_by_default(
    options: list[str], backbone: float, decoder: float
) -> None:
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        config: Any = compose("train", options).optimizer
    network = Network()
    rates = {id(p): group["lr"] for group in build_optimizer(config, network).param_groups for p in group["params"]}
    assert [rates[id(p)] for p in network.encoder.parameters()] == pytest.approx([backbone] * 4, rel=0.01)
    assert [rates[id(p)] for p in network.head.parameters()] == pytest.approx([decoder] * 2)


def test_frozen_parameters_are_left_out_and_a_fully_frozen_network_raises_an_error() -> None:
    network = Network()
    network.encoder.requires_grad_(False)
    assert sum(len(g["params"]) for g in build_optimizer(ADAMW, network).param_groups) == 2
    network.requires_grad_(False)
    with pytest.raises(ConfigError, match="frozen"):
        build_optimizer(ADAMW, network)


@pytest.mark.parametrize("name", ["adamw", "sgd", "lion"])
def test_fused_optimizers_take_the_same_steps(name: str) -> None:
    stepped = []
    for fused in (False, True):
        torch.manual_seed(0)
        network = Network()
        optimizer = build_optimizer(ADAMW | {"name": name}, network, fused=fused)
        assert bool(optimizer.defaults.get("fused")) == (fused and name != "lion")
        for _ in range(3):
            optimizer.zero_grad()
            network.head(network.encoder(torch.ones(2, 3, 8, 8).cumsum(-1))).square().mean().backward()
            optimizer.step()
        stepped.append(torch.cat([p.detach().ravel() for p in network.parameters()]))
    assert torch.allclose(*stepped, atol=1e-6)
    assert not build_optimizer(ADAMW | {"fused": False}, Network(), fused=True).defaults["fused"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "adamax9"}, "optimizer.name=adamax9"),
        ({"name": "adahessian"}, "optimizer.name=adahessian: it needs second derivatives"),
        ({"lr": "abc"}, "optimizer.lr=abc"),
        ({"banana": 1}, "adamw rejects these options"),
    ],
)
def test_invalid_options_raise_an_error_that_names_them(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_optimizer(ADAMW | change, Network())


def rates(config: dict[str, Any], steps: int) -> list[float]:
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=2.0)
    described = build_scheduler(config, optimizer, steps, steps)
    seen = []
    for _ in range(steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if described:
            assert described["interval"] == "step"
            described["scheduler"].step()
    return seen


def test_cosine_has_a_linear_warm_up_and_a_cosine_decay() -> None:
    expected = [2 * (i + 1) / 11 for i in range(10)]
    expected += [1 + math.cos(math.pi * (i - 10) / 90) for i in range(10, 100)]
    assert rates({"name": "cosine", "warmup": 0.1}, 100) == pytest.approx(expected)


def test_poly_equals_the_schedule_of_deeplab() -> None:
    expected = [2 * (1 - i / 50) ** 0.9 for i in range(50)]
    assert rates({"name": "poly", "warmup": 0.0, "power": 0.9}, 50) == pytest.approx(expected)


def test_none_is_constant_and_onecycle_peaks_at_pct_start() -> None:
    assert rates({"name": "none"}, 5) == [2.0] * 5
    seen = rates({"name": "onecycle", "pct_start": 0.25}, 100)
    assert max(seen) == pytest.approx(2.0, rel=1e-3) and 24 <= seen.index(max(seen)) <= 26


def test_plateau_reduces_the_rate_by_the_monitored_score_per_epoch() -> None:
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=1.0)
    described = build_scheduler(
        {"name": "plateau", "monitor": "val/miou", "factor": 0.5, "patience": 1}, optimizer, 9, 3
    )
    assert described is not None and (described["interval"], described["monitor"]) == ("epoch", "val/miou")
    for score in (0.5, 0.4, 0.4):
        described["scheduler"].step(score)
    assert optimizer.param_groups[0]["lr"] == 0.5


def test_an_unknown_schedule_raises_an_error_with_the_choices() -> None:
    with pytest.raises(ConfigError, match=r"scheduler.name=cosin: choose cosine, poly"):
        build_scheduler({"name": "cosin"}, torch.optim.SGD(nn.Linear(1, 1).parameters()), 9, 3)
