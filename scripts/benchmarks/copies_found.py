"""Measure duplicate detection in validation: found copies and overlapping crops, false pairs, and the cost.

python scripts/benchmarks/copies_found.py found              # on embedded images
python scripts/benchmarks/copies_found.py found a.jpg b.jpg  # on your own images
python scripts/benchmarks/copies_found.py cost 1000          # with 1000 images of 64 x 64 pixels

Set PYTHONPATH to measure another checkout.
"""

from __future__ import annotations

import io
import re
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import rasterio
from PIL import Image
from rasterio.enums import Resampling
from rasterio.io import MemoryFile
from rasterio.vrt import WarpedVRT
from scipy.ndimage import gaussian_filter

from satseg.data.rasters.header import Window
from satseg.data.rasters.opening import quiet
from satseg.data.samples import Sample
from satseg.data.synthetic.scene import GAIN, make_scene
from satseg.validate.facts import Facts
from satseg.validate.image_tally import ImageTally
from satseg.validate.leakage import check_leakage

Change = Callable[[np.ndarray], np.ndarray]  # of (height, width, bands)
NOISE, ZOOM, QUALITY, SHARE = 8, 1.1, 75, 0.4
PLACED = (10.0, 0.0, 0.0, 0.0, -10.0, 0.0)  # edges of images with coordinates are not compared
COPIES = ("duplicates", "near_duplicates", "overlapping_crops")
RANDOM = np.random.default_rng(0)


def turn(number: int) -> Change:
    """Return one of the eight orientations."""
    return lambda image: np.rot90(image[:, ::-1] if number >= 4 else image, number % 4)


def jpeg(image: np.ndarray) -> np.ndarray:
    """Compress the first three bands as JPEG, or all values scaled to 8 bits."""
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image[..., :3])).save(file, "JPEG", quality=QUALITY)
    return np.asarray(Image.open(file))


def noise(image: np.ndarray) -> np.ndarray:
    """Add noise to each value."""
    return np.clip(image + RANDOM.normal(size=image.shape) * NOISE, 0, 255).round().astype(np.uint8)


def enlarged(image: np.ndarray) -> np.ndarray:
    """Enlarge the centre to the size of the image."""
    height, width = image.shape[:2]
    edge_x, edge_y = width * (1 - 1 / ZOOM) / 2, height * (1 - 1 / ZOOM) / 2
    box = (edge_x, edge_y, width - edge_x, height - edge_y)
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC, box=box))


