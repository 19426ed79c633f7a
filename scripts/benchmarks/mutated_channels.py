"""Giving a changed file to satseg, in this process or over HTTP, and comparing what it read with rasterio's pixels."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import traceback
import warnings
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from hydra import compose, initialize_config_dir
from mutated_originals import KINDS, Kind, write_model
from omegaconf import OmegaConf
from torch import Tensor

CLASSES = 7
LARGEST_PIXELS = 20_000_000  # that a changed header may claim for a whole map of it to be made here


class PixelsAsClasses:
    """An engine whose class of each pixel is a hash of that pixel's raw numbers alone: the map shows what was read."""

    name, batch_size = "torch", 1

    def __init__(self, spec: Any) -> None:
        self.spec = spec

    def __call__(self, image: Tensor, valid: Tensor) -> Tensor:
        classes = torch.from_numpy(np.stack([hashed(one) for one in image.numpy()]))
        return 9.0 * torch.nn.functional.one_hot(classes, CLASSES).movedim(-1, 1).float()


def hashed(image: np.ndarray) -> np.ndarray:
    """Return the class (h, w) of raw numbers (C, h, w)."""
    bits = np.ascontiguousarray(image.astype(np.float32)).view(np.uint32).astype(np.uint64)
    weights = (np.uint64(2_654_435_761) * np.arange(1, len(bits) + 1, dtype=np.uint64)).reshape(-1, 1, 1)
    return ((bits * weights).sum(0) >> np.uint64(9)).astype(np.int64) % CLASSES


def show_pixels() -> None:
    """Let all of satseg in this process segment by `PixelsAsClasses`."""
    from satseg.predicting import models

    models.open_engine = lambda path, network, *options, **more: PixelsAsClasses(network.spec)  # type: ignore[assignment]


class WrongError(Exception):
    """Something was read that is not what rasterio reads."""


def compare_map(found: np.ndarray, nodata: Any, path: Path, bands: int) -> None:
    """Compare a map by `PixelsAsClasses` with the file.

    Raises:
        WrongError: If a pixel has the class of other numbers, or is left out without a reason in the file.
    """
    image, missing = _read(path, bands)
    if found.shape != image.shape[1:]:
        raise WrongError(f"map of {found.shape}, raster of {image.shape[1:]}")
    left_out = found == nodata
    if wrong := int((~left_out & (found != hashed(image))).sum()):
        raise WrongError(f"{wrong} pixels of other numbers")
    if lost := int((left_out & ~missing).sum()):
        raise WrongError(f"{lost} pixels left out")


def compare_pixels(path: Path) -> None:
    """Compare `read_image` with rasterio.

    Raises:
        WrongError: If a pixel differs.
    """
    from satseg.data.raster import read_image, read_info

    info = read_info(path)
    if info.height * info.width > LARGEST_PIXELS:
        return
    image, valid = read_image(path)
    expected, missing = _read(path, len(image))
    if image.dtype != expected.dtype or not np.array_equal(image, expected, equal_nan=image.dtype.kind == "f"):
        raise WrongError("pixels of other numbers")
    if (~valid & ~missing).any():
        raise WrongError("pixels left out")


def _read(path: Path, bands: int) -> tuple[np.ndarray, np.ndarray]:
    """Return what rasterio reads (C, h, w), and where something in the file says that nothing is (h, w)."""
    try:
        with rasterio.open(path) as file:
            image = file.read(list(range(1, bands + 1)))
            missing = (file.read_masks(1) == 0) | ~np.isfinite(image).all(0)
            if file.nodata is not None:
                missing |= (image == file.nodata).any(0)
    except rasterio.errors.RasterioError as error:
        raise WrongError(f"rasterio refuses it: {' '.join(str(error).split())[:120]}") from error
    return image, missing


