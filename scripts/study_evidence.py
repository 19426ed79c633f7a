"""What do maps of evidence tell beyond the prediction, and does it matter to the prediction?

For the commonest classes of some images of a split it makes the map of each method and layer for all pixels predicted
as the class, and measures: the correlation with the class's probability, the share of the evidence outside the
predicted area, and insertion less deletion against the same map moved to a random place, where the curves can move.

    python scripts/study_evidence.py latest val --images 10 --classes 2
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

import torch
from omegaconf import OmegaConf
from torch import Tensor

from satseg.attribution import LAYER_METHODS, METHODS, Layer, addition, explain, layers_of
from satseg.attribution.faithfulness import curves, moved
from satseg.checkpoint import fetch_checkpoint, load_model
from satseg.diagnosis.trust import RANGE
from satseg.inference.windows import segment
from satseg.models import SegmentationNetwork
from satseg.runconfig import recorded_datamodule

LEAST = 0.05  # of an image, that a class must take to be asked about


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoint")
    parser.add_argument("split")
    parser.add_argument("--images", type=int, default=10)
    parser.add_argument("--classes", type=int, default=2, help="of each image, the commonest ones")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    checkpoint = fetch_checkpoint(args.checkpoint, Path("runs"))
    network = load_model(checkpoint, torch.device(args.device))
    usual = OmegaConf.create({"root": None, "num_workers": None})
    datamodule = recorded_datamodule(checkpoint, usual, network.spec, [])
    names = [sample.name for sample in datamodule.samples_of(args.split)]
    names = names[:: max(1, len(names) // args.images)][: args.images]
    found: dict[str, list[dict[str, float]]] = {}
    for item in datamodule.named_items(args.split, names):
        for name, row in rows(network, item["image"][None], item["valid"][None], args.methods, args.classes):
            found.setdefault(name, []).append(row)
    print(
        "| method, layer | maps | correlation | outside | of the picture | can tell | score | moved | wins | seconds |"
    )
    print("| --- |" + " --: |" * 9)
    for name, values in found.items():
        print(line(name, values))


def rows(
    network: SegmentationNetwork, image: Tensor, valid: Tensor, methods: Sequence[str], classes: int
) -> Iterator[tuple[str, dict[str, float]]]:
    """Give a name and its numbers for each map."""
    probabilities = segment(network, image, valid)[0].softmax(0)
    predicted = probabilities.argmax(0).where(valid[0], -1)
    outline = layers_of(network, image, valid)
    ways: list[tuple[str, str | Layer]] = []
    for method in methods:
        ways += [(method, layer) for layer in (outline if method in LAYER_METHODS else ["auto"])]
    counts = torch.bincount(predicted[valid[0]], minlength=len(probabilities))
    for target in counts.argsort(descending=True)[:classes].tolist():
        pixels = predicted == target
        if counts[target] < LEAST * int(valid.sum()) or bool(pixels.all()):
            continue
        generator = torch.Generator().manual_seed(0)
        for method, layer in ways:
            start = time.perf_counter()
            answer = explain(network, image, valid, pixels, target, method=method, layer=layer)
            seconds = time.perf_counter() - start
            adds = addition(answer.evidence, probabilities[target], pixels, valid[0])
            own, other = (
                curves(network, image, valid, pixels, target, each)
                for each in (answer.evidence, moved(answer.evidence, generator))
            )
            values = [*own.deletion, *own.insertion, *other.deletion, *other.insertion]
            row = {"correlation": adds.correlation, "outside": adds.outside, "outside_pixels": adds.outside_pixels}
            row |= {"score": own.score, "moved": other.score, "range": max(values) - min(values), "seconds": seconds}
            yield f"{method}, {answer.layer}", row


def line(name: str, values: list[dict[str, float]]) -> str:
    able = [v for v in values if v["range"] >= RANGE]
    middle = {key: median(v[key] for v in values if v[key] == v[key]) for key in values[0]}
    scores = [f"{median(v[key] for v in able):+.3f}" if able else "–" for key in ("score", "moved")]
    wins = sum(v["score"] > v["moved"] for v in able)
    return (
        f"| {name} | {len(values)} | {middle['correlation']:+.2f} | {middle['outside']:.0%} | "
        f"{middle['outside_pixels']:.0%} | {len(able)} | {scores[0]} | {scores[1]} | {wins} | {middle['seconds']:.2f} |"
    )


if __name__ == "__main__":
    main()
