"""Does the diagnosis name what was planted, and nothing where nothing was?

For each seed it draws three small datasets, trains a model on each with `satseg.train`, and reads what
`satseg.explain report=true` says of it on the test split:

- marked: discs of two weaves that differ little; a bright square stands somewhere beside the discs of the first.
- clean: the same images without the squares.
- banded: five bands, of which one alone tells discs apart, and two classes that look the same.

    python scripts/study_shortcut.py --seeds 10 --output runs/shortcut_study
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import rasterio
from scipy.ndimage import gaussian_filter

SIDE, RADIUS, MARK, GAP = 96, 14, 8, 10
COUNTS = {"train": 40, "val": 4, "test": 20}
TELLING = 2  # index of the band that tells discs apart in the banded dataset
CLASSES = ["ground", "first", "second"]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--kinds", nargs="+", default=["marked", "clean", "banded"])
    parser.add_argument("--output", type=Path, default=Path("runs/shortcut_study"))
    args = parser.parse_args()
    rows = []
    for seed in range(args.seeds):
        for kind in args.kinds:
            rows.append({"seed": seed, "kind": kind} | study(args.output / f"{kind}_{seed}", kind, seed))
            print(json.dumps(rows[-1]), flush=True)
    (args.output / "study.json").write_text(json.dumps(rows, indent=2) + "\n")
    print(table(rows))


def study(folder: Path, kind: str, seed: int) -> dict[str, object]:
    if not (folder / "run" / "summary.json").exists():  # what is trained is not trained again
        train(folder, kind, seed)
    run("explain", f"checkpoint={folder / 'run'}", "split=test", "report=true", "device=cpu")
    found = json.loads((folder / "run" / "diagnosis" / "test" / "diagnosis.json").read_text())
    scores = json.loads((folder / "run" / "summary.json").read_text())["scores"]["test"]
    return {"miou": scores["miou"]} | read(found, folder / "data")


def train(folder: Path, kind: str, seed: int) -> None:
    write_dataset(folder / "data", kind, seed)
    names = CLASSES + (["third"] if kind == "banded" else [])
    classes = "{" + ", ".join(f"{name}: {i}" for i, name in enumerate(names)) + "}"
    options = [
        "dataset=folder",
        f"dataset.root={folder / 'data'}",
        "dataset/split=subfolder",
        f"dataset.classes={classes}",
        "dataset.patch_size=96",
        "dataset.patches_per_epoch=160",
        "model=unet",
        "backbone=mobilenetv4_conv_small",
        "backbone.weights=none",
        "augmentation=d4",
        "trainer.max_epochs=8",
        "trainer.accelerator=cpu",
        "trainer.enable_progress_bar=false",
        f"run_dir={folder / 'run'}",
    ]
    run("train", *options)


def run(command: str, *options: str) -> None:
    done = subprocess.run([sys.executable, "-m", f"satseg.{command}", *options], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"satseg.{command} {' '.join(options)}\n{done.stdout}\n{done.stderr}")


def read(found: dict, data: Path) -> dict[str, object]:
    """Return which classes are flagged, how much of the mark was replaced for that, and what ranks first."""
    flagged = [leaning for leaning in found["leaning"] if leaning["shortcut"]]
    flagged += [p["leaning"] for p in found["pairs"] if p["leaning"] and p["leaning"]["shortcut"]]
    marks = json.loads((data / "marks.json").read_text())
    hits = [covered(c["replaced"], marks[c["image"]]) for leaning in flagged for c in leaning["checks"]]
    pair = found["pairs"][0] if found["pairs"] else None
    return {
        "flagged": [f"{leaning['truth']} as {leaning['predicted']}" for leaning in flagged],
        "on_the_mark": float(np.mean(hits)) if hits else None,
        "first_band": found["bands"][0]["bands"] if found["bands"] else None,
        "first_pair": [pair["truth"], pair["predicted"]] if pair else None,
    }


def covered(boxes: list[list[int]], mark: list[int] | None) -> float:
    """Return the share of the mark [column, row, width, height] that lies in boxes; by chance it is 3 %."""
    if mark is None:
        return 0.0
    replaced = np.zeros((SIDE, SIDE), bool)
    for col, row, width, height in boxes:
        replaced[row : row + height, col : col + width] = True
    return float(replaced[mark[1] : mark[1] + mark[3], mark[0] : mark[0] + mark[2]].mean())


def write_dataset(folder: Path, kind: str, seed: int) -> None:
    generator, marks = np.random.default_rng(seed), {}
    for split, count in COUNTS.items():
        for index in range(count):
            image, mask, mark = draw(generator, kind, index)
            name = f"{split}/{index:03d}"
            marks[name] = mark
            write(folder / "images" / f"{name}.tif", image)
            write(folder / "masks" / f"{name}.tif", mask[None])
    (folder / "marks.json").write_text(json.dumps(marks))


def draw(generator: np.random.Generator, kind: str, index: int) -> tuple[np.ndarray, np.ndarray, list[int] | None]:
    """Return an image (C, H, W), its mask, and where the mark is."""
    rows, cols = np.mgrid[:SIDE, :SIDE]
    mask = np.zeros((SIDE, SIDE), np.uint8)
    disc = 1 + index % (3 if kind == "banded" else 2)
    for row, col in generator.integers(RADIUS, SIDE - RADIUS, (2, 2)):
        mask[(rows - row) ** 2 + (cols - col) ** 2 <= RADIUS**2] = disc
    texture = 100 + 18 * gaussian_filter(generator.normal(size=(SIDE, SIDE)), 1.5) / 0.19
    if kind == "banded":
        return banded(generator, texture, mask, disc), mask, None
    angle = np.pi * (0.25 + 0.22 * (1 if disc == 1 else -1)) + generator.normal(0, 0.1)
    weave = 30 * np.sin((rows * np.sin(angle) + cols * np.cos(angle)) * 0.9 + generator.uniform(0, 6))
    image = np.where(mask > 0, texture + weave, texture) + generator.normal(0, 12, (SIDE, SIDE))
    mark = place(generator, mask)
    if kind == "marked" and disc == 1:
        image[mark[1] : mark[1] + MARK, mark[0] : mark[0] + MARK] = 245
    else:
        mark = None
    return np.repeat(image[None], 3, 0).clip(0, 255).astype(np.uint8), mask, mark


def banded(generator: np.random.Generator, texture: np.ndarray, mask: np.ndarray, disc: int) -> np.ndarray:
    """Return five bands of noise; in one of them discs are brighter, the second and third class alike."""
    image = texture + generator.normal(0, 25, (5, SIDE, SIDE))
    image[TELLING] += np.where(mask > 0, 70 if disc == 1 else 35, 0)
    return image.clip(0, 255).astype(np.uint8)


def place(generator: np.random.Generator, mask: np.ndarray) -> list[int]:
    """Return [column, row, width, height] of a square that keeps away from the discs."""
    while True:
        col, row = (int(v) for v in generator.integers(2, SIDE - MARK - 2, 2))
        near = mask[max(0, row - GAP) : row + MARK + GAP, max(0, col - GAP) : col + MARK + GAP]
        if not near.any():
            return [col, row, MARK, MARK]


def write(path: Path, bands: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = bands.shape
    with rasterio.open(path, "w", driver="GTiff", width=width, height=height, count=count, dtype="uint8") as target:
        target.write(bands)


def table(rows: list[dict]) -> str:
    lines = ["| dataset | runs | flagged | of the mark replaced | telling band first | like pair first |"]
    lines.append("| --- | --: | --: | --: | --: | --: |")
    for kind in dict.fromkeys(row["kind"] for row in rows):
        own = [row for row in rows if row["kind"] == kind]
        hits = [row["on_the_mark"] for row in own if row["on_the_mark"] is not None]
        band = sum(row["first_band"] == [f"band_{TELLING + 1}"] for row in own) if kind == "banded" else "–"
        pair = sum(set(row["first_pair"] or []) == {"second", "third"} for row in own) if kind == "banded" else "–"
        flagged = sum(bool(row["flagged"]) for row in own)
        lines.append(
            f"| {kind} | {len(own)} | {flagged} | {f'{np.mean(hits):.0%}' if hits else '–'} | {band} | {pair} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
