"""Input channels of satseg for mutated files: prediction, server requests, datasets and model files."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
import sys
import tempfile
import traceback
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import rasterio
import torch
from hydra import compose, initialize_config_dir
from mutated_compare import (
    CLASSES,
    WrongError,
    compare_digest,
    compare_image,
    compare_map,
    compare_polygons,
    compare_record,
    compare_weights,
    hashed,
    part_of,
)
from mutated_originals import Kind, write_model
from omegaconf import OmegaConf
from torch import Tensor

Compare = Callable[[], None]
Way = Callable[[Path, Kind], Compare]
FILL, OTHER_FILL = 85, 170  # what memory is filled with for satseg and for the comparison, so that none is read unset
M_PERTURB = -6  # of mallopt in glibc
REPORTED = 8  # of so many datasets one has its report written, pictures and all, which takes longer than the rest
ANSWERS = (200, 400, 408, 413, 415, 422)  # what a server may say to an image; anything else is a fault of its own


class UnclearError(Exception):
    """An error message that is not one line naming the file."""


@dataclass(frozen=True)
class Group:
    """Cases that share a process: one input channel and, for segmentation, one model.

    Attributes:
        channel: The input channel.
        bands: Of the model's images.
        dtype: Of these.
    """

    channel: str
    bands: int = 0
    dtype: str = ""

    @property
    def model(self) -> str:
        """The model's folder."""
        return f"m{self.bands}_{self.dtype}"


CHANNELS: dict[str, tuple[str, ...]] = {
    "image": ("predict", "api", "validate"),
    "mask": ("validate",),
    "band": ("validate",),
    "polygons": ("validate",),
    "model": ("load_model",),
    "run": ("load_model",),
}


def group_of(channel: str, kind: Kind) -> Group:
    """Return the group of a case."""
    return Group(channel, kind.bands, kind.dtype) if channel in ("predict", "api") else Group(channel)


class PixelsAsClasses:
    """An engine that maps each pixel to a hash of its raw values, so that the map shows what was read."""

    name, batch_size = "torch", 1

    def __init__(self, spec: Any) -> None:
        self.spec = spec

    def __call__(self, image: Tensor, valid: Tensor) -> Tensor:
        scores = torch.zeros(len(image), CLASSES, *image.shape[2:])
        for one, own in zip(image.numpy(), scores, strict=True):
            own.scatter_(0, torch.from_numpy(hashed(one))[None], 9.0)
        return scores


def show_pixels() -> None:
    """Use `PixelsAsClasses` for all segmentation in this process."""
    from satseg.predict import models

    models.open_engine = lambda path, network, *options, **more: PixelsAsClasses(network.spec)  # type: ignore[assignment]


def _composed(name: str, *options: str) -> Any:
    from satseg.config import CONFIG_DIR

    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        return compose(name, list(options))


def make_models(work: Path, kinds: Sequence[Kind]) -> None:
    """Write the models for the kinds of images."""
    for kind in kinds:
        if kind.part == "image":
            path = work / "models" / group_of("predict", kind).model / "model.safetensors"
            if not path.exists():
                write_model(path, kind)


class Predict:
    """Channel that segments files as scenes."""

    def __init__(self, work: Path, group: Group, limit_s: float) -> None:
        from satseg.predict.models import open_models

        show_pixels()
        self.pid = os.getpid()
        self._cfg = _composed("predict", f"checkpoint='{work}/models/{group.model}/model.safetensors'", "input=x")
        self._cfg.update({"device": "cpu", "progress": False, "preflight": "warn", "areas": True})
        self._models = open_models(self._cfg)

    def __call__(self, path: Path, kind: Kind) -> Compare:
        from satseg.data.rasters.header import read_info
        from satseg.predict.run import predict_scenes

        info, output = read_info(path), path.parent / "map.tif"
        part = part_of(info.height, info.width)
        more = {"input": str(path), "output": str(output), "window": part and list(part)}
        predict_scenes(OmegaConf.merge(self._cfg, more), self._models)  # type: ignore[arg-type]
        return lambda: compare_map(output, path, kind.bands, part)

    def close(self) -> None:
        """Remove all files."""


