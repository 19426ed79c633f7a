"""Memory limits of loading model files, whose documents may claim much larger models."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from satseg.errors import CheckpointError
from satseg.models import build_model
from satseg.models.catalogue import MODELS
from satseg.models.checkpoint import load_model, save_model
from satseg.spec import DatasetSpec, InputSpec

SPEC = DatasetSpec(
    (InputSpec(("r", "g", "b"), "uint8", 255.0, mean=(0.5,) * 3, std=(0.2,) * 3),), ("a", "b"), ((0, 0, 0), (1, 1, 1))
)
CONFIG = {
    "_target_": MODELS["unet"],
    "encoder_name": "tu-test_efficientnet",
    "encoder_weights": "none",
    "decoder_channels": [16, 16, 8, 8, 8],
}
LOAD_ALL = """
import json, sys
from pathlib import Path
from satseg.models.checkpoint import load_model
from satseg.errors import CheckpointError

def peak_mb():
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024

load_model(sys.argv[1])
before, results = peak_mb(), []
for path in sys.argv[2:]:
    try:
        load_model(path)
        results.append("loaded")
    except CheckpointError as error:
        results.append(str(error))
print(json.dumps({"before": before, "after": peak_mb(), "results": results}))
"""
CLAIMS: list[dict[str, Any]] = [
    {"decoder_channels": [4096] * 5},  # 2 GB
    {"decoder_channels": [65536] * 5},
    {"encoder_name": "tu-convnext_xxlarge"},  # 3.4 GB
    {"encoder_name": "tu-coatnet_5_224"},  # 2.7 GB, and index buffers that files do not contain
    {"encoder_name": "tu-test_efficientnet", "encoder_depth": 60_000},
]


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of its memory from /proc")
def test_a_small_file_that_claims_a_large_model_does_not_use_memory(tmp_path: Path) -> None:
    good = tmp_path / "good.safetensors"
    save_model(good, build_model(CONFIG, SPEC), training={}, protocol={})
    with safe_open(good, framework="pt") as opened:
        document = json.loads(opened.metadata()["satseg"])
    paths = []
    for index, claim in enumerate(CLAIMS):
        paths.append(tmp_path / f"{index}.safetensors")
        changed = document | {"model": document["model"] | claim}
        save_file(load_file(good), paths[-1], {"satseg": json.dumps(changed)})
    done = subprocess.run(
        [sys.executable, "-c", LOAD_ALL, str(good), *map(str, paths)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert all(error.startswith(str(path)) for path, error in zip(paths, found["results"], strict=True)), found
    assert found["after"] - found["before"] < 200 and found["after"] < 1000, found


def test_a_constructor_with_too_many_steps_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.safetensors"
    save_model(path, build_model(CONFIG, SPEC), training={}, protocol={})
    with safe_open(path, framework="pt") as opened:
        document = json.loads(opened.metadata()["satseg"])
    document["model"] |= {"encoder_name": "tu-resnet18", "layers": [60_000] * 4}  # an option of timm
    save_file(load_file(path), path, {"satseg": json.dumps(document)})
    monkeypatch.setattr("satseg.models.blueprint.MAX_CALLS", 5000)
    with pytest.raises(CheckpointError, match="building it takes more than 5,000 steps"):
        load_model(path)


@pytest.mark.parametrize("encoder", ["tu-resnetblur18", "mit_b0", "tu-test_convnext"])
def test_networks_are_restored_exactly_whether_or_not_buffers_come_from_the_constructor(
    encoder: str, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    network = build_model(CONFIG | {"encoder_name": encoder}, SPEC).eval()
    save_model(tmp_path / "model.safetensors", network, training={}, protocol={})
    image = torch.randint(0, 255, (1, 3, 64, 96), dtype=torch.uint8)
    before = torch.get_rng_state()
    loaded = load_model(tmp_path / "model.safetensors")
    assert torch.equal(before, torch.get_rng_state()) == (
        encoder != "tu-resnetblur18"
    )  # random numbers are drawn only if the constructor must run
    pairs = list(zip(loaded.named_buffers(), network.named_buffers(), strict=True))
    assert pairs and all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)
    assert [type(m) for m in loaded.modules()] == [type(m) for m in network.modules()]
    with torch.no_grad():
        assert torch.equal(loaded(image), network(image))