@cache
def _predicting(bands: int, dtype: str, work: Path) -> tuple[Any, Any]:
    from satseg.config import CONFIG_DIR
    from satseg.predicting import open_models

    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        cfg = compose("predict", [f"checkpoint='{model_for(bands, dtype, work)}'", "input=x", "device=cpu"])
    cfg.progress, cfg.preflight = False, "warn"
    return cfg, open_models(cfg)


def model_for(bands: int, dtype: str, work: Path) -> Path:
    """Return the model that takes images of so many bands and a type."""
    return work / "models" / f"m{bands}_{dtype}" / "model.safetensors"


def make_models(work: Path) -> list[Path]:
    """Write the models of all kinds of images."""
    pairs = {(kind.bands, kind.dtype): kind for kind in KINDS if kind.part == "image"}
    return [write_model(model_for(*pair, work), kind) for pair, kind in pairs.items()]


def predict(path: Path, kind: Kind, work: Path) -> None:
    """Segment the file as a scene."""
    from satseg.data.raster import read_info, read_window
    from satseg.predicting import predict_scenes

    cfg, models = _predicting(kind.bands, kind.dtype, work)
    if (info := read_info(path)).height * info.width > LARGEST_PIXELS:
        read_window(path, (0, 0, 64, 64))  # type: ignore[arg-type]
        return
    given = OmegaConf.merge(cfg, {"input": str(path), "output": str(path.parent / "map.tif")})
    predict_scenes(given, models)
    with rasterio.open(path.parent / "map.tif") as file:
        compare_map(file.read(1), file.nodata, path, kind.bands)


@cache
def _datasets() -> dict[str, Any]:
    from satseg.config import CONFIG_DIR

    stack = {f"b{i}": f"images/*_b{i}.tif" for i in range(2)}
    options = {"image": {}, "mask": {}, "band": {"images": stack}}
    options["polygons"] = {"masks": "labels/*", "vectors": {"attribute": "class", "outside": "ignore"}}
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        cfg = compose("validate", ["dataset=folder"])
    return {part: OmegaConf.merge(cfg.dataset, more) for part, more in options.items()}


def check(path: Path, kind: Kind, work: Path) -> None:
    """Validate a dataset of four samples, of which the file belongs to one, and read the file as that is read.

    The samples are alike, which is a finding of its own, so the verdict is whether the file can be read.
    """
    from hydra.utils import instantiate

    from satseg.validation import Limits, validate

    root = path.parent / "dataset"
    originals = work / "originals"
    _lay_out(root, path, kind, originals)
    cfg = OmegaConf.merge(_datasets()[kind.part], {"root": str(root)})
    validate(instantiate(cfg, _convert_="all"), Limits(), 1, False)
    if kind.part in ("image", "mask", "band"):
        compare_pixels(path)


def _lay_out(root: Path, path: Path, kind: Kind, originals: Path) -> None:
    images, masks = root / "images", root / ("labels" if kind.part == "polygons" else "masks")
    images.mkdir(parents=True)
    masks.mkdir()
    whole = originals / path.name
    for number in range(4):
        own = path if number == 1 else whole
        image = own if kind.part == "image" else originals / "tiff_deflate.tif"
        mask = originals / "mask_png.png"
        if kind.part in ("mask", "polygons"):
            mask = own
        if kind.part == "band":
            for band in range(2):
                shutil.copy(own if band else whole, images / f"{number}_b{band}.tif")
        else:
            shutil.copy(image, images / f"{number}{image.suffix}")
        shutil.copy(mask, masks / f"{number}{mask.suffix}")


def load(path: Path, kind: Kind, work: Path) -> None:
    """Open the file as a trained model, or as what stands beside one."""
    from satseg.checkpoint import load_model
    from satseg.runs import find_complete, read_config

    run = path.parent / "run"
    shutil.copytree(work / "originals" / "run", run)
    shutil.copy(path, run / {"model": "model.safetensors", "config": "config.yaml"}.get(kind.name, "summary.json"))
    network = load_model(run)
    if kind.name == "config":
        read_config(run)
    if kind.name == "summary":
        find_complete(run, run.parent)
    if kind.name == "model":
        from safetensors.torch import load_file

        stored = load_file(run / "model.safetensors")
        state = network.state_dict()
        if stored.keys() != state.keys() or not all(torch.equal(stored[name], state[name]) for name in stored):
            raise WrongError("other weights than the file's")


