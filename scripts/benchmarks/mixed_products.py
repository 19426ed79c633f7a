"""Measure detection of images with another offset, unit or product that are mixed into a dataset.

Real scenes are cut into images, or used by date; one image, a tenth or half of each set is changed to resemble another
product. A change is found if a finding names the changed files, apart from one in ten, and partly found if it names
most of them; any finding in an unchanged set, or in a few images of it, is a false alarm. It needs the shared test
data.

    python scripts/benchmarks/mixed_products.py ../shared/data
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import rasterio

from satseg.data.labels.discovery import scheme_from_config
from satseg.data.rasters.opening import quiet
from satseg.data.samples import Sample
from satseg.data.synthetic.scene import make_scene
from satseg.validate.facts import Facts, ScanPlan
from satseg.validate.scanning import scan
from satseg.validate.shifts import check_shifts

SHARES = (0.01, 0.1, 0.5)
SMALL, TURNS = (2, 3, 4, 6, 10), 12  # images of small sets, and how many of each size
DRAWN = 4000  # pixels of an image
Change = Callable[[np.ndarray], np.ndarray]
# What the atmosphere adds to reflectance, and the share of it that it lets through, from blue to short-wave infrared.
PATH, THROUGH = (0.10, 0.075, 0.045, 0.02, 0.008, 0.004), (0.80, 0.84, 0.88, 0.93, 0.97, 0.98)


def read(path: Path) -> np.ndarray:
    with rasterio.open(path) as file:
        return file.read()


def tiles(image: np.ndarray, number: int = 5) -> Iterator[np.ndarray]:
    height, width = image.shape[1] // number, image.shape[2] // number
    for row, col in np.ndindex(number, number):
        yield image[:, row * height : (row + 1) * height, col * width : (col + 1) * width]


def sentinel2(data: Path) -> Iterator[np.ndarray]:
    yield from tiles(read(data / "sen1floods11/Spain_7370579_S2Hand.tif")[[1, 2, 3, 7, 11, 12]].astype(np.float32))


def thirteen(data: Path) -> Iterator[np.ndarray]:
    yield from tiles(read(data / "sen1floods11/Spain_7370579_S2Hand.tif").astype(np.float32))


def reflectance(data: Path) -> Iterator[np.ndarray]:
    yield from tiles(read(data / "polygons_small/sen2.tif")[[1, 2, 3, 7, 10, 11]] * 10_000)


def embedded(data: Path) -> Iterator[np.ndarray]:
    for number in range(24):
        yield (make_scene((7, number), 128).reflectance * 10_000).astype(np.float32)


def modis(data: Path) -> Iterator[np.ndarray]:
    for year in sorted(data.glob("modis_crops/*_*")):
        yield from np.stack([read(year / f"{band}.tif") for band in ("blue", "red", "nir", "mir")], 1).astype(
            np.float32
        )


def fields(data: Path) -> Iterator[np.ndarray]:
    for path in sorted(data.glob("crop_fields/images/*.tif")):
        yield read(path).astype(np.float32)


def ndvi(data: Path) -> Iterator[np.ndarray]:
    for date in np.load(data / "eolearn_timeseries/data/NDVI.npy", allow_pickle=False):
        yield np.moveaxis(date, -1, 0).astype(np.float32)


def radar(data: Path) -> Iterator[np.ndarray]:
    """Simulated backscatter in two polarisations: a scene's brightness as the mean of four looks."""
    random = np.random.default_rng(0)
    for image in sentinel2(data):
        yield (image[[3, 4]] / 30_000 * random.gamma(4, 1 / 4, (2, *image.shape[1:]))).astype(np.float32) + 1e-4


def top_of_atmosphere(image: np.ndarray) -> np.ndarray:
    places = np.linspace(0, len(PATH) - 1, len(image))
    path, through = (np.interp(places, np.arange(len(PATH)), v)[:, None, None] for v in (PATH, THROUGH))
    return np.asarray(image * through + 10_000 * path, np.float32)


