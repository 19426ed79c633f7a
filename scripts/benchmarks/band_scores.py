"""Measure how well single bands separate a class: real measurements and indices, and bands derived from labels.

For each dataset it prints the highest scores of real bands: everywhere, along borders, and by the order of neighbours
across them; then the lowest scores of bands derived from the labels, and how many of each `satseg.validate` would
report. It needs the shared test data.

    python scripts/benchmarks/band_scores.py ../shared/data
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import rasterio
from PIL import Image
from rasterio import features
from scipy.ndimage import distance_transform_edt, gaussian_filter

from satseg.data.rasters.opening import quiet
from satseg.data.synthetic.scene import make_scene
from satseg.spec import IGNORE_INDEX
from satseg.validate.checking import Limits
from satseg.validate.giveaways import score_border, score_each, tabulate
from satseg.validate.image_tally import BorderTally

DRAWN, PAIRS = 20_000, 4_000  # per image, at most
COLOURS = [(132, 41, 246), (226, 169, 41), (60, 16, 152), (254, 221, 58), (110, 193, 228)]
Bands = dict[str, np.ndarray]  # each (height, width)
Pair = tuple[Bands, np.ndarray]  # and class indices (height, width)


class Score(NamedTuple):
    """Scores of a band for a class, and whether validation reports it."""

    score: float
    border: float
    order: float
    named: bool
    what: str


def index(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    one, other = one.astype(np.float64), other.astype(np.float64)
    return np.divide(one - other, one + other, out=np.zeros(one.shape), where=one + other != 0)


def read(path: Path) -> Bands:
    with rasterio.open(path) as file:
        names = [name or f"band_{number}" for number, name in enumerate(file.descriptions, 1)]
        return dict(zip(names, file.read(), strict=True))


def with_indices(bands: Bands, green: str, red: str, nir: str, swir: str) -> Bands:
    added = {"NDWI": (green, nir), "MNDWI": (green, swir), "NDVI": (nir, red), "NBR": (nir, swir)}
    return bands | {name: index(bands[a], bands[b]) for name, (a, b) in added.items()}


def cut(pair: Pair, number: int) -> Iterator[Pair]:
    bands, mask = pair
    height, width = mask.shape[0] // number, mask.shape[1] // number
    for row, col in np.ndindex(number, number):
        area = slice(row * height, (row + 1) * height), slice(col * width, (col + 1) * width)
        yield {name: band[area] for name, band in bands.items()}, mask[area]


def sen1floods11(data: Path) -> Iterator[Pair]:
    bands = with_indices(read(data / "sen1floods11/Spain_7370579_S2Hand.tif"), "B3", "B4", "B8", "B11")
    (label,) = read(data / "sen1floods11/Spain_7370579_LabelHand.tif").values()
    yield from cut((bands, np.where(label < 0, IGNORE_INDEX, label).astype(np.uint8)), 4)


def polygons(path: Path, *names: str) -> Iterator[Pair]:
    with rasterio.open(path) as file:
        shape, transform, system = file.shape, file.transform, file.crs
    document = json.loads(path.with_name(f"{path.stem}_polygons.geojson").read_text())
    classes = sorted({feature["properties"]["class"] for feature in document["features"]})
    written = document.get("crs", {}).get("properties", {}).get("name", "EPSG:4326")
    shapes = [
        (rasterio.warp.transform_geom(written, system, f["geometry"]), classes.index(f["properties"]["class"]))
        for f in document["features"]
    ]
    yield (
        with_indices(read(path), *names),
        features.rasterize(shapes, shape, fill=IGNORE_INDEX, transform=transform, dtype=np.uint8),
    )


def sentinel2_polygons(data: Path) -> Iterator[Pair]:
    return polygons(data / "polygons_small/sen2.tif", "B3", "B4", "B8", "B11")


def landsat_polygons(data: Path) -> Iterator[Pair]:
    return polygons(data / "polygons_small/lsat.tif", "B2_dn", "B3_dn", "B4_dn", "B5_dn")


def crop_fields(data: Path) -> Iterator[Pair]:
    (mask,) = read(data / "crop_fields/masks/field.tif").values()
    for path in sorted(data.glob("crop_fields/images/*.tif")):
        yield read(path), mask.astype(np.uint8)


def modis_crops(data: Path) -> Iterator[Pair]:
    for year in sorted(data.glob("modis_crops/*_*")):
        dates = {name: list(read(year / f"{name}.tif").values()) for name in ("red", "nir", "mir", "ndvi", "evi")}
        (mask,) = read(year / "labels.tif").values()
        yield {f"{name} {n}": band for name, bands in dates.items() for n, band in enumerate(bands[:22])}, mask


def eolearn(data: Path) -> Iterator[Pair]:
    folder = data / "eolearn_timeseries"

    def array(name: str) -> np.ndarray:
        return np.moveaxis(np.nan_to_num(np.load(folder / name, allow_pickle=False)), -1, 0)

    dates = {f"NDVI {n}": date[..., 0] for n, date in enumerate(np.load(folder / "data/NDVI.npy", allow_pickle=False))}
    bands = dates | {"DEM": array("data_timeless/DEM.npy")[0], "highest NDVI": array("data_timeless/MAX_NDVI.npy")[0]}
    (land_use,) = array("mask_timeless/LULC.npy")
    yield from cut(({n: np.nan_to_num(b) for n, b in bands.items()}, np.unique(land_use, return_inverse=True)[1]), 2)


def dubai(data: Path) -> Iterator[Pair]:
    for path in sorted(data.glob("dubai/Tile */images/*.jpg")):
        image = np.asarray(Image.open(path).convert("RGB"))[::2, ::2]
        label = np.asarray(Image.open(path.parents[1] / f"masks/{path.stem}.png").convert("RGB"))[::2, ::2]
        mask = np.full(label.shape[:2], IGNORE_INDEX, np.uint8)
        for number, colour in enumerate(COLOURS):
            mask[(label == colour).all(-1)] = number
        red, green, blue = np.moveaxis(image.astype(np.float64), -1, 0)
        yield {"red": red, "green": green, "blue": blue, "excess green": 2 * green - red - blue}, mask


def embedded(data: Path) -> Iterator[Pair]:
    for number in range(8):
        scene = make_scene((50, number), 256)
        bands = dict(zip(("blue", "green", "red", "nir", "swir1", "swir2"), scene.reflectance, strict=True))
        yield with_indices(bands, "green", "red", "nir", "swir1"), scene.mask


Make = Callable[[np.ndarray, np.random.Generator], np.ndarray]  # from a class mask to a band
PLANTED: dict[str, Make] = {
    "the class": lambda one, random: one,
    "with noise": lambda one, random: 3000 + 2000 * one + random.normal(size=one.shape) * 250,
    "one pixel in 200 wrong": lambda one, random: one ^ (random.random(one.shape) < 0.005),
    "distance to it": lambda one, random: distance_transform_edt(~one),
    "distance to its edge": lambda one, random: distance_transform_edt(~one) - distance_transform_edt(one),
    "blurred by 1 px": lambda one, random: gaussian_filter(one.astype(float), 1) + random.normal(size=one.shape) / 50,
    "blurred by 2 px": lambda one, random: gaussian_filter(one.astype(float), 2) + random.normal(size=one.shape) / 50,
    "moved by 1 px": lambda one, random: np.roll(one, 1, 1),
    "of half the resolution": lambda one, random: np.kron(one[::2, ::2], np.ones((2, 2)))[: len(one), : one.shape[1]],
}


def scores(pairs: list[Pair], only: int | None = None) -> list[Score]:
    """Score each band of a dataset for each class, or for one."""
    threshold, random = Limits().giveaway, np.random.default_rng(0)
    number = 1 + max(int(mask[mask < IGNORE_INDEX].max(initial=0)) for _, mask in pairs)
    names, found = list(pairs[0][0]), []
    values, classes, sides, borders = [], [], [], []
    for turn, (bands, mask) in enumerate(pairs):
        image = np.stack([bands[name] for name in names]).astype(np.float64)
        places = np.flatnonzero(mask < IGNORE_INDEX)
        places = random.choice(places, min(DRAWN, len(places)), replace=False)
        values.append(image.reshape(len(names), -1)[:, places])
        classes.append(mask.ravel()[places])
        sides.append(np.full(len(places), turn % 2 == 0) if len(pairs) > 1 else np.arange(len(places)) % 2 == 0)
        tally = BorderTally(len(names), "float64", mask.shape[1], PAIRS)
        tally.add(0, image, np.ones(mask.shape, bool), mask.astype(np.uint8))
        borders.append(tally.borders())
    drawn, of_class, learn = np.concatenate(values, axis=1), np.concatenate(classes), np.concatenate(sides)
    for band, name in enumerate(names):
        for score in score_each(tabulate(drawn[band], of_class, learn, number), len(names) * number):
            if only in (None, score.index):
                border, order = score_border(score.index, borders, band)
                named = replace(score, border=border, order=order).gives_away(threshold)
                found.append(Score(score.score, border, order, named, f"{name}, class {score.index}"))
    return found


def shown(found: list[Score], best: Callable[..., float]) -> str:
    each = [
        best((getattr(s, name) for s in found if getattr(s, name) == getattr(s, name)), default=np.nan)
        for name in ("score", "border", "order")
    ]
    return "score {:.3f}, along borders {:.3f}, order {:.3f}".format(*each)


def main(data: Path) -> int:
    """Print the scores; return the number of real bands that would be reported."""
    false = 0
    for dataset in (
        sen1floods11,
        sentinel2_polygons,
        landsat_polygons,
        crop_fields,
        modis_crops,
        eolearn,
        dubai,
        embedded,
    ):
        pairs = list(dataset(data))
        originals = scores(pairs)
        false += sum(s.named for s in originals)
        strong = [s for s in originals if s.score >= Limits().giveaway]
        named = sum(s.named for s in originals)
        print(f"{dataset.__name__}: {len(originals)} original bands, {named} named; highest {shown(originals, max)}")
        if strong:
            print(f"  the {len(strong)} strong ones: highest {shown(strong, max)}")
        for kind, make in PLANTED.items():
            random, planted = np.random.default_rng(1), []
            for number in sorted({s.what.rsplit(" ", 1)[1] for s in originals}):
                one = int(number)
                planted += scores([({kind: make(m == one, random).astype(float)}, m) for _, m in pairs], one)
            count = f"{sum(s.named for s in planted)} of {len(planted)} named"
            print(f"  {kind}: {count}; lowest {shown(planted, min)}", flush=True)
    print(f"{false} false alarms")
    return false


if __name__ == "__main__":
    with quiet():
        sys.exit(bool(main(Path(sys.argv[1]))))
