"""Measure training patches per second from disk, against plain reads of the same windows.

GeoTIFFs (tiled deflate, 3 and 8 bands), without a cache of decoded images, against window reads of image and mask from
open files. JPEGs and PNGs (of Dubai if SATSEG_SHARED is set, otherwise generated), with cached decoded images, against
decoding the whole image and mask for each patch. Variants alternate.

    python scripts/benchmarks/loading_speed.py --rounds 5 --batches 40
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from PIL import Image

from satseg.data.folder import FolderDataModule
from satseg.data.sampling.sampler import PatchRequest
from satseg.data.splits import Group, Random

PATCH, BATCH = 256, 8
CLASSES = 6
WARM_UP = 16  # batches before each measurement
COLOURS = {"water": "#e2a929", "land": "#8429f6", "road": "#6ec1e4", "building": "#3c1098", "vegetation": "#fedd3a"}


def texture(random: np.random.Generator, count: int, size: int) -> np.ndarray:
    """Return uint8 bands (count, size, size) that compress about as well as imagery."""
    coarse = random.integers(40, 200, (count, size // 16, size // 16)).repeat(16, 1).repeat(16, 2)
    return (coarse + random.integers(-20, 20, (count, size, size))).astype(np.uint8)


def write_geotiffs(root: Path, count: int, size: int) -> None:
    random = np.random.default_rng(0)
    profile = {"driver": "GTiff", "dtype": "uint8", "height": size, "width": size, "compress": "deflate"}
    profile |= {"tiled": True, "blockxsize": 256, "blockysize": 256, "crs": "EPSG:32633", "photometric": "minisblack"}
    for number in range(4):
        for kind, bands in (("images", texture(random, count, size)), ("masks", texture(random, 1, size) % CLASSES)):
            (root / kind).mkdir(parents=True, exist_ok=True)
            place = rasterio.Affine(10, 0, 5e5 + number * 10 * size, 0, -10, 4.6e6)
            with rasterio.open(
                root / kind / f"{number}.tif", "w", count=len(bands), transform=place, **profile
            ) as file:
                file.write(bands)


def write_photographs(root: Path) -> None:
    random = np.random.default_rng(0)
    for number in range(12):
        for kind in ("images", "masks"):
            (root / kind).mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.moveaxis(texture(random, 3, 1024), 0, 2)).save(root / f"images/{number}.jpg")
        Image.fromarray(texture(random, 1, 1024)[0] % CLASSES).save(root / f"masks/{number}.png")


def geotiffs(root: Path, workers: int, cache_gb: float) -> FolderDataModule:
    return module(root, workers, cache_gb, classes=[str(i) for i in range(CLASSES)], split=Random())


def photographs(root: Path, workers: int, cache_gb: float) -> FolderDataModule:
    if (root / "images").is_dir():
        return geotiffs(root, workers, cache_gb)
    patterns = {"images": "Tile */images/*.jpg", "masks": "Tile */masks/*.png"}
    ignored = ["#9b9b9b", "#000000"]
    split = Group(r"Tile (\d+)", val=["2"], test=["3", "4"])
    return module(root, workers, cache_gb, classes=COLOURS, ignore_values=ignored, split=split, **patterns)


def module(root: Path, workers: int, cache_gb: float, **options: Any) -> FolderDataModule:
    sizes = {"patch_size": PATCH, "batch_size": BATCH, "patches_per_epoch": 100_000}
    data = FolderDataModule(root, num_workers=workers, cache_gb=cache_gb, **sizes, **options)
    data.setup()
    return data


def drawn(data: FolderDataModule) -> Iterator[PatchRequest]:
    """Yield windows sampled as in training, endlessly."""
    _ = data.train_dataloader()
    for batch in data.train_sampler:
        yield from batch


def through_satseg(data: FolderDataModule) -> Callable[[int], float]:
    """Return a function that times batches of an endless epoch, with workers started."""
    loader: Iterator[Any] = iter(data.train_dataloader())

    def run(batches: int) -> float:
        start = time.perf_counter()
        for _ in range(batches):
            next(loader)
        return time.perf_counter() - start

    run(4)
    return run


def open_files(data: FolderDataModule) -> Callable[[int], float]:
    """Return a function that times window reads of open images and masks."""
    train, windows = data.splits["train"], drawn(data)
    files = [(rasterio.open(s.image), rasterio.open(s.mask)) for s in train]

    def run(batches: int) -> float:
        wanted = list(islice(windows, batches * BATCH))
        start = time.perf_counter()
        for request in wanted:
            window = rasterio.windows.Window(*request.window)
            for file in files[request.sample]:
                file.read(window=window)
        return time.perf_counter() - start

    return run


def whole_files(data: FolderDataModule) -> Callable[[int], float]:
    """Return a function that times decoding of whole images and masks, and cropping."""
    train, windows = data.splits["train"], drawn(data)

    def run(batches: int) -> float:
        wanted = list(islice(windows, batches * BATCH))
        start = time.perf_counter()
        for request in wanted:
            col, row, width, height = request.window
            for path in (train[request.sample].image, train[request.sample].mask):
                np.array(np.asarray(Image.open(path))[max(row, 0) : row + height, max(col, 0) : col + width])
        return time.perf_counter() - start

    return run


def peak_mb(pid: int) -> float:
    """Return the peak memory of a process, including shared memory (Linux)."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1e3


