"""Input channels of satseg for mutated files: prediction, server requests, datasets and model files."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import rasterio
from hydra import compose, initialize_config_dir
from mutated_compare import (
    WrongError,
    compare_digest,
    compare_image,
    compare_map,
    compare_polygons,
    compare_record,
    compare_weights,
    part_of,
)
from mutated_groups import CHANNELS, Group, show_pixels
from mutated_originals import Kind
from omegaconf import OmegaConf

Compare = Callable[[], None]
REPORTED = 8  # one in so many datasets gets a report with figures, which takes longer than the rest
ANSWERS = (200, 400, 408, 413, 415, 422)  # permitted status codes; any other is the server's fault


def _composed(name: str, *options: str) -> Any:
    from satseg.config import CONFIG_DIR

    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        return compose(name, list(options))


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

        found = [f for f in validation.findings if any(own.name in text for text in (f.message, *f.files))]
        if not found:
            raise WrongError("left out without a finding")
        raise DataError(f"{own}: {found[0].message}")

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
        if "Traceback" in (text := self._log.read_text()[logged:]) or response.status_code not in ANSWERS:
            raise RuntimeError(f"{response.status_code}: {response.text[:200]} {text[-2000:]}")
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