def reduced(image: np.ndarray) -> np.ndarray:
    """Reduce the image and fill the edge with its reflection."""
    height, width = image.shape[:2]
    small = Image.fromarray(image).resize((round(width / ZOOM), round(height / ZOOM)), Image.Resampling.LANCZOS)
    rows, columns = height - small.height, width - small.width
    edges = ((rows // 2, rows - rows // 2), (columns // 2, columns - columns // 2), (0, 0))
    return np.pad(np.asarray(small), edges, mode="reflect")


def both(first: Change, second: Change) -> Change:
    """Return the composition of two changes."""
    return lambda image: np.ascontiguousarray(second(np.ascontiguousarray(first(image))))


TURNED = ("", "90°", "180°", "270°", "mirrored", "mirrored, 90°", "mirrored, 180°", "mirrored, 270°")
CHANGES: dict[str, Change] = {
    "": lambda image: image,
    "JPEG": jpeg,
    f"noise of {NOISE}": noise,
    "enlarged by 10 %": enlarged,
    "reduced by 10 %": reduced,
    "enlarged by 10 %, JPEG": both(enlarged, jpeg),
    f"enlarged by 10 %, noise of {NOISE}": both(enlarged, noise),
}


def warped(image: np.ndarray, resampling: Resampling, crs: str = "EPSG:32633") -> np.ndarray:
    """Resample by half a pixel, or into another CRS with pixels of the same size."""
    data = np.moveaxis(image, -1, 0)
    place = rasterio.Affine(10, 0, 500_000, 0, -10, 5_000_000)
    profile = {"driver": "GTiff", "count": len(data), "height": data.shape[1], "width": data.shape[2]}
    with quiet(), MemoryFile() as memory:
        with memory.open(**profile, dtype=data.dtype, crs="EPSG:32633", transform=place) as file:
            file.write(data)
        with memory.open() as file:
            if crs == "EPSG:32633":
                moved = {"transform": place * rasterio.Affine.translation(0.5, 0.5)}
                options = moved | {"height": data.shape[1], "width": data.shape[2]}
            else:
                options = {}
            with WarpedVRT(file, crs=crs, resampling=resampling, **options) as source:
                whole: np.ndarray = np.moveaxis(source.read(), 0, -1)
                rows, columns = (side // 12 if options == {} else 0 for side in whole.shape[:2])  # what lies outside
                return whole[rows : len(whole) - rows, columns : whole.shape[1] - columns]


def one_off(image: np.ndarray) -> np.ndarray:
    """Change 2 % of the values by 1."""
    change: np.ndarray = RANDOM.choice([-1, 0, 1], size=image.shape, p=(0.01, 0.98, 0.01))
    changed: np.ndarray = np.clip(image.astype(np.int64) + change, 0, None).astype(image.dtype)
    return changed


CROPS: dict[str, Change] = {
    "exact": lambda image: image,
    "2 % of the numbers off by 1": one_off,
    "half a pixel, nearest": lambda image: warped(image, Resampling.nearest),
    "half a pixel, bilinear": lambda image: warped(image, Resampling.bilinear),
    "other CRS, nearest": lambda image: warped(image, Resampling.nearest, "EPSG:32632"),
    "other CRS, bilinear": lambda image: warped(image, Resampling.bilinear, "EPSG:32632"),
    "JPEG": jpeg,
    f"noise of {NOISE}": noise,
    "90°": turn(1),
    "mirrored, JPEG": both(turn(4), jpeg),
}


def facts_of(name: str, image: np.ndarray, is_placed: bool = True) -> Facts:
    """Measure an image (height, width, bands) as validation does."""
    height, width, count = image.shape
    info: Any = SimpleNamespace(  # the attributes of a header that are read here, also by older versions
        width=width, height=height, count=count, dtype=str(image.dtype), transform=PLACED if is_placed else None
    )
    tally = ImageTally(info, count, 10, name)
    tally.add(Window(0, 0, width, height), np.moveaxis(image, -1, 0), np.ones((height, width), bool), None)
    sample = Sample(name, Path(name), Path(name))
    return Facts(sample, image_info=info, image=tally.facts())


def embedded(number: int) -> np.ndarray:
    """Return a scene of the embedded data."""
    scene = make_scene((1, number), 512)
    stored = np.clip(np.rint(scene.reflectance[[2, 1, 0]] * GAIN), 1, 255).astype(np.uint8)
    return np.ascontiguousarray(np.moveaxis(stored, 0, -1))


def report(train: list[Facts], test: list[Facts]) -> tuple[set[str], int, str]:
    """Return the names of images in reported pairs, the number of pairs, and the messages."""
    findings = [f for f in check_leakage({"train": train, "test": test}) if f.check in COPIES]
    pairs = sum(int(re.search(r"([\d,]+) pair", f.message)[1].replace(",", "")) for f in findings)  # type: ignore[index]
    return {name for f in findings for name in f.files}, pairs, " | ".join(f.message for f in findings)


def found(images: list[np.ndarray]) -> None:
    """Print the pairs among the images themselves, the planted copies and crops that are found, and other pairs."""
    originals = [facts_of(f"a{n}", image) for n, image in enumerate(images)]
    for bit in range(max(1, (len(images) - 1).bit_length())):  # each pair is apart in one of these
        halves = [[f for n, f in enumerate(originals) if (n >> bit) % 2 == side] for side in (0, 1)]
        _, pairs, words = report(*halves)
        print(f"| as they are, in halves {bit} | {pairs} pairs | {words} |", flush=True)
    for kind, change in CHANGES.items():
        row = []
        for number in range(len(TURNED)):
            copies = [facts_of(f"b{n}", both(turn(number), change)(i)) for n, i in enumerate(images)]
            row.append(_score(originals, copies))
        print(f"| {kind} | {' | '.join(row)} |", flush=True)
    wide = [i for i in images if i.shape[1] >= 100]
    for kind, change in CROPS.items():
        width = [round(i.shape[1] / (2 - SHARE)) for i in wide]
        lefts = [facts_of(f"a{n}", i[:, :w]) for n, (i, w) in enumerate(zip(wide, width, strict=True))]
        rights = [change(np.ascontiguousarray(i[:, -w:])) for i, w in zip(wide, width, strict=True)]
        score = _score(lefts, [facts_of(f"b{n}", np.ascontiguousarray(i)) for n, i in enumerate(rights)])
        print(f"| crops with {SHARE:.0%} in common, {kind} | {score} |", flush=True)


def _score(originals: list[Facts], copies: list[Facts]) -> str:
    """Return the number of planted pairs that are found, and of other pairs that are reported."""
    names, pairs, _ = report(originals, copies)
    number = sum({f"a{n}", f"b{n}"} <= names for n in range(len(originals)))
    return f"{number} of {len(originals)}{f' and {pairs - number}' if pairs > number else ''}"


def cost(number: int) -> None:
    """Print the cost of images of 64 x 64 pixels: seconds for measuring and comparing, and memory."""
    started = time.process_time()
    facts: dict[str, list[Facts]] = {"train": [], "val": [], "test": []}
    for n in range(number):
        random = np.random.default_rng(n)
        texture = sum(gaussian_filter(random.normal(size=(64, 64)), s) * s for s in (1, 3, 8)) * 60 + 120
        image = np.repeat(np.clip(texture, 0, 255).astype(np.uint8)[..., None], 3, axis=2)
        facts[("train", "train", "train", "train", "train", "val", "test")[n % 7]].append(facts_of(f"{n}", image))
    measured = time.process_time()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    findings = check_leakage(facts)
    compared = time.process_time() - measured
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        f"| {number:,} | {measured - started:.1f} s | {compared:.1f} s | {before / 1024:,.0f} MiB | "
        f"{peak / 1024:,.0f} MiB | {[f.message for f in findings]} |"
    )


def main() -> None:
    """Run the command line."""
    what, *arguments = sys.argv[1:]
    if what == "cost":
        cost(int(arguments[0]))
        return
    with quiet():
        if arguments:
            images = [np.asarray(Image.open(p).convert("RGB")) for p in arguments]
        else:
            images = [embedded(n) for n in range(24)]
        found(images)


if __name__ == "__main__":
    main()