class Validate:
    """Channel that validates datasets of four samples, one with the file, and reads it as in training.

    The samples are similar, which is reported as well, so the verdict is whether the file can be used.
    """

    def __init__(self, work: Path, group: Group, limit_s: float) -> None:
        self.pid, self._originals = os.getpid(), work / "originals"
        stack = {f"b{i}": f"images/*_b{i}.tif" for i in range(2)}
        vectors = {"attribute": "class", "outside": "ignore"}
        parts = {"band": {"images": stack}, "polygons": {"masks": "labels/*", "vectors": vectors}}
        dataset = _composed("validate", "dataset=folder").dataset
        self._datasets = {part: OmegaConf.merge(dataset, parts.get(part, {})) for part in CHANNELS}

    def __call__(self, path: Path, kind: Kind) -> Compare:
        from hydra.utils import instantiate

        from satseg.validate.checking import Limits, validate
        from satseg.validate.write import write_validation

        root = path.parent / "dataset"
        own = self._lay_out(root, path, kind)
        cfg = OmegaConf.merge(self._datasets[kind.part], {"root": str(root)})
        validation = validate(instantiate(cfg, _convert_="all"), Limits(), 1, False)
        if zlib.crc32(path.read_bytes()) % REPORTED == 0:
            write_validation(validation, path.parent / "report")
        facts = next((f for f in validation.facts if f.name.startswith("1")), None)
        for fault in facts.faults.values() if facts else ():
            raise fault
        if facts is None:
            self._refuse(validation, own)
        if kind.part == "polygons":
            return lambda: self._compare_polygons(path, validation, facts)
        return self._compared(own, kind, facts)

    @staticmethod
    def _refuse(validation: Any, own: Path) -> None:
        from satseg.errors import DataError

        told = [f for f in validation.findings if any(own.name in text for text in (f.message, *f.files))]
        if not told:
            raise WrongError("left out without a word")
        raise DataError(f"{own}: {told[0].message}")

    @staticmethod
    def _compared(path: Path, kind: Kind, facts: Any) -> Compare:
        from satseg.data.rasters.header import Window, read_info
        from satseg.data.rasters.raster import read_image

        info = read_info(path)
        part = part_of(info.height, info.width)
        image, valid = read_image(path, part and Window(*part))

        def compare() -> None:
            compare_image(path, image, valid, part)
            if kind.part == "image" and part is None:
                if facts.image is None:
                    raise WrongError("neither read nor refused")
                compare_digest(path, facts.image.digest, len(image))

        return compare

    def _compare_polygons(self, path: Path, validation: Any, facts: Any) -> None:
        if facts.mask is None:
            raise WrongError("neither drawn nor refused")
        with rasterio.open(self._originals / "tiff_deflate.tif") as grid:
            compare_polygons(path, validation.scheme.names, dict(facts.mask.known), grid)

    def _lay_out(self, root: Path, path: Path, kind: Kind) -> Path:
        """Write the dataset; return the path of the file in it."""
        images, masks = root / "images", root / ("labels" if kind.part == "polygons" else "masks")
        images.mkdir(parents=True)
        masks.mkdir()
        whole, place = self._originals / path.name, path
        for number in range(4):
            own = path if number == 1 else whole
            parts = {images: self._originals / "tiff_deflate.tif", masks: self._originals / "mask_png.png"}
            if kind.part == "band":
                del parts[images]
                shutil.copy(whole, images / f"{number}_b0.tif")
                target = Path(shutil.copy(own, images / f"{number}_b1.tif"))
            else:
                folder = images if kind.part == "image" else masks
                del parts[folder]
                target = Path(shutil.copy(own, folder / f"{number}{own.suffix}"))
            for folder, source in parts.items():
                shutil.copy(source, folder / f"{number}{source.suffix}")
            place = target if number == 1 else place
        return place

    def close(self) -> None:
        """Remove all files."""


class LoadModel:
    """Channel that opens files as trained models, or as run records."""

    PLACES: ClassVar = {
        "model": "model.safetensors",
        "ckpt": "last.ckpt",
        "config": "config.yaml",
        "summary": "summary.json",
    }

    def __init__(self, work: Path, group: Group, limit_s: float) -> None:
        self.pid, self._run = os.getpid(), work / "originals" / "run"

    def __call__(self, path: Path, kind: Kind) -> Compare:
        from satseg.models.checkpoint import load_model
        from satseg.records.config import read_config
        from satseg.runs import read_summary
        from satseg.runs.documents import read_json

        run = path.parent / "run"
        shutil.copytree(self._run, run)
        own = Path(shutil.copy(path, run / self.PLACES[kind.name]))
        if kind.name == "config":
            config = OmegaConf.to_container(read_config(run))
            return lambda: compare_record(config, OmegaConf.to_container(OmegaConf.load(own)))
        if kind.name == "summary":
            summary = read_summary(run)
            return lambda: compare_record(summary, read_json(own))
        network = load_model(run if kind.name == "model" else own)
        return lambda: compare_weights(own, network.state_dict())

    def close(self) -> None:
        """Remove all files."""


