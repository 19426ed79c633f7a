"""Small valid files of every kind that satseg reads, and random mutations of their bytes."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

HEIGHT, WIDTH = 96, 112
CRS, PLACE = "EPSG:32631", rasterio.Affine(10, 0, 440_000, 0, -10, 5_000_000)


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes:
        name: Name of the kind and of the file.
        suffix: Of the file.
        part: What it is in satseg: `image`, `mask`, `polygons`, `band` of a stack, `model` or `run`.
        bands: Of an image.
        dtype: Of an image.
    """

    name: str
    suffix: str
    part: str = "image"
    bands: int = 3
    dtype: str = "uint8"


TILED = {"tiled": True, "blockxsize": 32, "blockysize": 32}
RASTERS: dict[Kind, dict[str, Any]] = {
    Kind("png_grey", ".png", bands=1): {},
    Kind("png_palette", ".png", bands=1): {"palette": True},
    Kind("png_rgb", ".png"): {},
    Kind("png_rgba", ".png"): {"alpha": True},
    Kind("png_16", ".png", bands=1, dtype="uint16"): {},
    Kind("jpeg", ".jpg"): {},
    Kind("jpeg_grey", ".jpg", bands=1): {},
    Kind("tiff_striped", ".tif"): {"blockysize": 8},
    Kind("tiff_planar", ".tif"): {"interleave": "band", **TILED},
    Kind("tiff_deflate", ".tif"): {"compress": "deflate", "predictor": 2, **TILED},
    Kind("tiff_lzw", ".tif", bands=4, dtype="uint16"): {"compress": "lzw", "blockysize": 16},
    Kind("tiff_jpeg", ".tif"): {"compress": "jpeg", "photometric": "YCbCr", **TILED},
    Kind("tiff_zstd", ".tif", dtype="uint16"): {"compress": "zstd", **TILED},
    Kind("bigtiff", ".tif"): {"bigtiff": "yes", **TILED},
    Kind("cog", ".tif"): {"driver": "COG", "compress": "deflate", "blocksize": 128},
    Kind("overviews", ".tif"): {"overviews": True, "compress": "deflate", **TILED},
    Kind("float_nan", ".tif", dtype="float32"): {"compress": "deflate", "predictor": 3, **TILED},
    Kind("nodata", ".tif", dtype="uint16"): {"nodata": 7, "compress": "lzw", **TILED},
    Kind("mask_band", ".tif"): {"masked": True, "compress": "deflate", **TILED},
    Kind("stack", ".tif", "band", 1, "uint16"): {"compress": "deflate", **TILED},
    Kind("mask_png", ".png", "mask", 1): {},
    Kind("mask_palette", ".png", "mask", 1): {"palette": True},
    Kind("mask_tiff", ".tif", "mask", 1): {"compress": "deflate", **TILED},
}
OTHERS = (
    Kind("geojson", ".geojson", "polygons"),
    Kind("geopackage", ".gpkg", "polygons"),
    Kind("model", ".safetensors", "model"),
    Kind("ckpt", ".ckpt", "model"),
    Kind("config", ".yaml", "run"),
    Kind("summary", ".json", "run"),
)
KINDS = (*RASTERS, *OTHERS)
DRIVERS = {".png": "PNG", ".jpg": "JPEG", ".tif": "GTiff"}


def write_originals(folder: Path) -> None:
    """Write a valid file of each kind, and the run folder `run`, from which some of them are copied."""
    folder.mkdir(parents=True, exist_ok=True)
    for kind, options in RASTERS.items():
        _write_raster(place_of(folder, kind), kind, **options)
    _write_polygons(folder)
    run = folder / "run"
    write_model(run / "model.safetensors", Kind("run", ""))
    _write_checkpoint(run)
    _write_records(run)
    names = {"model": "model.safetensors", "ckpt": "last.ckpt", "config": "config.yaml", "summary": "summary.json"}
    for kind in OTHERS:
        if kind.name in names:
            shutil.copy(run / names[kind.name], place_of(folder, kind))


def place_of(folder: Path, kind: Kind) -> Path:
    """Return the path of the valid file of a kind."""
    return folder / f"{kind.name}{kind.suffix}"


