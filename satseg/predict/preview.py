"""Preview image of a scene and its map."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from satseg.inference.reading import SceneSource
from satseg.mapping.classmap import INVALID, open_class_map
from satseg.spec import DatasetSpec
from satseg.visualization.display import to_rgb
from satseg.visualization.figures import plot_map

MAX_SIDE = 1024  # pixels


def write_preview(name: str, scene: SceneSource, output: Path, spec: DatasetSpec, path: Path) -> None:
    """Draw a scene beside its finished map.

    Args:
        name: Name of the scene.
        scene: The scene.
        output: The map.
        spec: Spec of the model.
        path: Output file, a PNG.
    """
    with scene.open() as reader:
        image, valid = reader.thumbnail(MAX_SIDE)
    with open_class_map(output, spec.num_classes) as opened:
        found = opened.classes(opened.source.read(1, out_shape=valid.shape))
    classes = np.where(found == INVALID, spec.ignore_index, found)
    rgb = to_rgb(torch.from_numpy(image), torch.from_numpy(valid), spec)
    plot_map(name, rgb, classes, spec.class_names, spec.palette, path)
