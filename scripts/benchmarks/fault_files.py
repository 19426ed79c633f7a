"""Checks that output files are complete, and equal those of a reference run."""

from __future__ import annotations

import csv
import hashlib
import json
import sqlite3
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio.raw
import rasterio
import torch
import yaml
from PIL import Image
from safetensors.numpy import load_file

from satseg.inference.work_rasters import WORK_TAG

CLOCKS = ("seconds", "train/images_per_second", "train/memory_gb")  # columns of metrics.csv
RUN_SPECIFIC = (
    "environment.json",
    "failure.json",
    "timing.json",
    "config.yaml",
    "choices.json",
    "curves.png",
)  # paths and clocks
# Keys of summary.json, report.json and model file headers that depend on time and place.
MEASURED = ("finished", "training_seconds", "seconds", "started", "folder", "output", "time", "git", "environment")
SOURCES = (".debug_pkl", "serialization_id")  # source locations of a graph, which differ between runs, and their hash
LOCK = ".lock"  # the only hidden file that may remain: it marks a folder in use by a server


def whole_files(folder: Path) -> list[Path]:
    """Return the files with final names."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return [path for path in files if not any(part.startswith(".") for part in path.relative_to(folder).parts)]


def left_over(folder: Path) -> list[str]:
    """Return temporary files."""
    hidden = (path for path in folder.rglob(".*") if path.name != LOCK)
    return sorted(str(path.relative_to(folder)) for path in hidden)


def broken(folder: Path) -> list[str]:
    """Read every file with a final name completely; return the errors."""
    found = []
    for path in whole_files(folder):
        try:
            _read(path)
        except Exception as error:
            found.append(f"{path.relative_to(folder)} is broken: {error!r}")
    return found


def _read(path: Path) -> None:
    match path.suffix:
        case ".safetensors":
            load_file(path)
        case ".ckpt":
            torch.load(path, map_location="cpu", weights_only=True)
        case ".tif":
            with rasterio.open(path) as source:
                source.read()
                for level in range(len(source.overviews(1))):
                    with rasterio.open(path, overview_level=level) as overview:
                        overview.read()
        case ".gpkg":
            with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as connection:
                answer = connection.execute("pragma integrity_check").fetchone()
            if answer != ("ok",):
                raise ValueError(answer)
            pyogrio.raw.read(path)
        case ".json" | ".geojson":
            json.loads(path.read_text(encoding="utf-8"))
        case ".yaml":
            yaml.safe_load(path.read_text(encoding="utf-8"))
        case ".csv":
            with path.open(newline="", encoding="utf-8") as file:
                rows = list(csv.reader(file))
            if not rows or any(len(row) != len(rows[0]) for row in rows):
                raise ValueError("rows of unequal length")
        case ".png" | ".jpg":
            with Image.open(path) as image:
                image.load()
        case ".html":
            if not path.read_text(encoding="utf-8").rstrip().endswith("</html>"):
                raise ValueError("its end is missing")
        case ".ts":
            torch.jit.load(path, map_location="cpu")


def contents(folder: Path) -> dict[str, str]:
    """Return a digest of each file with a final name.

    GeoTIFFs, images and most tables are digested byte by byte; times and paths are left out of the others: of a model
    file the tensors count, of TorchScript everything except source locations, of a GeoPackage the polygons and their
    attributes, of metrics.csv everything except times, of JSON everything except the keys in MEASURED. Pages, logs,
    checkpoints and run records only have to exist.
    """
    return {str(path.relative_to(folder)): _digest(path) for path in whole_files(folder)}


def _digest(path: Path) -> str:
    if path.name in RUN_SPECIFIC or path.suffix in (".html", ".log", ".ckpt"):
        return "there"
    digest = hashlib.sha256()
    match path.suffix:
        case ".safetensors":
            for name, tensor in sorted(load_file(path).items()):
                digest.update(name.encode() + str(tensor.dtype).encode() + tensor.tobytes())
        case ".ts":
            with zipfile.ZipFile(path) as file:
                for name in sorted(name for name in file.namelist() if not name.endswith(SOURCES)):
                    digest.update(name.encode() + file.read(name))
        case ".gpkg":
            meta, _, geometry, fields = pyogrio.raw.read(path)
            digest.update(repr((meta["crs"], list(meta["fields"]), len(geometry))).encode())
            for column in (geometry, *fields):
                digest.update(repr(np.asarray(column).tolist()).encode())
        case ".json":
            known = _timeless(json.loads(path.read_text(encoding="utf-8")))
            digest.update(json.dumps(known, sort_keys=True).encode())
        case ".csv" if path.name == "metrics.csv":
            with path.open(newline="", encoding="utf-8") as file:
                rows = [{k: v for k, v in row.items() if k not in CLOCKS} for row in csv.DictReader(file)]
            digest.update(json.dumps(rows).encode())
        case _:
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _timeless(known: Any) -> Any:
    if isinstance(known, dict):
        return {key: _timeless(value) for key, value in known.items() if key not in MEASURED}
    return [_timeless(value) for value in known] if isinstance(known, list) else known


def same_map(path: Path, other: Path) -> bool:
    """Return whether two maps hold the same pixels, overviews, georeference, colours and classes."""
    return _map(path) == _map(other)


def _map(path: Path) -> list[Any]:
    with rasterio.open(path) as source:
        tags = {key: value for key, value in source.tags().items() if key != WORK_TAG}
        known = [dict(source.profile), source.colormap(1), tags, source.overviews(1), source.read().tobytes()]
        factors = range(len(source.overviews(1)))
    for level in factors:
        with rasterio.open(path, overview_level=level) as overview:
            known.append(overview.read().tobytes())
    return known


def differences(folder: Path, expected: dict[str, str]) -> list[str]:
    """Return the files that are missing, unexpected, or different from those of the reference run."""
    found = contents(folder)
    names = sorted(found.keys() | expected.keys())
    return [f"{name} differs" for name in names if found.get(name) != expected.get(name)]
