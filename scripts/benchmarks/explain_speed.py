"""Measure explanations against a plain forward and backward pass of the same model on the same image.

Both alternate, so that other load affects both; the ratio is the median over rounds.

    python scripts/benchmarks/explain_speed.py --rounds 15
"""

import argparse
import time
from collections.abc import Callable
from statistics import median

import torch

from satseg.attribution import LAYER_METHODS, explain, layers_of
from satseg.models import SegmentationNetwork, build_model
from satseg.models.catalogue import MODELS
from satseg.spec import DatasetSpec, InputSpec

SPEC = DatasetSpec(
    (InputSpec(("red", "green", "blue"), "uint8", 255.0, mean=(0.5,) * 3, std=(0.2,) * 3),),
    tuple("abcde"),
    tuple((i, i, i) for i in range(5)),
)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="unet", choices=list(MODELS))
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    torch.manual_seed(0)
    config = {"_target_": MODELS[args.model], "encoder_name": f"tu-{args.backbone}", "encoder_weights": "none"}
    network = build_model(config, SPEC).eval()
    image = torch.randint(0, 256, (1, 3, args.size, args.size), dtype=torch.uint8)
    valid = torch.ones(1, args.size, args.size, dtype=torch.bool)
    pixels = torch.zeros(args.size, args.size, dtype=torch.bool)
    pixels[: args.size // 2] = True
    print(f"{args.model}, {args.backbone}, {args.size} x {args.size}, {torch.get_num_threads()} threads")
    for layer in layers_of(network, image, valid, ["encoder", "decoder"]):
        for method in LAYER_METHODS:
            for at, how in ((layer, "found before"), (layer.name, "found by its name each time")):
                compare(
                    f"{method} at {layer.name}, {how}",
                    lambda m=method, at=at: explain(network, image, valid, pixels, 1, method=m, layer=at),
                    lambda: forward_and_backward(network, image, valid, pixels),
                    args.rounds,
                )


def forward_and_backward(
    network: SegmentationNetwork, image: torch.Tensor, valid: torch.Tensor, pixels: torch.Tensor
) -> None:
    network(image, valid)[0, 1][pixels].sum().backward()
    network.zero_grad()


def compare(name: str, one: Callable[[], object], other: Callable[[], object], rounds: int) -> None:
    one()
    other()
    times = [(timed(one), timed(other)) for _ in range(rounds)]
    ratio = median(a / b for a, b in times)
    print(f"{name}: {1 / median(a for a, _ in times):.1f} maps a second, {ratio:.2f} times a forward and backward pass")


def timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
