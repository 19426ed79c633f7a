"""Compare the trustworthiness of explanation methods and layers on runs, with the tests of the diagnosis.

Each run's correctly segmented regions are taken in turn from its classes. In each region, every kind of map is compared
with itself shifted, with the map of the network with shuffled weights, and with the mask of the region itself. So are
maps that are wrong on purpose, which must not pass. If `data/marks.json` lies next to a run, which gives for an image
the box [column, row, width, height] of the cue that a class was made to depend on, or nothing, the share of the
evidence in that box is printed, with the box's share of the image.

    python scripts/benchmarks/trust_of_maps.py runs/demo runs/shortcut_study/cued-reported_stripes-real-0/run --cases 10
"""

import argparse
import itertools
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from omegaconf import OmegaConf
from scipy.ndimage import gaussian_filter

from satseg.attribution import LAYER_METHODS, layers_of
from satseg.attribution.faithfulness import randomised
from satseg.diagnosis.cases import Case, CaseReader
from satseg.diagnosis.survey import survey
from satseg.diagnosis.trust import MapFunction, MapKind, Rival, Trust, evaluate_maps, informative_cases, map_kind
from satseg.models import SegmentationNetwork
from satseg.models.checkpoint import load_model
from satseg.records.dataset import recorded_datamodule

EACH = 8  # candidate regions of each class
WRONG = ("shuffled weights", "another image's map", "smooth noise")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--split", default="test")
    parser.add_argument("--cases", type=int, default=10)
    parser.add_argument("--methods", nargs="+", default=["occlusion", "gradcam", "hirescam"])
    parser.add_argument("--layers", nargs="+", default=["auto", "decoder"])
    parser.add_argument("--marked", action="store_true", help="only regions of marked images")
    args = parser.parse_args()
    print("| run | maps | regions | score | beats moved | beats shuffled | beats region | mark | s | verdict |")
    print("| --- | --- | --: | --: | --: | --: | --: | --: | --: | --- |")
    for run in args.runs:
        for line in lines_of(run, args):
            print(line, flush=True)


def lines_of(run: Path, args: argparse.Namespace) -> Iterator[str]:
    network, cases, marks = open_run(run, args)
    layers = layers_of(network, cases[0].image, cases[0].valid, args.layers)
    at_input = [map_kind(method) for method in args.methods if method not in LAYER_METHODS]
    at_layers = [map_kind(method, layer) for method in args.methods if method in LAYER_METHODS for layer in layers]
    timed = [Timed(kind) for kind in [*at_input, *at_layers]]
    wrong = wrong_ways(network, cases, timed[-1].kind)
    name = run.parent.name if run.name == "run" else run.name
    for i, found in enumerate(evaluate_maps(network, cases, [*(each.kind for each in timed), *wrong])):
        own = timed[i] if i < len(timed) else None
        hits, seconds = (on_mark(own.maps, marks), f"{own.seconds / len(own.maps):.2f}") if own else ("", "")
        yield row(name, found, hits, seconds)


def open_run(run: Path, args: argparse.Namespace) -> tuple[SegmentationNetwork, list[Case], dict[str, list[int]]]:
    network, data = load_model(run, torch.device("cpu")), run.parent / "data"
    found = OmegaConf.create({"root": str(data) if data.is_dir() else None, "num_workers": None})
    datamodule = recorded_datamodule(run, found, network.spec, [])
    names = [sample.name for sample in datamodule.samples_of(args.split)]
    seen, reader = (
        survey(network, datamodule.named_items(args.split, names)),
        CaseReader(network, datamodule, args.split),
    )
    path = data / "marks.json"
    marks = {k: v for k, v in json.loads(path.read_text()).items() if v} if path.is_file() else {}
    components = {key: [s for s in own if s.image in marks or not args.marked] for key, own in seen.components.items()}
    groups = [reader.read(components.get((k, k), []), EACH) for k in range(network.spec.num_classes)]
    if args.marked:
        groups = groups[1:]  # class 0 is the background
    turns = [group[i] for i in range(EACH) for group in groups if i < len(group)]
    return network, informative_cases(network, turns, args.cases), marks


class Timed:
    """A kind of map with its time and cached results."""

    def __init__(self, kind: MapKind) -> None:
        self.kind, self.seconds = MapKind(kind.method, kind.layer, self.make), 0.0
        self.maps: list[tuple[str, np.ndarray]] = []
        self._make = kind.make
        self._network: SegmentationNetwork | None = None

    def make(self, network: SegmentationNetwork, case: Case) -> torch.Tensor:
        self._network = self._network or network  # the network itself comes before the shuffled one
        start = time.process_time()
        found = self._make(network, case)
        if network is self._network:
            self.seconds += time.process_time() - start
            self.maps.append((case.component.image, found.numpy()))
        return found


def wrong_ways(network: SegmentationNetwork, cases: Sequence[Case], kind: MapKind) -> list[MapKind]:
    """Return deliberately wrong maps, which do not depend on both network and image."""
    images, valid = (torch.cat([getattr(case, name) for case in cases]) for name in ("image", "valid"))
    seeds = itertools.count(1)
    following = {id(case): cases[(i + 1) % len(cases)] for i, case in enumerate(cases)}

    def shuffled(queried: SegmentationNetwork, case: Case) -> torch.Tensor:
        return kind.make(randomised(network, images, valid, next(seeds)), case)

    def another(queried: SegmentationNetwork, case: Case) -> torch.Tensor:
        return kind.make(queried, following[id(case)])

    def noise(queried: SegmentationNetwork, case: Case) -> torch.Tensor:
        drawn = np.random.default_rng(next(seeds)).normal(size=tuple(case.pixels.shape))
        return torch.from_numpy(gaussian_filter(drawn, max(drawn.shape) / 16)).float()

    makers: tuple[MapFunction, ...] = (shuffled, another, noise)
    return [MapKind(f"wrong: {name}", "input", make) for name, make in zip(WRONG, makers, strict=True)]


def on_mark(maps: Sequence[tuple[str, np.ndarray]], marks: dict[str, list[int]]) -> str:
    """Return the mean share of the evidence on the mark, and the mark's share of the image."""
    shares, areas = [], []
    for image, values in maps:
        if image in marks:
            col, row, width, height = marks[image]
            positive = values.clip(0)
            shares.append(positive[row : row + height, col : col + width].sum() / max(positive.sum(), 1e-12))
            areas.append(width * height / values.size)
    return f"{np.mean(shares):.1%} ({np.mean(areas):.1%})" if shares else "–"


def row(name: str, found: Trust, hits: str, seconds: str) -> str:
    wins = " | ".join(f"{found.wins[rival]} ({found.rivals[rival]:+.2f})" for rival in Rival)
    maps = found.method if found.layer == "input" else f"{found.method} at {found.layer.removeprefix('encoder.model.')}"
    count = f"{found.cases} of {found.looked_at}"
    return f"| {name} | {maps} | {count} | {found.score:+.2f} | {wins} | {hits} | {seconds} | {found.verdict} |"


if __name__ == "__main__":
    main()
