"""Single images for a model, from files or from a split, with what is known of their labels and their place."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from omegaconf import DictConfig
from torch import Tensor

from satseg.data.bands import band_numbers
from satseg.data.dataset import to_item
from satseg.data.inputs import bands_by_name, find_inputs, name_of
from satseg.data.opening import shown
from satseg.data.raster import RasterInfo, Window, parse_window, read_image, read_info, window_transform
from satseg.errors import ConfigError
from satseg.inference.windows import MAX_PIXELS
from satseg.runconfig import recorded_bands, recorded_datamodule
from satseg.spec import IGNORE_INDEX, DatasetSpec


@dataclass(frozen=True)
class Picture:
    """One image.

    Attributes:
        name: The file's name without its ending, or the sample's; with the window, where it is a part.
        image: Raw numbers (1, C, H, W).
        valid: Boolean (1, H, W).
        truth: Class indices (H, W), where they are known.
        crs: Coordinate reference system as WKT, where it is known.
        transform: Six numbers of the affine geotransform, where they are known.
        window: The part of the file that it is; all by default.
    """

    name: str
    image: Tensor
    valid: Tensor
    truth: Tensor | None = None
    crs: str | None = None
    transform: tuple[float, ...] | None = None
    window: Window | None = None


def find_pictures(cfg: DictConfig, checkpoint: Path, spec: DatasetSpec) -> Iterator[Picture]:
    """Read the images that `input=` or `split=` names.

    Raises:
        ConfigError: If neither or both are given, or an image is not one that the model takes.
        DataError: If there is no image.
    """
    if (cfg.input is None) == (cfg.split is None):
        raise ConfigError("Give input= (a file, a folder or a pattern) or split= (train, val or test), and not both.")
    window = parse_window(cfg.window)
    if cfg.split is not None:
        return _from_split(cfg, checkpoint, spec, window)
    trusted = list(cfg.trusted_modules)
    sources = find_inputs(cfg.input, otherwise=spec.inputs[0].nodata)
    return (_from_file(source, checkpoint, spec, window, trusted) for source in sources)


def _from_file(
    path: Path | str, checkpoint: Path, spec: DatasetSpec, window: Window | None, trusted_modules: Collection[str]
) -> Picture:
    info, source = read_info(path), spec.inputs[0]
    recorded = bands_by_name(info, source.bands) or recorded_bands(checkpoint, trusted_modules)
    bands = band_numbers(info, recorded)
    count, dtype = len(bands), info.dtype_of(bands)
    if count != len(source.bands) or dtype != source.dtype:
        raise ConfigError(
            f"{shown(path)} has {count} bands of {dtype}, but the model takes {len(source.bands)} of "
            f"{source.dtype} ({', '.join(source.bands)})."
        )
    _check_size(path, (info.width, info.height), window)
    image, valid = read_image(path, window, bands, otherwise=source.nodata)
    item = to_item(_name(name_of(path), window), image, valid, valid)
    place = info.crs, _moved(info, window), window
    return Picture(item["name"], item["image"][None], item["valid"][None], None, *place)


def _name(stem: str, window: Window | None) -> str:
    return stem if window is None else f"{stem}_{'_'.join(map(str, window))}"


def _check_size(path: Path | str, size: tuple[int, int], window: Window | None) -> None:
    width, height = size if window is None else (window.width, window.height)
    if window is not None and not (
        -width < window.col < size[0] and -height < window.row < size[1]
    ):  # what hangs over the edge is filled, but there must be something
        raise ConfigError(f"window={list(window)} lies outside {shown(path)}, which has {size[0]} x {size[1]} pixels.")
    if width * height > MAX_PIXELS:
        raise ConfigError(
            f"{shown(path)} has {width} x {height} pixels, too many at once: name a part of it, such as "
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