OPTICAL: dict[str, Change] = {
    "1000 higher": lambda image: image + 1000,
    "from 0 to 1": lambda image: image / 10_000,
    "of 8 bits": lambda image: np.rint(image / 10_000 * 255),
    "ten times": lambda image: image * 10,
    "top of atmosphere": top_of_atmosphere,
}
SETS: dict[Callable[[Path], Iterator[np.ndarray]], dict[str, Change]] = {
    sentinel2: OPTICAL,
    thirteen: OPTICAL,
    reflectance: OPTICAL,
    embedded: OPTICAL,
    modis: OPTICAL,
    fields: {"ten times": OPTICAL["ten times"], "from 0 to 1": lambda image: image / 65_535},
    ndvi: {"from 0 to 200": lambda image: image * 100 + 100, "ten thousand times": lambda image: image * 10_000},
    radar: {"in dB": lambda image: 10 * np.log10(image), "in amplitude": np.sqrt},
}


def write(path: Path, image: np.ndarray) -> Path:
    path.parent.mkdir(exist_ok=True)
    count, height, width = image.shape
    with rasterio.open(path, "w", driver="GTiff", count=count, height=height, width=width, dtype="float32") as file:
        file.write(image.astype(np.float32))
    return path


def facts_of(images: list[np.ndarray], folder: Path) -> list[Facts]:
    plan = ScanPlan(scheme_from_config(["a", "b"]), None, None, DRAWN)
    found = []
    for number, image in enumerate(images):
        path, mask = folder / f"{number}.tif", folder / "mask.tif"
        write(mask, np.zeros((1, *image.shape[1:])))
        found.append(scan(Sample(f"{folder.name}/{number}", write(path, image), mask), plan))
    return found


def verdict(findings: list[set[str]], planted: set[str]) -> str:
    """Return whether a finding names the changed files: all but a tenth, or most of them."""
    wrong = min((len(files ^ planted) for files in findings), default=len(planted))
    return "found" if wrong <= 0.1 * len(planted) else "partly" if wrong <= 0.5 * len(planted) else "MISSED"


def mixed(originals: list[Facts], changed: list[Facts], share: float) -> tuple[str, str]:
    """Return the verdict on a share of changed images, and the message."""
    number = max(1, round(share * len(originals)))
    chosen = set(np.random.default_rng(1).choice(len(originals), number, replace=False).tolist())
    facts = [changed[i] if i in chosen else originals[i] for i in range(len(originals))]
    planted = {changed[i].image_file for i in chosen}
    others = {f.image_file for f in facts} - planted
    findings = check_shifts(facts)
    named = [set(f.files) for f in findings]
    verdicts = {verdict(named, side) for side in ([planted, others] if 2 * number >= len(originals) - 1 else [planted])}
    best = next(word for word in ("found", "partly", "MISSED") if word in verdicts)
    return best, "; ".join(f"{len(f.files)} {f.message.partition(' ')[2]}" for f in findings) or "nothing"


def small_sets(originals: list[Facts]) -> tuple[int, int]:
    """Return the number of small unchanged sets with a false alarm, and the number of sets."""
    random, sizes = np.random.default_rng(0), [s for s in SMALL for _ in range(TURNS) if s <= len(originals)]
    some = [[originals[i] for i in random.choice(len(originals), size, replace=False)] for size in sizes]
    return sum(bool(check_shifts(facts)) for facts in some), len(some)


def main(data: Path) -> int:
    """Print the results; return the number of false alarms."""
    false, verdicts, small = 0, Counter[str](), np.zeros(2, int)
    for dataset, changes in SETS.items():
        images = list(dataset(data))
        with tempfile.TemporaryDirectory() as folder, quiet():
            originals = facts_of(images, Path(folder) / "as_they_are")
            alarms, of_small = check_shifts(originals), small_sets(originals)
            false, small = false + len(alarms), small + of_small
            print(f"{dataset.__name__}: {len(images)} images, {len(alarms)} false alarms; {of_small} of small sets")
            for kind, change in changes.items():
                changed = facts_of([change(image) for image in images], Path(folder) / kind.replace(" ", "_"))
                for share in SHARES:
                    word, messages = mixed(originals, changed, share)
                    verdicts[word] += 1
                    print(f"  {kind}, {share:.0%}: {word} ({messages})", flush=True)
    print(f"{dict(verdicts)}, {false} false alarms; in small sets {small[0]} of {small[1]}")
    return false


if __name__ == "__main__":
    sys.exit(bool(main(Path(sys.argv[1]))))
