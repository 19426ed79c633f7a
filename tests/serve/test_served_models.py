"""A served model in two threads: separate engines and modules with shared weights."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import torch
from browser_visitor import Assets
from omegaconf import OmegaConf

from satseg.config import CONFIG_DIR
from satseg.serve.served_models import load_models


def test_short_and_long_jobs_and_explanations_do_not_disturb_each_other(assets: Assets) -> None:
    options = {"checkpoint": str(assets.rgb_model), "engine": "torch"}
    (served,) = load_models(OmegaConf.merge(OmegaConf.load(CONFIG_DIR / "serving.yaml"), options))
    served.warm_up()
    assert 0 < served.costs.seconds("map", 10_000) < served.costs.seconds("map", 10**8)
    networks = [served.models_for(False).networks[0], served.models_for(True).networks[0], served.private_network()]
    for other in networks[1:]:
        assert all(a is b for a, b in zip(networks[0].parameters(), other.parameters(), strict=True))
    modules = [{id(module) for module in network.modules()} for network in networks]
    assert len(set.union(*modules)) == sum(map(len, modules))
    networks[2].net.segmentation_head.register_forward_hook(lambda module, inputs, output: output * 0)

    def segment(is_long: bool, side: int) -> torch.Tensor:
        image = torch.randint(1, 255, (1, 3, side, side), generator=torch.Generator().manual_seed(side)).float()
        return served.models_for(is_long).open((side, side))(image, torch.ones(1, side, side, dtype=torch.bool))

    sides = [64, 160, 96, 128]
    expected = {side: segment(False, side) for side in sides}
    with ThreadPoolExecutor(2) as pool:
        found = [pool.map(lambda side, is_long=is_long: segment(is_long, side), sides) for is_long in (False, True)]
        for kind in found:
            for side, logits in zip(sides, kind, strict=True):
                assert torch.equal(logits, expected[side]) and logits.any()
