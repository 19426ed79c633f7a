"""Single images for a model, from files or from a split, with what is known of their labels and their place."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from rasterio import Affine
from torch import Tensor

from satseg.data.dataset import to_item
from satseg.data.pairing import IMAGE_SUFFIXES, natural
from satseg.data.raster import RasterInfo, Window, read_image, read_info
from satseg.errors import ConfigError, DataError, RunError
from satseg.inference.windows import MAX_PIXELS
from satseg.runconfig import recorded_datamodule
from satseg.runs import read_config, run_folder
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
    window = _window(cfg.window)
    if cfg.split is not None:
        return _from_split(cfg, checkpoint, spec, window)
    trusted = list(cfg.trusted_modules)
    named = list(cfg.input) if OmegaConf.is_list(cfg.input) else [cfg.input]
    paths = [path for name in named for path in _files(Path(name).expanduser())]
    return (_from_file(path, checkpoint, spec, window, trusted) for path in dict.fromkeys(paths))


def _window(wanted: Any) -> Window | None:
    if wanted is None:
        return None
    numbers = list(wanted) if OmegaConf.is_list(wanted) else []
    if len(numbers) != 4 or not all(isinstance(n, int) for n in numbers) or min(numbers[2:]) < 1:
        raise ConfigError(f"window={wanted}: expected '[column,row,width,height]' in pixels.")
    return Window(*numbers)


def _files(path: Path) -> list[Path]:
    if path.is_file() or not (path.is_dir() or any(c in str(path) for c in "*?[")):
        return [path]  # whatever it is: what cannot be read is told when it is opened
    try:
        there = path.iterdir() if path.is_dir() else Path(path.anchor or ".").glob(str(path.relative_to(path.anchor)))
        found = [p for p in there if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".")]
    except (ValueError, OSError) as error:
        raise ConfigError(f"input={path}: the pattern cannot be used: {error}.") from error
    if not found:
        raise DataError(f"input={path}: there is no image; its name must end in {', '.join(sorted(IMAGE_SUFFIXES))}.")
    return sorted(found, key=lambda p: natural(str(p)))


def _from_file(
    path: Path, checkpoint: Path, spec: DatasetSpec, window: Window | None, trusted_modules: Collection[str]
) -> Picture:
    info, source = read_info(path), spec.inputs[0]
    bands = _recorded_bands(checkpoint, trusted_modules)
    count = len(bands or info.bands)
    if count != len(source.bands) or info.dtype != source.dtype:
        raise ConfigError(
            f"{path} has {count} bands of {info.dtype}, but the model takes {len(source.bands)} of {source.dtype} "
            f"({', '.join(source.bands)})."
        )
    _check_size(path, info, window)
    image, valid = read_image(path, window, bands, source.nodata)
    item = to_item(_name(path.stem, window), image, valid, valid)
    place = info.crs, _moved(info, window), window
    return Picture(item["name"], item["image"][None], item["valid"][None], None, *place)


def _name(stem: str, window: Window | None) -> str:
    return stem if window is None else f"{stem}_{'_'.join(map(str, window))}"


def _recorded_bands(checkpoint: Path, trusted_modules: Collection[str]) -> Sequence[int] | None:
    """Return the numbers of the bands that training read; all where nothing is known."""
    try:
        bands = read_config(run_folder(checkpoint), trusted_modules).dataset.get("bands")
    except RunError:
        return None
    return list(bands) if bands else None


def _check_size(path: Path, info: RasterInfo, window: Window | None) -> None:
    width, height = (info.width, info.height) if window is None else (window.width, window.height)
    if window is not None and not (
        -width < window.col < info.width and -height < window.row < info.height
    ):  # what hangs over the edge is filled, but there must be something
        raise ConfigError(f"window={list(window)} lies outside {path}, which has {info.width} x {info.height} pixels.")
    if width * height > MAX_PIXELS:
        raise ConfigError(
            f"{path} has {width} x {height} pixels, too many at once: name a part of it, such as "
            "window='[0,0,1024,1024]'."
        )


def _moved(info: RasterInfo, window: Window | None) -> tuple[float, ...] | None:
    """Return the geotransform of a window."""
    if info.transform is None or window is None:
        return info.transform
    return tuple(Affine(*info.transform) @ Affine.translation(window.col, window.row))[:6]


def _from_split(cfg: DictConfig, checkpoint: Path, spec: DatasetSpec, window: Window | None) -> Iterator[Picture]:
    datamodule = recorded_datamodule(checkpoint, cfg.dataset, spec, cfg.trusted_modules)
    for sample in datamodule.samples_of(cfg.split):
        info = datamodule.reader.info(sample.image)
        _check_size(sample.image, info, window)
        item = to_item(_name(sample.name, window), *datamodule.reader.read(sample, window))
        truth = torch.where(item["valid"], item["mask"], IGNORE_INDEX)
        place = info.crs, _moved(info, window), window
        yield Picture(item["name"], item["image"][None], item["valid"][None], truth, *place)
