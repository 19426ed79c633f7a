"""Single images for a model, from files or from a split, with their labels and georeferencing if known."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from omegaconf import DictConfig
from torch import Tensor

from satseg.data.dataset import to_item
from satseg.data.rasters.header import RasterInfo, Window, parse_window, read_info, window_transform
from satseg.data.rasters.inputs import find_inputs, source_name
from satseg.data.rasters.opening import redacted
from satseg.errors import ConfigError
from satseg.inference.preflight import inspect_open, resolve_findings, scene_source
from satseg.inference.windows import MAX_PIXELS
from satseg.records.dataset import recorded_bands, recorded_datamodule
from satseg.spec import IGNORE_INDEX, DatasetSpec

# Options of reading files, with their defaults; a split is always read as in training.
READING = {"bands": None, "nodata": None, "scale": 1.0, "offset": 0.0, "gsd_m": None}


@dataclass(frozen=True)
class Picture:
    """One image.

    Attributes:
        name: The file's name without its ending, or the sample's; with the window, where it is a part.
        image: Raw values (1, C, H, W).
        valid: Boolean (1, H, W).
        truth: Class indices (H, W), if known.
        crs: Coordinate reference system as WKT, if known.
        transform: Six coefficients of the affine geotransform, if known.
        window: The part of the file; all by default.
    """

    name: str
    image: Tensor
    valid: Tensor
    truth: Tensor | None = None
    crs: str | None = None
    transform: tuple[float, ...] | None = None
    window: Window | None = None


def find_pictures(cfg: DictConfig, checkpoint: Path, spec: DatasetSpec) -> Iterator[Picture]:
    """Yield the images of `input=` or `split=`.

    Raises:
        ConfigError: If an image does not fit the model.
        DataError: If there is no image.
    """
    window = parse_window(cfg.window)
    if cfg.split is not None:
        if changed := [key for key, usual in READING.items() if cfg[key] != usual]:
            raise ConfigError(f"split= is read as in training: leave out {'=, '.join(changed)}=.")
        return _from_split(cfg, checkpoint, spec, window)
    sources = find_inputs(cfg.input, cfg.nodata, spec.inputs[0].nodata)
    return (_from_file(cfg, source, checkpoint, spec, window) for source in sources)


def _from_file(
    cfg: DictConfig, path: Path | str, checkpoint: Path, spec: DatasetSpec, window: Window | None
) -> Picture:
    info, source = read_info(path), spec.inputs[0]
    scene = scene_source(cfg, info, source, recorded_bands(checkpoint))
    width, height = scene.info.width, scene.info.height
    _check_size(path, (width, height), window)
    with scene.open() as reader:
        # The whole scene is sampled, since a small part may differ from the training data by its content alone.
        for warning in resolve_findings(inspect_open(reader, source, reader.sample()), cfg.preflight):
            print(f"Warning: {warning}", file=sys.stderr)
        image, valid = reader.read(window or Window(0, 0, width, height))
    name, transform = _name(source_name(path), window), _moved(scene.info, window)
    return Picture(name, image[None], valid[None], None, info.crs, transform, window)


def _name(stem: str, window: Window | None) -> str:
    return stem if window is None else f"{stem}_{'_'.join(map(str, window))}"


def _check_size(path: Path | str, size: tuple[int, int], window: Window | None) -> None:
    width, height = size if window is None else (window.width, window.height)
    if window is not None and not (
        -width < window.col < size[0] and -height < window.row < size[1]
    ):  # what lies beyond the edge is filled, but the window must overlap the image
        raise ConfigError(
            f"window={list(window)} lies outside {redacted(path)}, which has {size[0]} x {size[1]} pixels."
        )
    if width * height > MAX_PIXELS:
        raise ConfigError(
            f"{redacted(path)} has {width} x {height} pixels, too many at once: choose a part, such as "
            "window='[0,0,1024,1024]'."
        )


def _moved(info: RasterInfo, window: Window | None) -> tuple[float, ...] | None:
    return info.transform if window is None else window_transform(info, window)


def _from_split(cfg: DictConfig, checkpoint: Path, spec: DatasetSpec, window: Window | None) -> Iterator[Picture]:
    datamodule = recorded_datamodule(checkpoint, cfg.dataset, spec, cfg.trusted_modules)
    for sample in datamodule.samples_of(cfg.split):
        info, area = datamodule.reader.info(sample.image), datamodule.reader.area(sample)
        _check_size(sample.image, (area.width, area.height), window)
        item = to_item(_name(sample.name, window), *datamodule.reader.read(sample, window))
        truth = torch.where(item["valid"], item["mask"], IGNORE_INDEX)
        part = sample.window if window is None else Window(area.col + window.col, area.row + window.row, *window[2:])
        place = info.crs, _moved(info, part), part
        yield Picture(item["name"], item["image"][None], item["valid"][None], truth, *place)
