"""Samples of a dataset, each an image and its mask, and errors of single files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from satseg.data.rasters.header import Window
from satseg.errors import ConfigError, DataError, SatsegError

FileGuard = Callable[[Path], AbstractContextManager[object]]


@dataclass(frozen=True)
class Sample:
    """One image, or a part of one, and its mask.

    Attributes:
        name: Unique within the dataset, and the same on every machine.
        image: File of the image.
        mask: File of the mask.
        band_files: The user's own files, if the image is a stack of them.
        window: The part of the image; all of it by default.
        label_files: The user's own files, if the mask is rasterized from polygons.
    """

    name: str
    image: Path
    mask: Path
    band_files: tuple[Path, ...] = ()
    window: Window | None = None
    label_files: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        for name in ("image", "mask"):  # users may give texts
            if isinstance(getattr(self, name), str):
                object.__setattr__(self, name, Path(getattr(self, name)))

    @property
    def file(self) -> Path:
        """The user's own file of the image; the first one of a stack."""
        return self.band_files[0] if self.band_files else self.image

    @property
    def mask_file(self) -> Path:
        """The user's own file of the mask."""
        return self.label_files[0] if self.label_files else self.mask

    def by_file(self) -> list[Sample]:
        """Return one sample per pair of the user's own image and mask files, with the same name and window."""
        images, masks = self.band_files or (self.image,), self.label_files or (self.mask,)
        return [Sample(self.name, image, mask, (), self.window) for mask in masks for image in images]

    def part(self, window: Window) -> Sample:
        """Return the sample of a window of this one, named after both."""
        return replace(self, name=f"{self.name}_{'_'.join(map(str, window))}", window=window)


@dataclass(frozen=True)
class Pairs:
    """Samples of a dataset, and the files that form none.

    Attributes:
        samples: Images with their masks.
        unpaired: Files that lack their partner, by kind: `image`, `mask`.
        faults: Files that cannot be used, with the error.
    """

    samples: list[Sample]
    unpaired: Mapping[str, Sequence[Path]] = field(default_factory=dict)
    faults: Sequence[tuple[Path, SatsegError]] = ()


class FileErrors:
    """Raise errors of files at once, or collect them and leave the files out."""

    def __init__(self) -> None:
        self.collected: list[tuple[Path, SatsegError]] | None = None

    def collect(self) -> None:
        """Collect errors from now on instead of raising them."""
        self.collected = self.collected or []

    @contextmanager
    def guard(self, file: Path) -> Iterator[None]:
        """Context in which a file is processed.

        Raises:
            SatsegError: As the block; a DataError or ConfigError only while errors are not collected.
        """
        try:
            yield
        except (DataError, ConfigError) as error:
            if self.collected is None:
                raise
            self.collected.append((file, error))

    def raise_first(self) -> None:
        """Raise the first collected error, if any; for callers left without a usable file."""
        if self.collected:
            raise self.collected[0][1]
