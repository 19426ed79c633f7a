"""Measure the rank of planted label errors in the list of labels to check.

One error at a time is planted in the labels of an image of a split, among those that the model segments best, and all
images of the split are ranked. Printed are the ranks by the share of confidently contradicted pixels only, and the
ranks of the diagnosis, which also detects displaced, rotated, mirrored, scaled and exchanged labels; and how often it
identifies the planted error: an offset within 3 pixels (relative to the one that most masks have), the rotation, the
scale, or the classes.

    python scripts/benchmarks/planted_label_errors.py runs/… --split test --errors 20
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from omegaconf import OmegaConf

from satseg.diagnosis.displacement import Offset
from satseg.diagnosis.mistakes import Mistake
from satseg.diagnosis.survey import Survey, survey
from satseg.diagnosis.suspects import Suspects, rank_suspects
from satseg.models.checkpoint import load_model
from satseg.records.dataset import recorded_datamodule

MIXED = 0.05  # least share of the second class: a displacement is invisible in a mask of one class
NEAR = 3.0  # pixels

Identifies = Callable[[Mistake, Offset], bool]
Plant = Callable[[np.ndarray, np.random.Generator], tuple[np.ndarray, Identifies]]


class Trial(NamedTuple):
    """Ranks of an image in the two lists, and whether the error was identified."""

    by_share: int
    place: int
    listed: bool
    named: bool


def exchanged(mask: np.ndarray, generator: np.random.Generator) -> tuple[np.ndarray, Identifies]:
    one, other = sorted(np.argsort(-np.bincount(mask[mask < 255]))[:2].tolist())
    planted = np.where(mask == one, other, np.where(mask == other, one, mask))
    return planted, lambda mistake, usual: mistake.exchanged == (one, other)


def turned(change: Callable[[np.ndarray], np.ndarray], name: str) -> Plant:
    def plant(mask: np.ndarray, generator: np.random.Generator) -> tuple[np.ndarray, Identifies]:
        return change(mask).copy(), lambda mistake, usual: mistake.turn == name

    return plant


def scaled(scale: float) -> Plant:
    def plant(mask: np.ndarray, generator: np.random.Generator) -> tuple[np.ndarray, Identifies]:
        rows, cols = (np.clip(((np.arange(n) + 0.5 - n / 2) / scale + n / 2).astype(int), 0, n - 1) for n in mask.shape)
        return mask[rows][:, cols], lambda mistake, usual: mistake.scale == scale

    return plant


def displaced(pixels: float, quarter: bool = False) -> Plant:
    """Displace a mask in a random direction, repeating its edge; or one quarter of it."""

    def plant(mask: np.ndarray, generator: np.random.Generator) -> tuple[np.ndarray, Identifies]:
        angle = generator.uniform(0, 2 * math.pi)
        down, right = round(pixels * math.sin(angle)), round(pixels * math.cos(angle))
        room, (height, width) = math.ceil(pixels), mask.shape
        wide = np.pad(mask, room, mode="edge")
        planted = wide[room - down : room - down + height, room - right : room - right + width].copy()
        if quarter:
            row, col = generator.integers(2, size=2) * (height // 2, width // 2)
            part = slice(row, row + height // 2), slice(col, col + width // 2)
            planted, moved = mask.copy(), planted
            planted[part] = moved[part]
        return planted, lambda mistake, usual: _near(mistake.offset, (right + usual.right, down + usual.down))

    return plant


def _near(offset: Offset | None, true: tuple[int, int]) -> bool:
    return offset is not None and math.dist(offset, true) <= NEAR


KINDS: dict[str, Plant] = {
    "two classes exchanged": exchanged,
    "top to bottom": turned(np.flipud, "mirrored top to bottom"),
    "left to right": turned(np.fliplr, "mirrored left to right"),
    "quarter turn": turned(np.rot90, "rotated by 90° to the left"),
    **{f"displaced by {pixels} px": displaced(pixels) for pixels in (3, 6, 12, 24)},
    **{f"a quarter displaced by {pixels} px": displaced(pixels, quarter=True) for pixels in (6, 12, 24)},
    "10 % larger": scaled(1.1),
    "10 % smaller": scaled(0.9),
}


def rank_all(surveys: dict[str, Survey]) -> Suspects:
    """Rank the images of a split by their individual findings."""
    disagreements = [d for each in surveys.values() for d in each.disagreements]
    return rank_suspects(disagreements, [f for each in surveys.values() for f in each.fits], len(surveys))


def trial(surveys: dict[str, Survey], name: str, changed: Survey, identifies: Identifies) -> Trial:
    found = rank_all(surveys | {name: changed})
    shares = {suspect.image: suspect.share for suspect in found.ranked}
    by_share = 1 + sum(share > shares.get(name, 0.0) for image, share in shares.items() if image != name)
    place, suspect = next(
        ((n, s) for n, s in enumerate(found.ranked, 1) if s.image == name), (len(surveys), found.ranked[-1])
    )
    mistake = suspect.mistake
    return Trial(by_share, place, suspect in found.outliers, bool(mistake and identifies(mistake, found.usual_offset)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--split", default="test")
    parser.add_argument("--root", help="of the dataset, if it has moved")
    parser.add_argument("--errors", type=int, default=20, help="of each kind")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    network = load_model(args.checkpoint)
    changes = OmegaConf.create({"root": args.root} if args.root else {})
    datamodule = recorded_datamodule(args.checkpoint, changes, network.spec)
    datamodule.setup()
    names = [sample.name for sample in datamodule.samples_of(args.split)]
    items: dict[str, dict[str, Any]] = {name: next(iter(datamodule.named_items(args.split, [name]))) for name in names}
    surveys = {name: survey(network, [item]) for name, item in items.items()}
    surveys = {name: found for name, found in surveys.items() if found.images}
    clean = rank_all(surveys)
    right = {name: np.trace(found.matrix) / found.matrix.sum() for name, found in surveys.items()}
    mixed = [n for n, found in surveys.items() if np.sort(found.matrix.sum(1))[-2] >= MIXED * found.matrix.sum()]
    chosen = sorted(mixed, key=lambda name: -right[name])[: args.errors]
    tenth = math.ceil(len(surveys) / 10)
    print(
        f"{len(surveys)} images, of which errors go into {len(chosen)} with {min(map(right.get, chosen)):.1%} or more"
    )
    print(f"of the pixels right. Most masks lie off by {tuple(clean.usual_offset)}. As they are, images are listed:")
    print(*(f"  {s.image}, contradicted {s.share:.1%}, {s.mistake}" for s in clean.outliers), sep="\n")
    print("| planted | places by share | first tenth | places now | first tenth | listed | named |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    generator = np.random.default_rng(args.seed)
    for kind, plant in KINDS.items():
        trials = []
        for name in chosen:
            mask, identifies = plant(items[name]["mask"].numpy(), generator)
            changed = survey(network, [items[name] | {"mask": torch.from_numpy(mask)}])
            trials.append(trial(surveys, name, changed, identifies))
        before, now = sorted(t.by_share for t in trials), sorted(t.place for t in trials)
        print(
            f"| {kind} | {before[len(before) // 2]} ({before[0]} to {before[-1]}) | {_share(before, tenth)} "
            f"| {now[len(now) // 2]} ({now[0]} to {now[-1]}) | {_share(now, tenth)} "
            f"| {sum(t.listed for t in trials)} | {sum(t.named for t in trials)} |",
            flush=True,
        )


def _share(places: list[int], tenth: int) -> str:
    return f"{sum(place <= tenth for place in places)} of {len(places)}"


if __name__ == "__main__":
    main()