class Api:
    """Channel that sends files to a running server with `PixelsAsClasses`."""

    def __init__(self, work: Path, group: Group, limit_s: float) -> None:
        self._limit_s, self._log = limit_s, work / f"server_{group.model}.log"
        model, jobs = work / "models" / group.model / "model.safetensors", work / "jobs" / group.model
        options = ["serve", f"checkpoint={model}", "port=0", "engine=torch", "device=cpu", f"jobs_dir={jobs}"]
        script = str(Path(__file__).with_name("mutated_files.py"))
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, script, *options], stdout=subprocess.PIPE, stderr=log, text=True, cwd=work
            )
        self.pid = self.process.pid
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not (found := re.search(r"http://[^\s;]+", line)):
            raise RuntimeError(f"the server did not start: {self._log.read_text()[-1000:]}")
        self._address = found[0]

    def __call__(self, path: Path, kind: Kind) -> Compare:
        import httpx

        from satseg.errors import SatsegError

        logged = self._log.stat().st_size
        options = {"preflight": "warn", "name": path.name}
        try:
            response = httpx.post(
                f"{self._address}/api/v1/predict",
                params=options,
                headers={"Accept": "image/tiff"},
                content=path.read_bytes(),
                timeout=self._limit_s,
            )
        except httpx.TimeoutException as error:
            raise TimeoutError from error
        except httpx.HTTPError as error:
            raise ConnectionError(f"{type(error).__name__}: {error}") from error
        if "Traceback" in (said := self._log.read_text()[logged:]) or response.status_code not in ANSWERS:
            raise RuntimeError(f"{response.status_code}: {response.text[:200]} {said[-2000:]}")
        if response.status_code != 200:
            raise SatsegError(response.json()["detail"])
        answer = path.parent / "answer.tif"
        answer.write_bytes(response.content)
        return lambda: compare_map(answer, path, kind.bands)

    def close(self) -> None:
        """Stop the server."""
        self.process.terminate()
        self.process.wait(30)


WAYS: dict[str, type[Predict | Validate | LoadModel | Api]] = {
    "predict": Predict,
    "validate": Validate,
    "load_model": LoadModel,
    "api": Api,
}


def use_in(way: Any, path: Path, kind: Kind) -> dict[str, Any]:
    """Pass a file to satseg; return the verdict, its reason, and the memory in bytes.

    These are the most that the process that does satseg's work had meanwhile, without the comparison, and how much more
    that is than before.
    """
    found: dict[str, Any] = {"verdict": "crash", "reason": "", "peak": 0, "added": 0}
    verdict, reason = _judged(way, path, kind, found)
    return found | {"verdict": verdict, "reason": reason}


def _judged(way: Any, path: Path, kind: Kind, memory: dict[str, Any]) -> tuple[str, str]:
    from satseg.cli import describe
    from satseg.errors import SatsegError

    try:
        before = peak_bytes(way.pid, reset=True)
        try:
            with _quiet():
                compare = way(path, kind)
        finally:
            memory["peak"] = peak_bytes(way.pid)
            memory["added"] = memory["peak"] - before
        _fill_memory(OTHER_FILL)
        compare()
    except SatsegError as error:
        said = describe(error) or ""
        clear = "\n" not in str(error).strip() and path.suffix in said and len(said) < 1000
        return ("refused", type(error).__name__) if clear else ("unclear", said)
    except WrongError as error:
        return "wrong", str(error)
    except TimeoutError:
        return "hang", ""
    except (ConnectionError, ProcessLookupError, FileNotFoundError) as error:
        if isinstance(error, FileNotFoundError) and Path(f"/proc/{way.pid}").exists():
            return "traceback", traceback.format_exc()
        return "crash", str(error)
    except Exception:
        return "traceback", traceback.format_exc()
    finally:
        _fill_memory(FILL)
    return "accepted", ""


def _fill_memory(value: int) -> None:
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # only glibc has it
    if mallopt:
        mallopt(M_PERTURB, value)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what is said on standard error, also by libraries in C, out of the terminal; a traceback in it is raised."""
    with tempfile.TemporaryFile() as said:
        kept = os.dup(2)
        os.dup2(said.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
        said.seek(0)
        if b"Traceback" in (text := said.read()):
            raise RuntimeError(text.decode(errors="replace")[-3000:])


def peak_bytes(pid: int, reset: bool = False) -> int:
    """Return the peak memory of a process since the last reset."""
    if reset:
        Path(f"/proc/{pid}/clear_refs").write_text("5")
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) * 1024 if found else 0
