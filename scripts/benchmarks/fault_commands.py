"""Commands under test for fault injection, on tiny data, and their reference runs."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import rasterio
from fault_files import contents
from fault_processes import OUT, Mark, Process, start
from kill_and_resume import OPTIONS  # found by fault_processes

SCENE = 1152
DATA = [option for option in OPTIONS if option.startswith("dataset")]

MARKS: dict[str, list[Mark]] = {
    "train": [
        Mark("measuring data", "satseg.train.build:build_datamodule"),
        Mark("before the first batch", "satseg.train.task:SegmentationTask.configure_optimizers"),
        Mark("mid epoch", "satseg.train.task:SegmentationTask.training_step"),
        Mark("validation", "satseg.train.task:SegmentationTask.validation_step"),
        Mark("final scoring", "satseg.train.finish:report_split"),
        Mark("report", "satseg.train.finish:report_run"),
    ],
    "predict": [
        Mark("inspecting", "satseg.predict.models:Models.inspect"),
        Mark("strips", "satseg.inference.scene:Sink.take"),
        Mark("finishing rasters", "satseg.inference.scene:publish"),
        Mark("vectors", "satseg.predict.one_scene:write_vectors"),
    ],
    "evaluate": [Mark("scoring", "satseg.evaluate.report:report_split")],
    "validate": [
        Mark("scanning", "satseg.validate.checking:validate"),
        Mark("report", "satseg.validate.write:write_validation"),
    ],
    "export": [
        Mark("writing", "satseg.runtimes.writing:write_torchscript"),
        Mark("checking", "satseg.runtimes.writing:open_exported"),
    ],
    "explain": [Mark("explaining", "satseg.explain.maps:explain_pictures")],
    "serve": [],
}


@dataclass
class Reference:
    """Result of a command without faults.

    Attributes:
        seconds: Its duration.
        marks: Its phases, and when each starts.
        lines: Its stderr, without numbers.
        contents: Digests of its output, see `fault_files.contents`.
    """

    seconds: float
    marks: list[tuple[str, float]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    contents: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Commands:
    """Commands on one model and one scene.

    Attributes:
        work: Folder of all files.
    """

    work: Path

    @property
    def cache(self) -> Path:
        """The satseg cache, which contains the data."""
        return self.work / "cache"

    @property
    def model(self) -> Path:
        """A trained run."""
        return self.work / "reference" / "train" / OUT

    def options(self, command: str) -> list[str]:
        """Return a command's options."""
        loading = [f"checkpoint={self.model}", "device=cpu"]
        match command:
            case "train":
                short = ["trainer.max_epochs=2", "dataset.patches_per_epoch=12", "dataset.num_workers=2"]
                return [*OPTIONS, *short, f"run_dir={OUT}"]
            case "predict":
                many = ["probabilities=all", "vectors=gpkg", "window_size=384", "engine=torch", "progress=false"]
                return [*loading, f"input={self.scene()}", f"output={OUT}/map.tif", *many]
            case "evaluate":
                return [*loading, "split=test", "dataset.num_workers=2", f"output={OUT}"]
            case "validate":
                return [*DATA[:3], "workers=1", "progress=false", f"output={OUT}"]
            case "export":
                return [loading[0], "format=torchscript", f"output={OUT}/model"]
            case "explain":
                return [*loading, "split=test", "target=all", f"output={OUT}"]
            case _:
                return [*loading, "engine=torch", "port=0", f"jobs_dir={OUT}"]

    def start(self, command: str, folder: Path, name: str = "first", options: list[str] | None = None) -> Process:
        """Start a command in a folder; `name` identifies it there."""
        return start(command, options or self.options(command), folder, name, self.cache, MARKS[command])

    def scene(self) -> Path:
        """Return a scene of 1.3 megapixels in several rows of windows, created if it is missing."""
        path = self.work / "scene.tif"
        if not path.exists():
            coarse = np.random.default_rng(0).integers(20, 235, (3, SCENE // 32, SCENE // 32), np.uint8)
            profile = {"driver": "GTiff", "width": SCENE, "height": SCENE, "count": 3, "dtype": "uint8", "tiled": True}
            place = {"crs": "EPSG:32633", "transform": rasterio.Affine(0.5, 0, 400_000, 0, -0.5, 5_800_000)}
            with rasterio.open(path, "w", **profile, **place) as target:
                target.write(coarse.repeat(32, 1).repeat(32, 2))
        return path

    def reference(self, command: str) -> Reference:
        """Run a command without faults, once for all trials.

        Raises:
            RuntimeError: If it fails.
        """
        folder = self.work / "reference" / command
        record = folder.with_name(f"{command}.json")
        if record.exists():
            return Reference(**json.loads(record.read_text()))
        if command not in ("train", "validate"):
            self.reference("train")
        process = self.start(command, folder)
        if process.wait() != 0:
            raise RuntimeError(f"satseg.{command} fails without faults:\n{process.stderr()}")
        found = Reference(process.seconds, process.marks(), lines(process.stderr()), contents(folder / OUT))
        record.write_text(json.dumps(asdict(found), indent=1))
        return found


def lines(text: str) -> list[str]:
    """Return lines without numbers and folder names, so that two runs can be compared."""
    stripped = (re.sub(r"\S*/\S*|[-+0-9.]+(e[-+]\d+)?|nan", "#", line).strip() for line in text.splitlines())
    return [line for line in dict.fromkeys(stripped) if line]
