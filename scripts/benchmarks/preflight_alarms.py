"""Measure false alarms and detections of the preflight check on real scenes.

Each scene is compared with the statistics of all scenes of other groups (tiles, years, months), as `satseg.predict`
compares it with the training data: unchanged, which must raise no alarm, and with an offset or in another unit, which
must. It needs the shared test data.

    python scripts/benchmarks/preflight_alarms.py ../shared/data
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import rasterio

from satseg.data.rasters.header import Window, read_info
from satseg.data.rasters.opening import quiet
from satseg.inference.preflight import inspect
from satseg.inference.reading import SceneSource, scene_header
from satseg.inference.value_checks import Findings
from satseg.spec import BandStatistics, InputSpec

Group = tuple[str, SceneSource]
OFFSETS = {"modis": 1000.0, "fields": 1000.0, "sentinel2": 1000.0, "reflectance": 0.1, "landsat": 20.0, "ndvi": 0.5}


def dubai(data: Path, folder: Path) -> Iterator[Group]:
    for path in sorted(data.glob("dubai/Tile */images/*.jpg")):
        yield path.parts[-3], whole(path)


def fields(data: Path, folder: Path) -> Iterator[Group]:
    for path in sorted(data.glob("crop_fields/images/*.tif")):
        yield path.stem, whole(path)


def modis(data: Path, folder: Path) -> Iterator[Group]:
    for year in sorted(data.glob("modis_crops/*_*")):
        bands = [next(year.glob(f"{band}.*")) for band in ("blue", "red", "nir", "mir", "ndvi", "evi")]
        dates = np.stack([rasterio.open(path).read() for path in bands], axis=1)
        for number, image in enumerate(dates):
            yield year.name, whole(written(folder / f"{year.name}_{number}.tif", image, -3000))


def ndvi(data: Path, folder: Path) -> Iterator[Group]:
    dates = np.load(data / "eolearn_timeseries/data/NDVI.npy", allow_pickle=False)
    for number, image in enumerate(dates):
        yield str(number // 4), whole(written(folder / f"ndvi_{number}.tif", image.transpose(2, 0, 1), np.nan))


def sentinel2(data: Path, folder: Path) -> Iterator[Group]:
    yield from parts(data / "sen1floods11/Spain_7370579_S2Hand.tif")


def reflectance(data: Path, folder: Path) -> Iterator[Group]:
    yield from parts(data / "polygons_small/sen2.tif")


def landsat(data: Path, folder: Path) -> Iterator[Group]:
    yield from parts(data / "polygons_small/lsat.tif")


def written(path: Path, image: np.ndarray, nodata: float) -> Path:
    count, height, width = image.shape
    profile = {"count": count, "height": height, "width": width, "dtype": image.dtype, "nodata": nodata}
    with rasterio.open(path, "w", driver="GTiff", **profile) as file:
        file.write(image)
    return path


def whole(path: Path) -> SceneSource:
    info = read_info(path)
    return SceneSource(info, info.bands)


def parts(path: Path, number: int = 3) -> Iterator[Group]:
    info = read_info(path)
    height, width = info.height // number, info.width // number
    for row, col in np.ndindex(number, number):
        area = Window(col * width, row * height, width, height)
        yield f"{row} {col}", SceneSource(scene_header(info, area, None), info.bands, nodata=0, area=area)


def statistics(pixels: np.ndarray) -> BandStatistics:
    numbers = [pixels.min(1), pixels.max(1), pixels.mean(1), pixels.std(1), *np.percentile(pixels, (2, 98), axis=1)]
    return BandStatistics(*(tuple(map(float, n)) for n in numbers))


def pixels_of(scene: SceneSource) -> np.ndarray:
    with scene.open() as reader:
        return reader.sample()


def alarmed(found: Findings) -> bool:
    """Return whether anything other than a constant band is reported."""
    return bool(found.errors) or any("the same value everywhere" not in warning for warning in found.warnings)


def main(data: Path) -> int:
    """Print the shares of scenes with an alarm; return the number of false alarms."""
    false = 0
    with tempfile.TemporaryDirectory() as folder, quiet():
        for kind in (dubai, fields, modis, ndvi, sentinel2, reflectance, landsat):
            scenes = list(kind(data, Path(folder)))
            pixels = [pixels_of(scene) for _, scene in scenes]
            changes = {"as it is": {}, "x 10": {"scale": 10.0}, "/ 10": {"scale": 0.1}}
            if kind.__name__ in OFFSETS:
                changes |= {"higher": {"offset": OFFSETS[kind.__name__]}, "lower": {"offset": -OFFSETS[kind.__name__]}}
            alarms = dict.fromkeys(changes, 0)
            for group, scene in scenes:
                others = [own for own, (name, _) in zip(pixels, scenes, strict=True) if name != group]
                names = tuple(scene.info.band_names[number - 1] for number in scene.bands)
                known = statistics(np.concatenate(others, axis=1).astype(np.float64))
                source = InputSpec(names, scene.info.dtype, 1.0, statistics=known)
                for change, options in changes.items():
                    alarms[change] += alarmed(inspect(replace(scene, **options), source))
            false += alarms["as it is"]
            shares = ", ".join(f"{change} {number / len(scenes):.2f}" for change, number in alarms.items())
            print(f"{kind.__name__:12} {len(scenes):4} scenes, share with an alarm: {shares}")
    print(f"{false} false alarms")
    return false


if __name__ == "__main__":
    sys.exit(bool(main(Path(sys.argv[1]))))