def _write_checkpoint(run: Path) -> None:
    from satseg.models.checkpoint import CHECKPOINT_KEY, load_model, read_document

    document = read_document(run / "model.safetensors")
    state = {f"network.{name}": tensor for name, tensor in load_model(run).state_dict().items()}
    torch.save({"epoch": 1, "state_dict": state, CHECKPOINT_KEY: document.plain()}, run / "last.ckpt")


def _write_records(run: Path) -> None:
    """Write the run records that training writes with a model."""
    from satseg.config import CONFIG_DIR

    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        cfg = compose("train", ["dataset=folder", "dataset.root=data", "run_dir=run"])
    (run / "config.yaml").write_text(OmegaConf.to_yaml(cfg, resolve=True))
    summary = {"finished": "2020-01-01T00:00:00+0000", "monitor": "val/miou", "score": 0.5}
    summary |= {"scores": {"val": {"miou": 0.5, "f1": None}, "test": {"miou": 0.25, "f1": 0.5}}, "parameters": 7}
    (run / "summary.json").write_text(json.dumps(summary, indent=2))


def pixels(kind: Kind) -> np.ndarray:
    """Return an image (bands, height, width) in which each neighbourhood differs."""
    random = np.random.default_rng(len(kind.name))
    if kind.part == "mask" or "palette" in kind.name:
        return random.integers(0, 4, (1, HEIGHT // 8, WIDTH // 8), "uint8").repeat(8, 1).repeat(8, 2)
    high = 256 if kind.dtype == "uint8" else 4000
    image = random.integers(1, high, (kind.bands, HEIGHT, WIDTH)).astype(kind.dtype)
    if kind.dtype == "float32":
        image[:, 5:20, 7:30] = np.nan
    return image


def _write_raster(
    path: Path,
    kind: Kind,
    *,
    palette: bool = False,
    alpha: bool = False,
    masked: bool = False,
    overviews: bool = False,
    **options: Any,
) -> None:
    image = pixels(kind)
    if alpha:
        opaque = np.full((1, HEIGHT, WIDTH), 255, "uint8")
        opaque[:, :10] = 0
        image = np.concatenate([image, opaque])
    profile: dict[str, Any] = {"driver": DRIVERS[kind.suffix], "count": len(image), "dtype": image.dtype}
    profile |= {"height": HEIGHT, "width": WIDTH, **options}
    if kind.suffix == ".tif":
        profile |= {"crs": CRS, "transform": PLACE}
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True, GDAL_PAM_ENABLED=False):
        with rasterio.open(path, "w", **profile) as file:
            file.write(image)
            if palette:
                file.write_colormap(1, {i: (60 * i, 255 - 60 * i, 40, 255) for i in range(4)})
            if masked:
                file.write_mask(np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) % 5 > 0)
        if overviews:
            with rasterio.open(path, "r+") as file:
                file.build_overviews([2, 4])


def _write_polygons(folder: Path) -> None:
    corners = [(10 * i, 10 * j) for i in range(8) for j in range(8)]
    places = [[PLACE * corner for corner in _square(*corner)] for corner in corners]
    features = [
        {
            "type": "Feature",
            "properties": {"class": f"class{i % 3}"},
            "geometry": {"type": "Polygon", "coordinates": [place]},
        }
        for i, place in enumerate(places)
    ]
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32631"}}
    text = json.dumps({"type": "FeatureCollection", "crs": crs, "features": features})
    (folder / "geojson.geojson").write_text(text)

    import pyogrio
    import shapely

    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": "2020-01-01T00:00:00.000Z"})  # else the time is in the file
    geometry = shapely.to_wkb(shapely.polygons(places))
    names = np.array([feature["properties"]["class"] for feature in features], object)  # type: ignore[index]
    options = {"geometry_type": "Polygon", "crs": CRS, "driver": "GPKG"}
    pyogrio.raw.write(str(folder / "geopackage.gpkg"), geometry, [names], np.array(["class"], object), **options)


