"""Example images for a model: from its test split, else a generated scene."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from omegaconf import OmegaConf
from PIL import Image

from satseg.data.rasters.inputs import source_name
from satseg.data.synthetic.scene import Bands, make_scene, write_scene
from satseg.errors import SatsegError
from satseg.predict.assemble import source_of
from satseg.records.dataset import recorded_datamodule
from satseg.serve.page.views import picture_of
from satseg.serve.served_models import ServedModel
from satseg.serve.uploads import SUFFIXES

COUNT = 4
PICTURES = "examples"  # folder name
SIDE = 256  # pixels of a thumbnail
GENERATED: dict[tuple[int, str], Bands] = {(3, "uint8"): "rgb", (6, "uint16"): "multispectral"}
SCENE = ((7,), 512)  # seed and size


@dataclass(frozen=True)
class Example:
    """An example image.

    Attributes:
        path: The file.
        name: Caption.
        thumbnail: A thumbnail of it.
    """

    path: Path
    name: str
    thumbnail: Path


def find_examples(served: ServedModel, folder: Path) -> list[Example]:
    """Return images of the model's test split if the data exist, else a generated scene if one fits the model.

    Args:
        served: The model.
        folder: Folder for generated files.
    """
    pictures, found = folder / PICTURES, []
    pictures.mkdir(parents=True, exist_ok=True)
    for path in _tested(served) or _generated(served, folder):
        try:
            found.append(_example(served, path, pictures))
        except SatsegError:  # skip damaged examples
            continue
    return found


def _tested(served: ServedModel) -> Sequence[Path]:
    checkpoint = served.models.checkpoints[0]
    try:
        datamodule = recorded_datamodule(checkpoint, OmegaConf.create({}), served.spec, served.cfg.trusted_modules)
        samples = datamodule.samples_of("test")
    except SatsegError:  # no run folder, or the data are elsewhere
        return []
    whole = [Path(sample.image) for sample in samples if sample.window is None]  # not partly trained on
    paths = [path for path in whole if path.suffix.lower() in _SUFFIXES]
    return paths[:: max(1, len(paths) // COUNT)][:COUNT]


_SUFFIXES = {*SUFFIXES.values(), ".tiff", ".jpeg"}


def _generated(served: ServedModel, folder: Path) -> Iterator[Path]:
    inputs = served.spec.inputs[0]
    bands = GENERATED.get((len(inputs.bands), inputs.dtype))
    if bands is not None:
        path = folder / f"scene_{bands}.tif"
        if not path.exists():
            write_scene(make_scene(*SCENE), path, folder / "mask.tif", bands, (0, 0))
        yield path


def _example(served: ServedModel, path: Path, pictures: Path) -> Example:
    scene = source_of(served.cfg, served.models, path)
    scene = replace(scene, bands=scene.info.bands)
    with scene.open() as reader:
        image, valid = reader.thumbnail(SIDE)
    thumbnail = pictures / f"{secrets.token_hex(8)}.png"
    Image.fromarray(picture_of(scene.info, image, valid)).save(thumbnail)
    return Example(path, source_name(path), thumbnail)
