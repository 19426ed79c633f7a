"""Datamodule of a user's own folder of images and masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast

from satseg.data.datamodule import SegmentationDataModule
from satseg.data.labels.class_options import describe_found_classes
from satseg.data.labels.discovery import ClassScheme, discover_scheme, scheme_from_config
from satseg.data.labels.polygon_classes import ClassOptions
from satseg.data.labels.polygons import Polygons, read_polygons
from satseg.data.layouts.recognition import recognise
from satseg.data.loading_options import NO_ROOT
from satseg.data.pairing.files import check_all_paired, find_files, find_unpaired, find_vectors, pair
from satseg.data.pairing.stacks import find_stack_files, stack_sample
from satseg.data.rasters.stacks import Stack, check_complete
from satseg.data.samples import FileErrors, Pairs, Sample
from satseg.errors import ConfigError, DataError
from satseg.spec import IGNORE_INDEX


class FolderDataModule(SegmentationDataModule):
    """Images and masks below one folder, paired by name.

    Args:
        root: The folder.
        images: Glob pattern of the images below it, in which `{train,val}` matches either; or one pattern per band, if
            bands are separate files. By default recognised from the names of folders; see `recognise`.
        masks: Glob pattern of the masks: rasters, or files of polygons; a single file of polygons serves all images.
        image_suffix: Ending of image names that mask names lack; detected if images or masks are recognised.
        mask_suffix: Ending of mask names that image names lack; likewise.
        classes: Names, or names with values or colours; by default discovered from the masks. For polygons, values of
            an attribute.
        mask_values: Further values, each with the name of its class (or `ignore`).
        mask_threshold: For colour masks, or grey ones of 0 and 255: a channel is 0 below it and 255 from it on.
        vectors: For polygons: the `attribute` that holds the class (none if all are of one class), `outside`, the class
            of pixels in no polygon or `ignore`, and the `layer` if files have several.
        unpaired: What to do with images without a mask and masks without an image: `refuse` or `leave_out`.
        loading: Further options of `SegmentationDataModule`.
    """

    def __init__(
        self,
        root: str | Path | None = None,
        *,
        images: str | Mapping[str, str] | None = None,
        masks: str | None = None,
        image_suffix: str = "",
        mask_suffix: str = "",
        classes: Sequence[Any] | Mapping[str, Any] | None = None,
        mask_values: Mapping[int, Any] | None = None,
        mask_threshold: int | None = None,
        vectors: Mapping[str, str | None] | None = None,
        unpaired: Literal["refuse", "leave_out"] = "refuse",
        **loading: Any,
    ) -> None:
        super().__init__(**loading)
        if root is None:
            raise ConfigError(NO_ROOT)
        self.root = Path(root)
        if image_suffix and isinstance(images, Mapping):
            raise ConfigError(
                f"dataset.image_suffix={image_suffix}: leave it out where dataset.images names a pattern for each band."
            )
        if unpaired not in ("refuse", "leave_out"):
            raise ConfigError(f"dataset.unpaired={unpaired}: expected refuse or leave_out.")
        unknown = set(vectors or ()) - {"attribute", "outside", "layer"}
        if unknown:
            raise ConfigError(f"dataset.vectors.{min(unknown)}: expected attribute, outside or layer.")
        if images is None or masks is None:
            layout = recognise(self.root, images, masks, image_suffix, mask_suffix)
            self.root, images, masks = layout.root, images or layout.images, masks or layout.masks
            image_suffix, mask_suffix = layout.image_suffix, layout.mask_suffix
            self.assumptions.append(layout.summary())
        self.images, self.masks, self.vectors = images, masks, dict(vectors or {})
        self.image_suffix, self.mask_suffix = image_suffix, mask_suffix
        self.classes, self.mask_values = classes, mask_values
        self.mask_threshold, self.unpaired = mask_threshold, unpaired
        self._errors = FileErrors()

    @cached_property
    def _files(self) -> tuple[Sequence[Stack], dict[str, dict[str, Path]]]:
        """Stacks, if bands are separate files; and the files by kind and name."""
        self._check_class_options()
        if isinstance(self.images, str):
            return (), find_files(self.root, self.images, self.masks, self.image_suffix, self.mask_suffix)
        return find_stack_files(self.root, self.images, self.masks, self.mask_suffix)

    @cached_property
    def _samples(self) -> list[Sample]:
        """All pairs; polygon labels are rasterized to masks."""
        stacks, found = self._files
        if self.unpaired == "leave_out":
            self._report_unpaired()
        samples = pair(found) if isinstance(self.images, str) else self._stacked(stacks, found["mask"])
        if self._polygons:
            samples = self._polygons.rasterize(samples, self._errors.guard)
            self.assumptions += self._polygons.remarks()
        if not samples:
            self._errors.raise_first()
        return samples

    def _stacked(self, stacks: Sequence[Stack], masks: Mapping[str, Path]) -> list[Sample]:
        """Return samples of the stacks that have a mask, in order."""
        samples = []
        for stack in stacks:
            with self._errors.guard(Path(next(iter(stack.files.values())))):
                check_complete(stack, cast(Mapping[str, str], self.images))
                if stack.name in masks:
                    samples.append(stack_sample(stack, masks[stack.name], self.nodata))
        return samples

    def _check_class_options(self) -> None:
        if not self.finds_classes:
            return
        for name in ("mask_values", "ignore_values", "mask_threshold"):
            if getattr(self, name):
                raise ConfigError(
                    f"dataset.{name} needs dataset.classes, too: without them each value that a mask holds is a class."
                )

    @cached_property
    def _polygons(self) -> Polygons | None:
        files = find_vectors(self.root, self.masks, self.mask_suffix)
        if not files:
            return None
        options = self.classes, self.mask_values, self.ignore_values
        classes = ClassOptions(self.vectors.get("attribute"), self.vectors.get("outside"), *options)
        try:
            found = read_polygons(files, self.vectors.get("layer"), classes, self._errors.guard)
        except DataError:
            self._errors.raise_first()  # the cause, if too few files are left
            raise
        if self.classes is None:
            self.assumptions.append(found.classes.describe(files))
        return found

    def samples(self) -> list[Sample]:
        """Find all pairs."""
        if self._errors.collected is None:
            for stack in self._files[0]:
                check_complete(stack, cast(Mapping[str, str], self.images))
        if self.unpaired == "refuse":
            patterns = {"mask": self.masks} | ({"image": self.images} if isinstance(self.images, str) else {})
            check_all_paired(self.root, self._files[1], patterns)
        return self._samples

    def _report_unpaired(self) -> None:
        for kind, files in find_unpaired(self.root, self._files[1]).items():
            if files:
                other = "a mask" if kind == "image" else "an image"
                self.assumptions.append(f"{len(files)} {kind}s without {other} are left out (dataset.unpaired)")

    def paired(self) -> Pairs:
        """Return the pairs and the files that form none; from now on errors of single files are collected."""
        self._errors.collect()
        unpaired = find_unpaired(self.root, self._files[1]) if self.unpaired == "refuse" else {}
        return Pairs(self._samples, unpaired, self._errors.collected or [])

    @property
    def finds_classes(self) -> bool:
        """Whether classes are discovered from the masks."""
        return self.classes is None and not self._polygons

    def scheme(self) -> ClassScheme:
        """Return the classes as configured, or as discovered from the masks."""
        if self._polygons:
            return self._polygons.scheme
        if self.classes is not None:
            return scheme_from_config(self.classes, self.mask_values, self.ignore_values, self.mask_threshold)
        scheme = discover_scheme(s.mask for s in self.samples())
        images = self.images if isinstance(self.images, str) else ", ".join(self.images.values())
        self.assumptions += [
            f"{len(self.samples())} pairs of {images} and {self.masks} below {self.root}",
            describe_found_classes(scheme),
        ]
        ignored = [scheme.show(value) for value, index in sorted(scheme.values.items()) if index == IGNORE_INDEX]
        if ignored:
            self.assumptions.append(
                f"mask {'colour' if scheme.by_colour else 'value'} {', '.join(ignored)} is no class and is ignored "
                "(dataset.classes names them)"
            )
        return scheme