def _square(col: int, row: int) -> list[tuple[int, int]]:
    return [(col, row), (col + 8, row), (col + 8, row + 8), (col, row + 8), (col, row)]


def mutate(data: bytes, other: bytes, random: np.random.Generator) -> tuple[str, bytes]:
    """Mutate a file's bytes in one of eight ways; return the name of the mutation and the bytes.

    Args:
        data: The file.
        other: Another, for splices.
        random: Random generator.
    """
    ways = {
        "flip": _flip,
        "truncate": _truncate,
        "overwrite": _overwrite,
        "swap": _swap,
        "remove": _remove,
        "repeat": _repeat,
        "splice": lambda data, random: _splice(data, other, random),
        "header": _header,
    }
    name = str(random.choice(list(ways)))
    return name, ways[name](data, random)


def _part(data: bytes, random: np.random.Generator, longest: int = 400) -> tuple[int, int]:
    start = int(random.integers(len(data)))
    return start, start + int(random.integers(1, longest))


def _flip(data: bytes, random: np.random.Generator) -> bytes:
    changed = bytearray(data)
    for _ in range(int(random.integers(1, 20))):
        changed[int(random.integers(len(data)))] ^= 1 << int(random.integers(8))
    return bytes(changed)


def _truncate(data: bytes, random: np.random.Generator) -> bytes:
    return data[: int(random.integers(len(data)))]


def _overwrite(data: bytes, random: np.random.Generator) -> bytes:
    start, end = _part(data, random)
    fill = (bytes(end - start), b"\xff" * (end - start), random.bytes(end - start))[int(random.integers(3))]
    return data[:start] + fill[: len(data) - start] + data[end:]


def _swap(data: bytes, random: np.random.Generator) -> bytes:
    """Exchange two fields of the header, or of what follows it."""
    size, most = int(random.choice([1, 2, 4, 8, 12])), min(len(data), 400)
    one, other = sorted(int(n) for n in random.integers(0, max(1, most - 2 * size), 2))
    other = max(other, one + size)
    a, b = data[one : one + size], data[other : other + size]
    return data[:one] + b + data[one + size : other] + a + data[other + size :]


def _remove(data: bytes, random: np.random.Generator) -> bytes:
    start, end = _part(data, random)
    return data[:start] + data[end:]


def _repeat(data: bytes, random: np.random.Generator) -> bytes:
    start, end = _part(data, random)
    return data[:end] + data[start:end] * int(random.integers(1, 4)) + data[end:]


def _splice(data: bytes, other: bytes, random: np.random.Generator) -> bytes:
    return data[: int(random.integers(len(data)))] + other[int(random.integers(len(other))) :]


def _header(data: bytes, random: np.random.Generator) -> bytes:
    """Write a small, a large or a random number over a field of the first bytes."""
    size, place = int(random.choice([1, 2, 4])), int(random.integers(min(len(data), 300)))
    value = int(random.choice([0, 1, 2, 255, 65535, 2**31 - 1, 2**32 - 1, int(random.integers(2**32))]))
    field = (value % 256**size).to_bytes(size, "little" if random.random() < 0.7 else "big")
    return data[:place] + field + data[place + size :]


def write_model(path: Path, kind: Kind, options: Any = None) -> Path:
    """Write a model of random weights for the images of a kind."""
    from satseg.models import build_model
    from satseg.models.catalogue import MODELS
    from satseg.models.checkpoint import save_model
    from satseg.spec import DatasetSpec, InputSpec

    names, half = tuple(f"b{i}" for i in range(1, kind.bands + 1)), (0.5,) * kind.bands
    numbers = InputSpec(names, kind.dtype, scale=255.0 if kind.dtype == "uint8" else 4000.0, mean=half, std=half)
    classes = tuple(f"class{i}" for i in range(7))
    spec = DatasetSpec((numbers,), classes, tuple((30 * i, 90, 20) for i in range(7)))
    torch.manual_seed(0)
    config = {"_target_": MODELS["unet"], "encoder_name": "tu-mobilenetv4_conv_small", "encoder_weights": "none"}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_model(path, build_model(config, spec).eval(), training={"epoch": 1}, protocol={"miou": "mean over classes"})
    return path
