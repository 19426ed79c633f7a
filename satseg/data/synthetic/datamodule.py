"""Datamodule of the synthetic dataset: scenes generated once, then read like any folder."""

from __future__ import annotations

import hashlib
import logging
from functools import cached_property
from pathlib import Path
from typing import Any

from satseg.data.folder import FolderDataModule
from satseg.data.labels.discovery import ClassScheme
from satseg.data.samples import Pairs
from satseg.data.synthetic.layout import CLASS_NAMES, PALETTE
from satseg.data.synthetic.scene import Bands, make_scene, write_scene
from satseg.errors import ConfigError, ResourceError, SatsegError
from satseg.files import cache_folder, temporary_folder
from satseg.spec import IGNORE_INDEX

logger = logging.getLogger(__name__)

MAX_SIZE = 2048  # such a scene takes 2 GB of memory to generate
MAX_PIXELS = 2**30  # 4 GB on disk
VERSION = 1  # of the generator; a new one generates other scenes in another folder


class SyntheticDataModule(FolderDataModule):
    """Land-cover scenes with pixel-aligned masks.

    Args:
        seed: Seed of the scenes.
        scenes: Number of scenes by split.
        size: Edge of a scene in pixels.
        channels: `rgb` (uint8) or `multispectral` (six bands, uint16).
        cache_dir: Folder of the scenes; the user's cache folder by default.
        loading: Further options of `SegmentationDataModule`.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        scenes: dict[str, int],
        size: int = 512,
        channels: Bands = "rgb",
        cache_dir: str | Path | None = None,
        **loading: Any,
    ) -> None:
        if channels not in ("rgb", "multispectral"):
            raise ConfigError(f"dataset.channels={channels}: choose rgb or multispectral.")
        if size < 128:
            raise ConfigError(f"dataset.size={size}: a scene needs at least 128 pixels.")
        total = sum(scenes.values()) * size**2
        if size > MAX_SIZE or total > MAX_PIXELS:
            raise ConfigError(
                f"dataset.size={size}, dataset.scenes={dict(scenes)}: scenes have at most {MAX_SIZE} pixels a side, "
                f"and together {MAX_PIXELS / 1e6:.0f} megapixels; make them smaller or fewer."
            )
        self.seed, self.scenes, self.size, self.channels = seed, dict(scenes), size, channels
        cache = cache_folder() if cache_dir is None else Path(cache_dir)
        super().__init__(cache / self._key(), images="*/images/*.tif", masks="*/masks/*.tif", **loading)

    def _key(self) -> str:
        parameters = (VERSION, self.seed, sorted(self.scenes.items()), self.size, self.channels)
        return f"synthetic-{hashlib.sha256(repr(parameters).encode()).hexdigest()[:12]}"

    @cached_property
    def _generated(self) -> Path:
        """The dataset's folder, generated if missing; an existing one is always complete."""
        if not self.root.is_dir():
            try:
                with temporary_folder(self.root.parent) as folder:
                    self._write(folder / self.root.name)
                    (folder / self.root.name).rename(self.root)
            except (OSError, SatsegError) as error:
                if not self.root.is_dir():  # unless another process was faster
                    raise ResourceError(
                        f"The scenes cannot be written to {self.root} ({error}); set dataset.cache_dir."
                    ) from error
        return self.root

    def _write(self, folder: Path) -> None:
        total = sum(self.scenes.values())
        logger.info("Generating %d scenes in %s", total, self.root)
        for row, (split, count) in enumerate(sorted(self.scenes.items())):
            for number in range(count):
                name = f"scene_{number:02d}.tif"
                image, mask = (folder / split / kind / name for kind in ("images", "masks"))
                scene = make_scene((self.seed, row, number), self.size)
                write_scene(scene, image, mask, self.channels, (number, row))

    def samples(self) -> list[Any]:
        """Find the scenes, generating them if missing."""
        _ = self._generated
        return super().samples()

    def paired(self) -> Pairs:
        """Return the scenes, generated if missing; all are paired."""
        return Pairs(self.samples())

    @property
    def finds_classes(self) -> bool:
        """Always False: the generator names the classes."""
        return False

    def scheme(self) -> ClassScheme:
        """Return the classes of the generator."""
        values = {i: i for i in range(len(CLASS_NAMES))} | {IGNORE_INDEX: IGNORE_INDEX}
        return ClassScheme(CLASS_NAMES, PALETTE, values)