class Api:
    """A running server, which segments by `PixelsAsClasses`."""

    def __init__(self, work: Path, limit_s: float) -> None:
        self._limit_s = limit_s
        models = ",".join(str(path) for path in sorted((work / "models").glob("*/*")))
        options = ["serve", f"checkpoint=[{models}]", "port=0", "engine=torch", "device=cpu", f"jobs_dir={work}/jobs"]
        self._log = work / "server.log"
        script = str(Path(__file__).with_name("mutated_files.py"))
        with self._log.open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, script, *options], stdout=subprocess.PIPE, stderr=log, text=True, cwd=work
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        self.address = re.findall(r"http://[^\s;]+", line)[0]

    def __call__(self, path: Path, kind: Kind, work: Path) -> None:
        """Send the file to be segmented."""
        import httpx

        from satseg.errors import SatsegError

        url = f"{self.address}/api/v1/predict"
        options = {"model": model_for(kind.bands, kind.dtype, work).parent.name, "preflight": "warn", "name": path.name}
        headers = {"Accept": "image/tiff"}
        try:
            response = httpx.post(
                url, params=options, headers=headers, content=path.read_bytes(), timeout=self._limit_s
            )
        except httpx.TimeoutException as error:
            raise TimeoutError from error
        except httpx.HTTPError as error:
            raise ConnectionError(f"{type(error).__name__}: {error}") from error
        if response.status_code in (401, 403, 404, 500) or response.status_code > 503:
            raise RuntimeError(f"{response.status_code}: {response.text[:200]}")
        if response.status_code != 200:
            raise SatsegError(response.text)
        answer = path.parent / "answer.tif"
        answer.write_bytes(response.content)
        with rasterio.open(answer) as file:
            compare_map(file.read(1), file.nodata, path, kind.bands)


CHANNELS: dict[str, tuple[str, ...]] = {
    "image": ("predict", "api", "validate"),
    "mask": ("validate",),
    "band": ("validate",),
    "polygons": ("validate",),
    "model": ("load_model",),
    "run": ("load_model",),
}
FUNCTIONS: dict[str, Callable[[Path, Kind, Path], None]] = {"predict": predict, "validate": check, "load_model": load}


def judge(use: Callable[[], None]) -> tuple[str, str]:
    """Give a file to satseg; return the verdict and what it is for."""
    from satseg.errors import SatsegError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            use()
    except SatsegError as error:
        return "refused", type(error).__name__
    except WrongError as error:
        return "wrong", str(error)
    except TimeoutError:
        return "hang", ""
    except ConnectionError as error:
        return "crash", str(error)
    except Exception:
        return "traceback", traceback.format_exc()
    return "accepted", ""


def peak_bytes(pid: int, reset: bool = False) -> int:
    """Return the most memory that a process had since the last reset."""
    if reset:
        Path(f"/proc/{pid}/clear_refs").write_text("5")
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) * 1024 if found else 0


def use_in(channel: str, path: Path, kind: Kind, work: Path, api: Api) -> tuple[str, str, int]:
    """Give a file to satseg by a channel; return the verdict, what it is for, and the bytes of memory it added."""
    function = api if channel == "api" else FUNCTIONS[channel]
    pid = function.process.pid if isinstance(function, Api) else os.getpid()
    before = peak_bytes(pid, reset=True)
    verdict, reason = judge(partial(function, path, kind, work))
    try:
        return verdict, reason, peak_bytes(pid) - before
    except OSError:
        return "crash", "the server is gone", 0