def compare(name: str, bare: Callable[[int], float], ours: dict[str, Callable[[int], float]], args: Any) -> None:
    times: dict[str, list[float]] = {"bare": [], **{label: [] for label in ours}}
    for _ in range(args.rounds):
        for label, run in {"bare": bare, **ours}.items():
            run(WARM_UP)  # the previous reader has filled GDAL's cache with its blocks
            times[label].append(run(args.batches))
    patches = args.batches * BATCH
    print(f"{name}: the plain way {patches / statistics.median(times['bare']):.0f} patches/s")
    for label in ours:
        ratio = statistics.median(a / b for a, b in zip(times["bare"], times[label], strict=True))
        print(f"  satseg, {label}: {patches / statistics.median(times[label]):.0f} patches/s, {ratio:.2f} of it")


def one(kind: str, root: Path, args: Any) -> None:
    """Measure one dataset in a separate process, for its own peak memory."""
    make, cache, plain = (photographs, 4.0, whole_files) if kind == "photographs" else (geotiffs, 0.0, open_files)
    without_workers, with_workers = make(root, 0, cache), make(root, 2, cache)
    for data in (without_workers, with_workers):
        start = time.perf_counter()
        _ = data.spec
        if cache:
            reader, samples = data.reader, [s for own in data.splits.values() for s in own]
            for sample in samples:
                reader.read(sample)
            pixels = sum(h * w for h, w in data.sizes.values())
            took = time.perf_counter() - start
            print(f"{kind}: {len(samples)} images kept decoded, {pixels * 5 / 1e6:.0f} MB, made in {took:.1f} s")
    runs = {"no worker": through_satseg(without_workers), "2 workers": through_satseg(with_workers)}
    compare(kind, plain(without_workers), runs, args)
    workers = [int(pid) for file in Path("/proc/self/task").glob("*/children") for pid in file.read_text().split()]
    most = max(peak_mb(pid) for pid in workers)
    print(f"  peak memory {peak_mb(os.getpid()):.0f} MB, of a worker at most {most:.0f} MB")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, default=40)
    parser.add_argument("--size", type=int, default=8192, help="edge of a GeoTIFF in pixels")
    parser.add_argument("--one", nargs=2, metavar=("KIND", "ROOT"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    if args.one:
        one(args.one[0], Path(args.one[1]), args)
        return
    shared = os.environ.get("SATSEG_SHARED")
    with tempfile.TemporaryDirectory() as folder:
        for count in (3, 8):
            write_geotiffs(Path(folder, f"{count} bands"), count, args.size)
        if not shared:
            write_photographs(Path(folder, "photographs"))
        roots = {"3 bands": Path(folder, "3 bands"), "8 bands": Path(folder, "8 bands")}
        roots["photographs"] = Path(shared, "data/dubai") if shared else Path(folder, "photographs")
        for kind, root in roots.items():
            numbers = ["--rounds", str(args.rounds), "--batches", str(args.batches)]
            command = [sys.executable, __file__, "--one", kind, str(root), *numbers]
            # Both cache the same amount, far less than the size of the scenes, as with real scenes.
            subprocess.run(command, check=True, env=os.environ | {"GDAL_CACHEMAX": "64"})


if __name__ == "__main__":
    main()
